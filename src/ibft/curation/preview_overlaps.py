"""Which examples of a stream repeat others, and which contain problems: counts, and a few by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from ibft.artifacts.preview import LeakFound, ProblemOverlap, Repeat, Repeats
from ibft.artifacts.rows import Problem, TrainingPair
from ibft.curation.duplicates import DuplicateFinder
from ibft.curation.leakage import Leak, ProblemIndex
from ibft.curation.near import exact_key
from ibft.curation.preview_counts import encodable
from ibft.errors import UserError

__all__ = ["OverlapFinder", "RepeatFinder"]

_NUM_NAMED = 5
_KINDS = ("exact", "code", "near")


class RepeatFinder:
    """Compares the first set with itself, and each further one with the first.

    Args:
        max_compared: how many examples of each set, the first ones, are compared by their code.
        notes: takes the sentence that says that none can be.
    """

    def __init__(self, max_compared: int, notes: list[str]) -> None:
        self._max_compared = max_compared
        self._texts: set[int] = set()
        self._sets: list[tuple[str, Counter[str], list[Repeat]]] = []
        self._finder: DuplicateFinder | None = None
        try:
            self._finder = DuplicateFinder()
        except UserError as error:
            notes.append(f"Near-duplicates were not looked for: {error}")

    def begin(self, name: str) -> None:
        """Begin the next set."""
        self._sets.append((name, Counter(), []))

    def add(self, pair: TrainingPair) -> None:
        """Compare an example of the set, and of the first set keep it."""
        _, counts, found = self._sets[-1]
        is_first = len(self._sets) == 1
        text = int.from_bytes(exact_key(pair)[:8], "little")
        duplicate = None
        if self._finder is not None and counts["examples"] < self._max_compared:
            counts["compared"] += 1
            duplicate = self._finder.add(pair) if is_first else self._finder.find(pair)
        counts["examples"] += 1
        if duplicate is not None:
            repeat = Repeat(encodable(pair.id), encodable(duplicate.of), duplicate.kind, duplicate.similarity)
        elif text in self._texts:
            repeat = Repeat(encodable(pair.id), None, "exact", 1.0)
        else:
            repeat = None
        if is_first:
            self._texts.add(text)
        if repeat is not None:
            counts[repeat.kind] += 1
            if counts[repeat.kind] <= _NUM_NAMED:
                found.append(repeat)

    def results(self) -> list[Repeats]:
        """Return what each set repeats."""
        first = self._sets[0][1]
        return [
            Repeats(
                name=name,
                num_examples=counts["examples"],
                num_exact=counts["exact"],
                num_compared=counts["compared"],
                num_against=first["compared"],
                is_partial=self._finder is not None
                and (counts["compared"] < counts["examples"] or first["compared"] < first["examples"]),
                num_code=counts["code"],
                num_near=counts["near"],
                first=sorted(found, key=lambda repeat: _KINDS.index(repeat.kind)),
            )
            for name, counts, found in self._sets
        ]


class OverlapFinder:
    """Looks for the problems of benchmarks in examples.

    Args:
        problems: the problems of each benchmark, by its name.
        max_compared: how many examples, the first ones, are compared.
    """

    def __init__(self, problems: Mapping[str, Sequence[Problem]], max_compared: int) -> None:
        self._problems, self._max_compared = problems, max_compared
        self._index = ProblemIndex(problems)
        self._num_compared = 0
        self._examples: Counter[str] = Counter()
        self._leaked: dict[str, set[str]] = {source: set() for source in problems}
        self._first: dict[str, list[Leak]] = {source: [] for source in problems}

    def add(self, pair: TrainingPair) -> None:
        """Look for problems in an example."""
        if not self._problems or self._num_compared == self._max_compared:
            return
        self._num_compared += 1
        leaks = self._index.leaks(pair)
        self._examples.update({leak.source for leak in leaks})
        for leak in leaks:
            self._leaked[leak.source].add(leak.task_id)
            named = self._first[leak.source]
            if len(named) < _NUM_NAMED and all(leak.id != other.id for other in named):
                named.append(leak)

    def results(self) -> list[ProblemOverlap]:
        """Return what was found, for each benchmark."""
        return [
            ProblemOverlap(
                source=source,
                num_problems=len(problems),
                num_leaked=len(self._leaked[source]),
                num_examples=self._examples[source],
                num_compared=self._num_compared,
                first=[
                    LeakFound(
                        id=encodable(leak.id),
                        task_id=leak.task_id,
                        kind=leak.kind,
                        part=leak.part,
                        similarity=leak.similarity,
                    )
                    for leak in self._first[source]
                ],
            )
            for source, problems in self._problems.items()
        ]
