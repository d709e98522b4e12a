"""The steps of a run in their order: what `ibft run`, the help, the pages and the docs go by."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["STEPS", "Step", "steps_that"]


class Step(NamedTuple):
    """One step, which is a verb, a folder of the run, and a file of `ibft.stages`.

    Args:
        name: of all three.
        has_arms: the folder has one of its own for each arm.
        loads_model: it needs the model, or its tokenizer at least.
        shares_work: the processes of a launcher work at it together.
    """

    name: str
    has_arms: bool = True
    loads_model: bool = True
    shares_work: bool = False


STEPS = (
    Step("scan", has_arms=False, shares_work=True),
    Step("train", shares_work=True),
    Step("rescan", shares_work=True),
    Step("generate"),
    Step("judge", loads_model=False),
    Step("report", has_arms=False, loads_model=False),
)


def steps_that(quality: str) -> tuple[str, ...]:
    """Return the names of the steps with a quality, such as `shares_work`, in their order."""
    return tuple(step.name for step in STEPS if getattr(step, quality))
