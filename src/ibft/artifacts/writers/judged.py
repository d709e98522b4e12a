"""What the writers are given: samples that were judged, with their verdicts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from ibft.artifacts.json_lines import read_rows
from ibft.artifacts.rows import Problem, Result, Sample
from ibft.errors import UserError

__all__ = ["UNJUDGED", "Judged"]

UNJUDGED = frozenset({"infrastructure_error", "excluded"})
"""The values of `rows.Status` that say nothing about a sample."""


class Judged(NamedTuple):
    """The samples of one arm or file, and their results, which are streams that can be read again.

    `arm` and `seed` say where the samples are from: the arm of a recipe and its seed, or the name of a file and None.
    `source` is the benchmark's name, and `problems` are those that were judged, by task id.
    """

    arm: str
    seed: int | None
    source: str
    problems: Mapping[str, Problem]
    answers: Callable[[], Iterator[Sample]]
    path: Path

    def results(self) -> Iterator[Result]:
        """Yield the results in the order of the samples."""
        return read_rows(self.path, Result)

    def rows(self) -> Iterator[tuple[Sample, Result]]:
        """Yield each sample, as it was judged, with its result."""
        return zip(self.answers(), self.results(), strict=True)

    def decided(self, form: str) -> Iterator[tuple[Sample, Result]]:
        """Yield the same for a form that has only right and wrong.

        Raises:
            UserError: a sample was not judged.
        """
        for sample, result in self.rows():
            if result.status in UNJUDGED:
                raise UserError(
                    f"{result.task_id} was not judged ({result.result}), which the form of {form} cannot say. Judge "
                    "again, or leave the problem out with --tasks."
                )
            yield sample, result
