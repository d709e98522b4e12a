"""The scan stage: how predictable is the training data to the base model already, beside a control set?

scan/scores.parquet         a row an example: every score, or the reason why there is none (`score_table`)
scan/summary.json           what they say: `findings.ScanSummary`
scan/densities.json         values of the headline score, at most 2,000 a subset: `densities.Densities`
scan/most_memorized.jsonl   the most memorized training examples token by token: `rows.ShownExample`

rescan/<arm>/ has the same scores of some training examples under a trained arm, and densities and summary of its own
(`rescan.RescanSummary`).
"""

from __future__ import annotations

import contextlib
import gc
import heapq
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ibft import progress
from ibft.artifacts.rows import Subset, pretty_json, write_atomically, write_rows
from ibft.artifacts.score_table import SCORES_FILE, read_scores, write_scores
from ibft.data.training import Example
from ibft.errors import UserError
from ibft.findings.densities import write_densities
from ibft.findings.findings import summarize
from ibft.models.allocator import keeping_freed_memory, returning_freed_memory
from ibft.models.loading import load_config, load_model, load_tokenizer, resolve_model_path
from ibft.models.processes import decide, join
from ibft.run.folder import RunFolder
from ibft.run.processes import is_main_process, num_processes, process_index
from ibft.run.recipe import RENAMED_CONTROL, Recipe
from ibft.run.stage import Stage
from ibft.scoring.blocks import merged_blocks, score_blocks
from ibft.scoring.examples import Source, text_of, within_context
from ibft.scoring.score_columns import read_columns, read_places, read_reasons
from ibft.stages.identity import scan_inputs
from ibft.stages.resolution import resolve

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ibft.scoring.scorer import Scorer

__all__ = ["make_table", "scan"]

_COLUMN_PART = 2**17
"""Bytes: columns of some thousand examples and more are larger, and each goes back once it has been used."""


def scan(recipe: Recipe, run: RunFolder) -> None:
    """Score the training data and the control set under the base model; nothing is done twice.

    Under a launcher the processes share the blocks of the data; the main one then puts them together.

    Raises:
        UserError: model or data cannot be loaded, or no training example can be scored.
    """
    join(recipe.model)
    recipe = resolve(recipe)
    stage, is_complete = decide(lambda: _open(recipe, run))
    if not is_complete:
        with stage.work() as folder:
            decide(lambda: resolve_model_path(recipe.model))  # the main process dequantizes, the others find it done
            _make(recipe, folder)
    decide(lambda: None)  # no process goes on before the result has its name


def _open(recipe: Recipe, run: RunFolder) -> tuple[Stage, bool]:
    stage = run.stage("scan", scan_inputs(recipe))
    return stage, stage.is_complete


def _make(recipe: Recipe, folder: Path) -> None:
    tokenizer = load_tokenizer(recipe.model)
    recipe = within_context(recipe, load_config(recipe.model))
    subsets: tuple[Subset, ...] = ("train",) if recipe.data.control is None else ("train", "control")
    sources = [Source(recipe, subset, tokenizer) for subset in subsets]
    if not len(sources[0]):
        raise _nothing_scored(sources[0].num_skipped)
    scorer = make_table(recipe, sources, folder, lambda: _load_scorer(recipe))
    if is_main_process():
        _show(recipe, scorer, sources[0], folder)
        del scorer
        gc.collect()  # the model goes before the columns come
        with progress.task("Comparing", total=None), returning_freed_memory(least=_COLUMN_PART):
            _conclude(recipe, {source.subset: source for source in sources}, folder)


def _load_scorer(recipe: Recipe) -> Scorer:
    from ibft.scoring.scorer import Scorer

    return Scorer(recipe, load_model(recipe.model), load_tokenizer(recipe.model))


class Items(Protocol):
    """Numbered examples of one subset, the same in each pass."""

    subset: Subset

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[tuple[int, Example]]: ...


