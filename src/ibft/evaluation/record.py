"""The evaluations of a training run on disk: what was judged, and what was only generated when the run was killed.

evaluations.jsonl          judged answers (`artifacts.evaluations.EvaluatedAnswer`), at the end in the order of steps
evaluations.partial.jsonl  while training runs: answers as they were generated, before they are judged
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from ibft.artifacts.evaluations import EVALUATIONS_FILE, EvaluatedAnswer
from ibft.artifacts.json_lines import RowWriter, read_rows, write_rows

__all__ = ["Record", "is_judged"]


class Record:
    """Answers by step, of this attempt and of those before it.

    Args:
        folder: of the two files.
        settings: digest of what is asked and how; answers of other settings are dropped.
        keys: task id and number of every answer of a step, in their order.
        start: the step that training begins from; earlier steps do not come again.
    """

    def __init__(self, folder: Path, settings: str, keys: Sequence[tuple[str, int]], start: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._judged_path, self._partial_path = folder / EVALUATIONS_FILE, folder / "evaluations.partial.jsonl"
        self._order = {key: place for place, key in enumerate(keys)}
        self._start, self._seen = start, set[int]()
        found: dict[int, dict[tuple[str, int], EvaluatedAnswer]] = defaultdict(dict)
        self.num_dropped = 0
        for path in (self._partial_path, self._judged_path):  # a verdict replaces its answer without one
            for row in self._read(path):
                if row.settings == settings:
                    found[row.step][row.task_id, row.index or 0] = row
                else:
                    self.num_dropped += 1
        # A kill may have cut a step's answers off: the step comes again, since no later checkpoint was written.
        self._steps = {step: self._sorted(rows) for step, rows in found.items() if rows.keys() == self._order.keys()}
        self._judged, self._partial = RowWriter(self._judged_path), RowWriter(self._partial_path)

    def _read(self, path: Path) -> list[EvaluatedAnswer]:
        if not path.exists():
            return []
        with RowWriter(path):
            pass  # drops a line that a kill left unfinished
        return list(read_rows(path, EvaluatedAnswer))

    def _sorted(self, rows: dict[tuple[str, int], EvaluatedAnswer]) -> list[EvaluatedAnswer]:
        return [rows[key] for key in self._order]

    @property
    def earlier(self) -> dict[int, list[EvaluatedAnswer]]:
        """The answers of the steps up to the one that training begins from."""
        return {step: rows for step, rows in sorted(self._steps.items()) if step <= self._start}

    def of(self, step: int, weights: str) -> list[EvaluatedAnswer] | None:
        """Return the answers of a step that an earlier attempt has reached with the same weights; None without."""
        self._seen.add(step)
        rows = self._steps.get(step)
        return rows if rows and all(row.weights == weights for row in rows) else None

    def add_generated(self, step: int, rows: Sequence[EvaluatedAnswer]) -> None:
        """Keep a step's answers before they are judged."""
        self._steps[step] = list(rows)
        self._partial.write(rows)

    def add_judged(self, step: int, rows: Sequence[EvaluatedAnswer]) -> None:
        """Keep a step's verdicts."""
        self._steps[step] = list(rows)
        self._judged.write(rows)

    def close(self) -> None:
        """Close the files; a later attempt reads them."""
        self._judged.__exit__()
        self._partial.__exit__()

    def finish(self) -> None:
        """Put the verdicts in order, each once, without those of steps that were not reached this time."""
        self.close()
        kept = [self._steps[step] for step in sorted(self._steps) if step <= self._start or step in self._seen]
        write_rows(self._judged_path, (row for rows in kept for row in rows))
        self._partial_path.unlink(missing_ok=True)


def is_judged(rows: Sequence[EvaluatedAnswer]) -> bool:
    """Decide whether every answer has a verdict; a failure of the sandbox is not one."""
    return all(row.status not in (None, "infrastructure_error") for row in rows)
