"""What a model is asked, and what it wrote."""

from __future__ import annotations

from typing import NamedTuple

from ibft.artifacts.rows import Problem
from ibft.text.answers import Form
from ibft.text.rendered import Rendered

__all__ = ["Ask", "Wanted", "Written"]


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


class Wanted(NamedTuple):
    """One sample to draw: of which problem, and its number from 0."""

    task_id: str
    number: int


class Written(NamedTuple):
    """What a model wrote behind a prompt.

    wanted: the sample that it is.
    text: without the tokens that repeat the prompt's end.
    finish_reason: `stop` or `length`.
    num_tokens: as they were counted where they were drawn; a server counts those that repeat the prompt's end.
    is_of_whole: a server was asked again, with the whole prompt.
    """

    wanted: Wanted
    text: str
    finish_reason: str
    num_tokens: int
    is_of_whole: bool = False
