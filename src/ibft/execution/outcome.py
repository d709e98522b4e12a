"""What the judge is asked, and what it answers: for one sample, and for a problem's own reference solution."""

from __future__ import annotations

import msgspec

from ibft.artifacts.rows import Problem, Sample, Status
from ibft.execution.sandbox import Limits

__all__ = ["MESSAGE_CHARACTERS", "Job", "Outcome", "Reference", "one_line"]


MESSAGE_CHARACTERS = 200
"""Of a program's text, in a message."""


def one_line(text: str) -> str:
    """Return text of a program's, short, without the control characters that a terminal would obey."""
    short = " ".join(text.split())[:MESSAGE_CHARACTERS]
    return "".join(character if character.isprintable() else "\ufffd" for character in short)


class _Verdict(msgspec.Struct, frozen=True, kw_only=True):
    status: Status
    message: str
    cpu_time_s: float = 0.0
    is_weak: bool = False

    @property
    def passed(self) -> bool:
        """Return True if the tests ran to their end and found nothing wrong."""
        return self.status == "passed"


class Outcome(_Verdict, frozen=True, kw_only=True):
    """The verdict on one sample.

    `message` is a sentence; `is_weak`: the candidate could have seen its tests; `reached`: the last group of tests
    that was begun, where the tests name their groups (EvalPlus's are "base" and "plus"), or the last case of `io`;
    `warning`: what the compiler warned about in a program that is right otherwise.
    """

    wall_time_s: float = 0.0
    reached: str = ""
    warning: str = ""


class Reference(_Verdict, frozen=True, kw_only=True):
    """The verdict on a problem's reference solution, which decides how its samples are judged.

    A problem is judged only if it passed. `is_weak`: it passes only with the tests in its own interpreter, so the
    samples are judged in this way too. `in_place`: outside it passes only if its changes of arguments are seen.
    `cpu_time_s` scales their limit. `num_checked` (Verilog) counts the outputs that
    the test bench compared or the results that it printed, and `trace` is a hash of all that the reference answered or
    these results: a sample's run must have both. `memory_mib` is its limit where it needed more than
    `judge.memory_mib`: its samples get as much.
    """

    in_place: bool = False
    num_checked: int | None = None
    trace: str = ""
    memory_mib: int = 0


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One sample to judge, or, without a sample, a problem's reference to run.

    It holds all that a machine needs to do it, and can be sent there as it is.
    """

    problem: Problem
    limits: Limits
    sample: Sample | None = None
    reference: Reference | None = None

    def unfinished(self, status: Status, message: str) -> Outcome | Reference:
        """Return the verdict on the job where nothing was run to its end."""
        kind = Reference if self.sample is None else Outcome
        return kind(status=status, message=message)
