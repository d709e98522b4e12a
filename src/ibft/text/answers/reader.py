"""Read the answers in one language: the protocol, its defaults, and the table of the languages."""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

from ibft.artifacts.rows import Problem, Sample
from ibft.registry import Registry, files_in
from ibft.text.answers.blocks import split_blocks
from ibft.text.answers.turn import plain_texts

__all__ = ["READERS", "Answer", "Form", "Reader"]

Form = Literal["chat", "completion"]
"""The way in which the model was asked: in a chat, or to continue the problem's prompt."""


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


class Reader(Protocol):
    """Reads the answers in one language. A subclass overrides what its language allows to know better.

    What is here knows nothing of the language but `fences`: the words that stand behind a fence of its code.
    """

    fences: frozenset[str] = frozenset()

    def extract(self, text: str, problem: Problem, form: Form) -> Answer:
        """Return the answer in a model's text: the last block in this language, or in none, else the text."""
        plain = next(plain_texts(text))
        blocks = split_blocks(plain, lambda _: False).blocks
        for words in (self.fences, frozenset({""})):
            if fenced := [block for block in blocks if block.language in words]:
                return Answer(solution=fenced[-1].code)  # the last, which corrects those before
        return Answer(completion=plain) if form == "completion" else Answer(solution=plain)

    def extract_sample(self, sample: Sample, problem: Problem) -> Answer | None:
        """Return the answer in a sample of another tool; None where it has to be judged as it is."""
        return self.extract(sample.text, problem, "chat" if sample.completion is None else "completion")

    def has_ended(self, text: str, problem: Problem, form: Form) -> bool:
        """Decide while a model still writes whether its answer is complete already."""
        return False

    def is_open(self, prompt: str) -> bool:
        """Decide whether a prompt ends inside what the answer has to continue: a function, a module."""
        return True


READERS: Registry[Reader] = Registry(
    "language",
    "ibft.languages",
    {
        **files_in("ibft.execution.languages"),
        "cpp": "ibft.text.answers.cpp_reader:CPP_READER",
        "python": "ibft.text.answers.python_reader:PYTHON_READER",
        "verilog": "ibft.text.answers.verilog_reader:VERILOG_READER",
    },
)
"""By the language of a problem: its own reader where it has one, which loads nothing of the judge, else the language.

The languages are named and not imported: their room lies above this one. An entry point gives an
`ibft.execution.Language`, which is a reader as well.
"""
