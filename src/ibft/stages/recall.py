"""What recalls the answer, in the scan stage: which segment of a prompt alone, asked of a draw of both sets.

scan/recall.jsonl   one row per drawn example: `artifacts.recall.RecallRow`
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ibft import progress
from ibft.artifacts.json_lines import read_rows, write_rows
from ibft.artifacts.recall import RecallRow, RecallSummary
from ibft.artifacts.rows import Subset
from ibft.artifacts.score_table import SCORES_FILE
from ibft.data.subsets import NumberedExamples
from ibft.findings.columns import Columns
from ibft.findings.recall import RecalledRows, summarize_recall
from ibft.findings.score_columns import read_columns, read_places
from ibft.findings.summary import rows_compared
from ibft.run.recipe import Recipe
from ibft.scoring.encoder import Encoder
from ibft.scoring.recall import recall

if TYPE_CHECKING:
    from ibft.scoring.forward import Forward

__all__ = ["RECALL_FILE", "ask_recall", "conclude_recall"]

RECALL_FILE = "recall.jsonl"


def ask_recall(
    recipe: Recipe, forward: Forward, encoder: Encoder, sources: Mapping[Subset, NumberedExamples], folder: Path
) -> None:
    """Write `recall.jsonl`, from the table of the scores and the model that made it.

    Drawn are pairs of training and control examples of similar length, of which neither set has the other's code: the
    pairs that the scores are compared on. Without a control set they are training examples alone. Foreign text comes
    from the other examples of the same draw and set.

    Raises:
        UserError: as `recall`.
    """
    table = folder / SCORES_FILE
    columns = {subset: read_columns(table, subset, [recipe.scan.score]) for subset in sources}
    compared = rows_compared(
        columns["train"],
        columns.get("control"),
        recipe.scan.score,
        is_dated=recipe.data.control_after is not None,
        seed=recipe.seed,
    )
    num = min(recipe.scan.max_recall_examples, *map(len, compared.values()))
    drawn = np.random.default_rng(recipe.seed).permutation(min(map(len, compared.values())))[:num]
    rows = []
    with progress.task("Asking what recalls the answers", total=num * len(compared)) as task:
        for subset, of_subset in compared.items():
            places = read_places(table, subset)
            examples = list(sources[subset].only({places[row] for row in of_subset[drawn].tolist()}))
            found = recall(
                forward,
                encoder,
                [example.pair for _, example in examples],
                seed=recipe.seed,
                advance=partial(task.advance, note=subset),
            )
            rows += [
                RecallRow(
                    id=example.pair.id,
                    subset=subset,
                    index=place,
                    shares=of_example.shares,
                    nll_own=None if np.isnan(of_example.nll_own) else of_example.nll_own,
                    nll_foreign=None if np.isnan(of_example.nll_foreign) else of_example.nll_foreign,
                    nll_alone=dict(of_example.nll_alone),
                    num_tokens=of_example.num_tokens,
                    reason=of_example.reason,
                )
                for (place, example), of_example in zip(examples, found, strict=True)
            ]
    write_rows(folder / RECALL_FILE, rows)


def conclude_recall(folder: Path, columns: Mapping[Subset, Columns]) -> RecallSummary | None:
    """Return what the rows say; None where nothing was asked.

    Args:
        folder: of the scan.
        columns: the scored examples of each subset, as `read_columns` reads them.
    """
    path = folder / RECALL_FILE
    rows = list(read_rows(path, RecallRow)) if path.exists() else []
    if not rows:
        return None
    of_subset = {}
    for subset, scored in columns.items():
        row_at = {place: row for row, place in enumerate(read_places(folder / SCORES_FILE, subset))}
        own = [row for row in rows if row.subset == subset]
        of_subset[subset] = RecalledRows(own, scored.groups[[row_at[row.index] for row in own]])
    return summarize_recall(of_subset["train"], of_subset.get("control"))