def make_table(
    recipe: Recipe,
    sources: Sequence[Items],
    folder: Path,
    load: Callable[[], Scorer],
    title: str = "Scanning",
) -> Scorer | None:
    """Write `folder`'s table of the sources' scores, all processes together; the scorer, None if the table was there.

    Returns when the table is there, in every process.
    """
    path, blocks = folder / SCORES_FILE, folder / "blocks"
    scorer = None
    if not decide(path.exists):
        scorer = load()
        _score(scorer, sources, blocks, title)
        decide(lambda: None)  # no block is put together before all are there
        merged = merged_blocks(blocks, {source.subset: len(source) for source in sources})
        decide(lambda: write_scores(path, merged, recipe.scan.score_names, recipe.scan.score))
    if is_main_process():
        shutil.rmtree(blocks, ignore_errors=True)
    return scorer


def _score(scorer: Scorer, sources: Sequence[Items], folder: Path, title: str) -> None:
    """Score this process's share of the sources' examples into blocks."""
    folder.mkdir(parents=True, exist_ok=True)
    num = sum(map(len, sources))
    with progress.task(title, total=num) as task, keeping_freed_memory(), contextlib.closing(scorer):
        for source in sources:
            score_blocks(
                folder,
                source.subset,
                source,
                scorer.start,
                lambda prepared, source=source: scorer.batches(source.subset, prepared),  # type: ignore[misc]
                rank=process_index(),
                num_processes=num_processes(),
                is_ahead=scorer.is_ahead,
                advance=lambda count, source=source: task.advance(count * num_processes(), note=source.subset),  # type: ignore[misc]
            )


def _show(recipe: Recipe, scorer: Scorer | None, source: Source, folder: Path) -> None:
    """Write the most memorized training examples token by token."""
    path = folder / "most_memorized.jsonl"
    if path.exists():
        return
    lowest = heapq.nsmallest(
        max(1, recipe.scan.max_shown),
        read_scores(folder / SCORES_FILE, recipe.scan.score, "train"),
        key=lambda row: (row.value, row.place),
    )
    if not lowest:
        raise _nothing_scored(read_reasons(folder / SCORES_FILE, "train"))
    del lowest[recipe.scan.max_shown :]
    scorer = scorer or _load_scorer(recipe)
    values = {row.place: row.value for row in lowest}
    shown = {index: scorer.shown("train", example, values[index]) for index, example in source if index in values}
    write_rows(path, [shown[row.place] for row in lowest])


def _nothing_scored(reasons: Mapping[str, int]) -> UserError:
    told = "; ".join(f"{count} {reason}" for reason, count in reasons.items())
    return UserError(f"scan: no training example has scores ({told or 'the data set is empty'}). Check the data.")


def _conclude(recipe: Recipe, sources: Mapping[Subset, Source], folder: Path) -> None:
    path, names = folder / SCORES_FILE, recipe.scan.score_names
    columns = {subset: read_columns(path, subset, names) for subset in sources}
    summary = summarize(
        columns["train"],
        columns.get("control"),
        score=recipe.scan.score,
        region=recipe.scan.region,
        skipped={subset: read_reasons(path, subset) | source.num_skipped for subset, source in sources.items()},
        texts=lambda subset, rows: _texts(recipe, sources[subset], path, rows),
        is_renamed=recipe.data.control == RENAMED_CONTROL,
        is_dated=recipe.data.control_after is not None,
        seed=recipe.seed,
    )
    labels = {"train": "training data", "control": "control set"}
    series = {labels[subset]: one.scores[recipe.scan.score] for subset, one in columns.items()}
    write_densities(folder, recipe.scan.score, series, recipe.seed)
    write_atomically(folder / "summary.json", pretty_json(summary))


def _texts(recipe: Recipe, source: Source, path: Path, rows: NDArray[np.int64]) -> list[str]:
    """The texts of these rows of the subset's columns, by a pass over the data."""
    places = read_places(path, source.subset)
    wanted = {places[row] for row in rows.tolist()}
    return [text_of(example.pair, recipe.scan.region) for place, example in source if place in wanted]
