"""The steps of a run in their order: what `ibft run`, the help, the pages and the docs go by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["STEPS", "Step", "parts_of", "steps_that"]


class Step(NamedTuple):
    """One step, which is a verb, a folder of the run, and a file of `ibft.stages`.

    Args:
        name: of all three.
        has_arms: the folder has one of its own for each arm.
        loads_model: it needs the model, or its tokenizer at least.
        shares_work: the processes of a launcher work at it together.
        reads: the steps whose results of the same arm it reads while it works.
        sections: the sections of the recipe that it reads, or compares with what it is given; None for most of them.
    """

    name: str
    has_arms: bool = True
    loads_model: bool = True
    shares_work: bool = False
    reads: tuple[str, ...] = ()
    sections: tuple[str, ...] | None = None

    def parts(self, arms: Sequence[str]) -> list[str]:
        """Return the folders of the step for these arms."""
        return [f"{self.name}/{arm}" for arm in arms] if self.has_arms else [self.name]


STEPS = (
    Step("scan", has_arms=False, shares_work=True),
    Step("train", shares_work=True),
    Step("rescan", shares_work=True, reads=("scan", "train")),
    Step("generate", reads=("train",)),
    Step(
        "judge",
        loads_model=False,
        reads=("generate",),
        sections=("model", "prompt", "objective", "problems", "forgetting", "generate", "judge", "report"),
    ),
    Step("report", has_arms=False, loads_model=False, reads=("judge",), sections=("objective", "report")),
)


def parts_of(names: Sequence[str], arms: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the folders that steps work at, and those that they only read, for these arms."""
    made = [step for step in STEPS if step.name in names]
    # What a step makes itself is locked for it alone, and need not be locked for reading.
    read = {name for step in made for name in step.reads}.difference(names)
    return (
        [part for step in made for part in step.parts(arms)],
        [part for step in STEPS if step.name in read for part in step.parts(arms)],
    )


def steps_that(quality: str) -> tuple[str, ...]:
    """Return the names of the steps with a quality, such as `shares_work`, in their order."""
    return tuple(step.name for step in STEPS if getattr(step, quality))
