"""From a model's raw text to its answer, for `ibft generate` and `ibft judge` alike."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ibft.artifacts.rows import Problem, Sample
from ibft.text.answers.completion import until_stop
from ibft.text.answers.reader import READERS, Answer, Form

__all__ = ["extract", "extract_sample", "has_ended", "is_open"]


def extract(text: str, problem: Problem, *, form: Form, stop: Sequence[str] = ()) -> Answer:
    """Return the answer that a model's raw text holds.

    Args:
        text: what the model wrote, without the prompt.
        problem: what it was asked.
        form: how it was asked.
        stop: strings that end the answer wherever they stand (the recipe's `generate.stop`).
    """
    return READERS[problem.language].extract(until_stop(text, stop), problem, form)


def extract_sample(sample: Sample, problem: Problem) -> Sample:
    """Return the sample with its answer alone, and what it was as `raw`; itself where nothing has to be removed.

    A sample that compiles within its problem is never changed, nor is one in which no program is found, nor code that
    does not compile where nothing shows that it came from a chat.
    """
    text = sample.text
    if not text.strip():
        return sample
    answer = READERS[problem.language].extract_sample(sample, problem)
    if answer is None or (answer.completion, answer.solution) == (sample.completion, sample.solution):
        return sample
    return msgspec.structs.replace(sample, completion=answer.completion, solution=answer.solution, raw=text)


def has_ended(text: str, problem: Problem, *, form: Form, stop: Sequence[str] = ()) -> bool:
    """Decide while a model still writes whether its answer is complete already, by the rules of `extract`."""
    return len(until_stop(text, stop)) < len(text) or READERS[problem.language].has_ended(text, problem, form)


def is_open(problem: Problem) -> bool:
    """Decide whether a problem's prompt ends inside what the answer has to continue: a function, a module."""
    return READERS[problem.language].is_open(problem.prompt)
