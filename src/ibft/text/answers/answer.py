"""From a model's raw text to its answer, for `ibft generate` and `ibft judge` alike."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec

from ibft.artifacts.rows import Problem, Sample
from ibft.text.answers.completion import cut, until_stop
from ibft.text.answers.loose import looks_like_code
from ibft.text.answers.prompt import Asked, asked
from ibft.text.answers.python import Program, continues, find_program
from ibft.text.answers.syntax import compiles, defines
from ibft.text.answers.turn import has_marks, plain_texts
from ibft.text.answers.verilog import extract_design
from ibft.text.answers.verilog_tokens import tokenize

__all__ = ["Answer", "Form", "extract", "extract_sample", "has_ended"]

Form = Literal["chat", "completion"]
"""How the model was asked: in a chat, or to continue the problem's prompt."""

_MAX_READINGS = 4


class Answer(NamedTuple):
    """An answer as `rows.Sample` has it: a `completion` of the prompt or a `solution`, a whole program.

    Exactly one is given; an answer without any code is an empty solution.
    """

    completion: str | None = None
    solution: str | None = None

    @property
    def text(self) -> str:
        """The one that is given."""
        return self.completion if self.completion is not None else self.solution or ""


def extract(text: str, problem: Problem, *, form: Form, stop: Sequence[str] = ()) -> Answer:
    """Return the answer that a model's raw text holds.

    Args:
        text: what the model wrote, without the prompt.
        problem: what it was asked.
        form: how it was asked.
        stop: strings that end the answer wherever they stand (the recipe's `generate.stop`).
    """
    text = until_stop(text, stop)
    if problem.language == "verilog":
        return _verilog(text, problem)
    wanted = asked(problem)
    if form == "chat":
        program = _best(text, wanted, is_strict=False)
        return Answer(program.completion, program.solution)
    body = _continuation(text, wanted)
    if _starts_over(text, wanted) and not _is_whole(body, wanted):
        program = _best(text, wanted, is_strict=False)
        if program.is_whole:
            return Answer(program.completion, program.solution)
    return Answer(completion=body)


def extract_sample(sample: Sample, problem: Problem) -> Sample:
    """Return the sample with its answer alone, and what it was as `raw`; itself where nothing has to be removed.

    A sample that compiles within its problem is never changed, nor is one in which no program is found, nor code that
    does not compile where nothing shows that it came from a chat.
    """
    text = sample.completion if sample.completion is not None else sample.solution or ""
    if not text.strip():
        return sample
    if problem.language == "verilog":
        answer = _verilog_sample(text, sample, problem)
    else:
        answer = _python_sample(text, sample, asked(problem))
    if answer is None or (answer.completion, answer.solution) == (sample.completion, sample.solution):
        return sample
    return msgspec.structs.replace(sample, completion=answer.completion, solution=answer.solution, raw=text)


def has_ended(text: str, problem: Problem, *, form: Form, stop: Sequence[str] = ()) -> bool:
    """Decide while a model still writes whether its answer is complete already, by the rules of `extract`."""
    if len(until_stop(text, stop)) < len(text):
        return True
    if form == "chat" or problem.language == "verilog":
        return False
    wanted = asked(problem)
    if not _starts_over(text, wanted):
        return len(cut(text, problem.prompt, problem.language)) < len(text)
    if "\n" not in text.strip():
        return False
    is_marked = "```" in text or "~~~" in text
    is_complete = text.count("```") % 2 == 0 if is_marked else len(cut(text, "", "python")) < len(text)
    return is_complete and _best(text, wanted, is_strict=False).is_whole


def _best(text: str, wanted: Asked, *, is_strict: bool) -> Program:
    """The program in the text; a fragment is read again until nothing comes off, so that it stays as it is later."""
    program = _read(text, wanted, is_strict)
    for _ in range(_MAX_READINGS):
        fragment = program.solution
        if program.is_whole or not fragment or fragment == text:
            break
        text, program = fragment, _read(fragment, wanted, is_strict)
    return program


def _read(text: str, wanted: Asked, is_strict: bool) -> Program:
    """The program in the first reading of the text that has a whole one, else what the first reading has."""
    programs: list[Program] = []
    for plain in plain_texts(text):
        programs.append(find_program(plain, wanted, is_strict=is_strict))
        if programs[-1].is_whole:
            return programs[-1]
    return programs[0]


def _continuation(text: str, wanted: Asked) -> str:
    """The text as far as it continues the prompt (rules 10 and 11), without control tokens."""
    bodies = [cut(plain, wanted.prompt, "python") for plain in (plain_texts(text) if has_marks(text) else [text])]
    return next((body for body in bodies if _is_whole(body, wanted)), bodies[0])


def _is_whole(body: str, wanted: Asked) -> bool:
    if not wanted.is_open and not any(name in body for name in wanted.names):
        return False  # looked at first: it is cheap
    return continues(body, wanted) and defines(wanted.prompt + body, wanted.names)


def _starts_over(text: str, wanted: Asked) -> bool:
    """Whether a continuation does not continue: it begins with a fence, with words, or with the function once more."""
    line = next((line for line in text.split("\n", 50) if line.strip()), "")
    if line[:1].isspace() and wanted.is_open:
        return False
    names = "|".join(map(re.escape, wanted.names))
    is_repeated = line.rstrip() == wanted.prompt.strip().partition("\n")[0].rstrip()
    if is_repeated or (wanted.is_open and re.match(rf"(?:async +def|def|class) +(?:{names})\b", line)):
        return True
    return bool(line) and not looks_like_code(line)


def _python_sample(text: str, sample: Sample, wanted: Asked) -> Answer | None:
    is_completion = sample.completion is not None
    if compiles(wanted.prompt + text) if is_completion else defines(text, wanted.names):
        return None
    is_marked = has_marks(text)
    if is_completion:
        for plain in plain_texts(text):
            body = cut(plain, wanted.prompt, "python")
            if is_marked and _is_whole(plain, wanted):
                return Answer(completion=plain)
            if _is_whole(body, wanted) and not looks_like_code(plain[len(body) :]):
                return Answer(completion=body)
    program = _best(text, wanted, is_strict=not is_marked)
    return Answer(program.completion, program.solution) if program.is_whole else None


def _verilog(text: str, problem: Problem) -> Answer:
    """A body as a completion, a whole design as a solution; as it was written where nothing had to go."""
    design = extract_design(text, problem.prompt, problem.entry_point or "top_module")
    if design is None:
        return Answer(solution="")
    code = design.source.removeprefix(design.header)
    is_same = [token.value for token in tokenize(code)] == [token.value for token in tokenize(text)]
    code = text if is_same else code
    return Answer(completion=code) if design.header else Answer(solution=code)


def _verilog_sample(text: str, sample: Sample, problem: Problem) -> Answer | None:
    answer = _verilog(text, problem)
    is_read_as_it_is = answer.text == text and (sample.completion is not None or answer.solution is not None)
    return answer if answer.text and not is_read_as_it_is else None
