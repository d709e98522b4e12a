"""A problem as a model is asked."""

from __future__ import annotations

from typing import NamedTuple

from ibft.artifacts.rows import Problem
from ibft.text.answers import Form
from ibft.text.rendered import Rendered

__all__ = ["Ask"]


class Ask(NamedTuple):
    """A problem as the model is asked.

    problem: what its answer solves.
    rendered: the text before what the model writes.
    form: how its answer is read.
    begun: what of the answer is in `rendered` already.
    """

    problem: Problem
    rendered: Rendered
    form: Form
    begun: str = ""
