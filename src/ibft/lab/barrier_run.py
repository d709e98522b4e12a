"""Run the barrier experiment: bases first, each once, then its cells, whose rows are kept as they are ready.

OUT/barrier.json   the settings
OUT/rows.jsonl     a row for each cell; in the order of the cells when all are there
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from ibft import progress
from ibft.artifacts.barrier import BarrierRow
from ibft.artifacts.gauges import Gauges
from ibft.artifacts.json_lines import RowWriter, error_reason, pretty_json, read_rows, write_atomically, write_rows
from ibft.errors import UserError
from ibft.lab.barrier import BarrierConfig, Cell, cells_of
from ibft.lab.bases import base_folder, general_folder, load_base
from ibft.lab.finetune import finetune
from ibft.lab.gauges import gauge
from ibft.lab.gradients import compare_gradients
from ibft.lab.pretrain import PretrainConfig
from ibft.lab.texts import example_texts, training_texts
from ibft.lab.workers import Results, workers
from ibft.run.locks import hold
from ibft.worlds.planted import PlantedConfig, make_planted_world

__all__ = ["compute_cell", "run_barrier"]

_ROWS = "rows.jsonl"

_world = functools.lru_cache(maxsize=4)(make_planted_world)


def run_barrier(
    config: BarrierConfig, folder: Path, *, num_workers: int, prepare: Callable[[], None] | None = None
) -> list[BarrierRow]:
    """Compute the cells that the folder does not have yet, and return the rows of all, in their order.

    A kill loses the cells in work at most: the next run resumes. Rows of other settings stay in the file.

    Args:
        config: the experiment.
        folder: is made where it is missing.
        num_workers: processes, each on one thread. The numbers are the same with any number.
        prepare: each of several processes calls it first, such as to keep libraries quiet.

    Raises:
        UserError: the folder cannot be written, another command works in it, or a base cannot be made.
    """
    cells = {cell.key: cell for cell in cells_of(config)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made ({error_reason(error)}). Name another place.") from None
    path = folder / _ROWS
    with hold(folder / ".barrier.lock", folder):
        with RowWriter(path) as writer:  # before reading: it drops an unfinished last line
            kept = {row.key: row for row in read_rows(path, BarrierRow)}
            missing = [cell for key, cell in cells.items() if key not in kept]
            write_atomically(folder / "barrier.json", pretty_json(config))
            if missing:
                with workers(min(num_workers, len(missing)), prepare) as results:
                    _make_bases(missing, results)
                    kept |= _compute(missing, results, writer, num_done=len(cells) - len(missing))
        rows = [kept[key] for key in cells]
        write_rows(path, [*rows, *(row for key, row in kept.items() if key not in cells)])
    return rows


def _make_bases(cells: list[Cell], results: Results) -> None:
    """Make all bases: first what the plants of a world share, so that no two processes make the same."""
    shared = {(cell.world.seed, cell.pretrain.seed): cell for cell in cells}
    bases = {(cell.world, cell.pretrain): cell for cell in cells}
    for name, make, wanted in (("general", general_folder, shared), ("planted", base_folder, bases)):
        with progress.task(f"Bases, {name} phase", total=len(wanted)) as task:
            for _ in results(functools.partial(_base, make), list(wanted.values())):
                task.advance(1)


def _base(make: Callable[[PlantedConfig, PretrainConfig], Path], cell: Cell) -> None:
    make(cell.world, cell.pretrain)


def _compute(cells: list[Cell], results: Results, writer: RowWriter, *, num_done: int) -> dict[str, BarrierRow]:
    labels = {cell.key: cell.label for cell in cells}
    rows = {}
    with progress.task("Cells", total=num_done + len(cells), done=num_done) as task:
        for row in results(compute_cell, cells):
            writer.write([row])
            rows[row.key] = row
            reached = "diverged" if row.gauges is None else f"Pass@1 {row.gauges.unseen.pass_at_1:.3f}"
            progress.say(f"{labels[row.key]}: {reached} ({row.seconds:.0f} s)")
            task.advance(1)
    return rows


def compute_cell(cell: Cell) -> BarrierRow:
    """Fine-tune a cell's model from its base, which is made if the cache does not have it, and measure it."""
    folder = base_folder(cell.world, cell.pretrain)
    start = time.monotonic()
    world = _world(cell.world)
    model, tokenizer = load_base(folder)
    row = BarrierRow(key=cell.key, world_seed=cell.world.seed, dose=cell.dose, seconds=0.0)
    if (tuning := cell.finetuning) is not None:
        texts = training_texts(world, tuning.data)
        gradients = compare_gradients(model, tokenizer, texts, example_texts(world, world.dev))
        trained = finetune(model, tokenizer, texts, tuning.objective, tuning.config)
        model = trained.model
        row = msgspec.structs.replace(
            row,
            arm=tuning.objective.arm,
            data=tuning.data,
            schedule=tuning.config.schedule,
            learning_rate=tuning.config.learning_rate,
            training_seed=tuning.config.seed,
            training_loss=trained.loss if math.isfinite(trained.loss) else None,
            gradients=gradients,
        )
    is_finite = all(bool(parameter.isfinite().all()) for parameter in model.parameters())
    measured = gauge(model, tokenizer, world) if is_finite else None
    if measured is not None and not _is_defined(measured):
        measured = None
    return msgspec.structs.replace(row, gauges=measured, seconds=round(time.monotonic() - start, 1))


def _is_defined(measured: Gauges) -> bool:
    """Decide whether every chance is a number: weights that are finite can be so large that their logits are not."""
    chances: list[float | None] = [
        skill.pass_at_1 for skill in (measured.seen, measured.unseen, *measured.general.values())
    ]
    for row in (*measured.recitation, *measured.canaries):
        chances += [row.from_cue, row.from_docstring, row.from_prefix, row.seen, row.obeys_docstring, row.obeys_cue]
    # JSON has no NaN: it would be written as null, and the file could not be read again.
    return all(math.isfinite(chance) for chance in chances if chance is not None)
