"""The barrier experiment: its cells, its rows bit for bit, what a kill loses, and what the command refuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from ibft.artifacts.barrier import BarrierRow
from ibft.artifacts.json_lines import read_rows
from ibft.cli import main
from ibft.errors import UserError
from ibft.lab import barrier_run
from ibft.lab.barrier import BarrierConfig, Cell, cells_of, read_settings
from ibft.lab.barrier_run import run_barrier

QUICK = [
    "world.num_train=24",
    "world.num_dev=6",
    "world.num_test=12",
    "world.num_general=4",
    "pretrain.general_steps=4",
    "pretrain.planted_steps=4",
    "pretrain.batch_size=16",
    "doses=[0,2]",
    "world_seeds=[0]",
    "learning_rates=[1e-3]",
    "steps=3",
    "batch_size=8",
]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IBFT_CACHE", str(folder))
        yield folder


def rows_in(folder: Path) -> list[BarrierRow]:
    """The rows without their times, which are those of the machine."""
    return [msgspec.structs.replace(row, seconds=0.0) for row in read_rows(folder / "rows.jsonl", BarrierRow)]


def without_times(rows: list[BarrierRow]) -> list[BarrierRow]:
    return [msgspec.structs.replace(row, seconds=0.0) for row in rows]


@pytest.fixture(scope="module")
def whole(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[BarrierRow]]:
    """The quick experiment, run once from beginning to end in one process."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, run_barrier(read_settings(QUICK), folder, num_workers=1)


def test_the_cells_are_the_grid_in_a_fixed_order() -> None:
    config = BarrierConfig(world_seeds=(3, 5), training_seeds=(0, 1), schedules=("constant", "linear"))
    cells = cells_of(config)
    assert cells == cells_of(config)
    trained = [cell for cell in cells if cell.finetuning is not None]
    assert len(cells) - len(trained) == 2 * 3  # a base for each world and dose
    assert len(trained) == 2 * 3 * 2 * 2 * 3 * 2
    assert len({cell.key for cell in cells}) == len(cells)
    assert [cell.world.seed for cell in cells] == sorted(cell.world.seed for cell in cells)
    for cell in cells:
        assert cell.pretrain.seed == cell.world.seed
        assert cell.world.plant.doses == (cell.dose,)
    (base, first, *_) = cells
    assert (base.dose, base.finetuning) == (0, None)
    assert first.finetuning is not None
    assert (first.finetuning.data, first.finetuning.config.learning_rate) == ("planted", 1e-3)
    assert first.label == "world 3, 0 repetitions, ft on planted data, 0.001 constant, seed 0"


def test_the_default_is_three_doses_three_rates_two_worlds_and_a_control() -> None:
    trained = [cell for cell in cells_of(BarrierConfig()) if cell.finetuning is not None]
    assert len(trained) == 3 * 3 * 2 * 2
    assert {cell.finetuning.config.schedule for cell in trained if cell.finetuning} == {"constant"}


def test_every_setting_is_part_of_a_cells_key() -> None:
    def keys(*settings: str) -> set[str]:
        return {cell.key for cell in cells_of(read_settings([*QUICK, *settings]))}

    plain = keys()
    for setting in (
        "steps=4",
        "batch_size=4",
        "lora.rank=4",
        "schedules=[linear]",
        "training_seeds=[1]",
        "arms=[{name: ib, alpha: 2, layer: 2}]",
        "learning_rates=[2e-3]",
        "world.num_phrasings=2",
    ):
        # The bases are the same where the setting is of the fine-tuning alone.
        assert len(plain & keys(setting)) == (0 if setting.startswith("world") else 2), setting
    assert plain < keys("learning_rates=[1e-3,2e-3]", "doses=[0,1,2]")


def test_rows_are_the_cells_and_the_same_with_any_number_of_workers(
    whole: tuple[Path, list[BarrierRow]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, rows = whole
    cells = cells_of(read_settings(QUICK))
    assert [row.key for row in rows] == [cell.key for cell in cells]
    assert rows_in(folder) == without_times(rows)
    base, planted, fresh = rows[3:]
    assert (base.dose, base.arm, base.training_loss, base.gradients) == (2, None, None, None)
    assert (planted.dose, planted.arm, planted.data, planted.learning_rate) == (2, "ft", "planted", 1e-3)
    assert fresh.data == "fresh"
    assert planted.gradients is not None
    assert planted.gradients.cosine is not None
    assert -1 < planted.gradients.cosine < 1
    assert planted.gauges is not None
    assert planted.gauges.recitation[0].repetitions == 2
    assert planted.gauges != fresh.gauges
    # Everything again, bases included.
    monkeypatch.setenv("IBFT_CACHE", str(tmp_path / "another cache"))
    run_barrier(read_settings(QUICK), tmp_path / "again", num_workers=2)
    assert rows_in(tmp_path / "again") == without_times(rows)
    assert (tmp_path / "again" / "barrier.json").read_bytes() == (folder / "barrier.json").read_bytes()


def test_what_is_there_is_not_computed_again(
    whole: tuple[Path, list[BarrierRow]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, rows = whole
    lines = (folder / "rows.jsonl").read_bytes().splitlines(keepends=True)
    foreign = json.loads(lines[0]) | {"key": "of other settings"}
    # As a kill leaves it: some rows, not in their order, and half of another.
    rest = [lines[4], json.dumps(foreign).encode() + b"\n", lines[1], lines[2][:100]]
    (tmp_path / "rows.jsonl").write_bytes(b"".join(rest))
    computed: list[Cell] = []
    compute = barrier_run.compute_cell
    monkeypatch.setattr(barrier_run, "compute_cell", lambda cell: (computed.append(cell), compute(cell))[1])
    resumed = run_barrier(read_settings(QUICK), tmp_path, num_workers=1)
    assert [cell.key for cell in computed] == [rows[number].key for number in (0, 2, 3, 5)]
    assert without_times(resumed) == without_times(rows)
    assert [row.key for row in rows_in(tmp_path)] == [*(row.key for row in rows), "of other settings"]
    before = (tmp_path / "rows.jsonl").read_bytes()
    run_barrier(read_settings(QUICK), tmp_path, num_workers=1)
    assert len(computed) == 4
    assert (tmp_path / "rows.jsonl").read_bytes() == before


def test_a_cell_that_diverged_has_no_gauges(tmp_path: Path) -> None:
    rows = run_barrier(
        read_settings([*QUICK, "doses=[2]", "learning_rates=[1e30]", "data=[planted]"]), tmp_path, num_workers=1
    )
    base, diverged = rows
    assert base.gauges is not None
    assert (diverged.gauges, diverged.training_loss) == (None, None)
    assert rows_in(tmp_path) == without_times(rows)


def test_finite_weights_whose_chances_are_undefined_have_diverged_and_the_rows_can_be_read(tmp_path: Path) -> None:
    # The first step of warm-up moves nothing, so the second and last one makes the weights large, and none is NaN yet.
    settings = [*QUICK, "doses=[2]", "steps=2", "learning_rates=[1e20]", "data=[planted]"]
    rows = run_barrier(read_settings(settings), tmp_path, num_workers=1)
    assert rows[0].gauges is not None
    assert rows[1].gauges is None
    assert rows_in(tmp_path) == without_times(rows)


def test_a_worker_that_is_killed_is_a_sentence() -> None:
    from ibft.lab.workers import workers

    with pytest.raises(UserError, match="A worker was killed"), workers(2) as results:
        list(results(os._exit, [9]))


@pytest.mark.slow
def test_a_kill_loses_the_cells_in_work_at_most_and_leaves_no_process(
    whole: tuple[Path, list[BarrierRow]], tmp_path: Path
) -> None:
    arguments = [word for setting in QUICK for word in ("--set", setting)]
    command = [sys.executable, "-m", "ibft.cli", "world", "barrier", str(tmp_path), "--workers", "2", *arguments]
    path = tmp_path / "rows.jsonl"
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        while process.poll() is None and not (path.exists() and path.read_bytes().count(b"\n") >= 2):
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait()
    kept = path.read_bytes().count(b"\n")
    assert kept >= 2
    deadline = time.monotonic() + 30
    while any(_is_alive(int(entry.name), process.pid) for entry in Path("/proc").iterdir() if entry.name.isdecimal()):
        assert time.monotonic() < deadline, "a worker outlives the command"
        time.sleep(0.2)
    resumed = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "barrier.html" in resumed.stdout
    assert rows_in(tmp_path) == without_times(whole[1])
    assert (tmp_path / "barrier.html").is_file()


def _is_alive(pid: int, session: int) -> bool:
    try:
        return os.getsid(pid) == session
    except OSError:
        return False


def test_the_command_writes_page_and_table(whole: tuple[Path, list[BarrierRow]]) -> None:
    folder, _ = whole
    before = signal.getsignal(signal.SIGINT)
    arguments = [word for setting in QUICK for word in ("--set", setting)]
    result = CliRunner().invoke(main, ["world", "barrier", str(folder), "--workers", "1", *arguments])
    assert result.exit_code == 0, result.output
    assert "r = 2, planted, 1e-3 constant" in result.output
    html = (folder / "barrier.html").read_text()
    assert "One world cannot show a barrier" in html
    assert "--set steps=3" in html
    assert (folder / "figures" / "ft-constant-pass-at-1.svg").is_file()
    assert signal.getsignal(signal.SIGINT) == before


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("doses=[]", "doses is []: give at least one"),
        ("doses=[5,5]", "doses is [5, 5]: each must occur once"),
        ("doses=[-1]", "doses.0 is -1"),
        ("world.seed=3", "world.seed is 3: the experiment varies it. Set world_seeds instead"),
        ("pretrain.seed=3", "Set world_seeds instead"),
        ("world.plant.repetitions=7", "Set doses instead"),
        ("arms=[ft,ft]", "arms is ['ft', 'ft']: each must occur once"),
        ("arms=[fft]", "Did you mean ft?"),
        ("data=[stale]", "data.0 is 'stale'"),
        ("learning_rate=1e-3", "Did you mean learning_rates?"),
        ("schedules=[cosine]", "schedules.0 is 'cosine'"),
        ("steps=0", "steps is 0"),
        ("doses=[500]", "doses has 500: that is 12000 planted texts"),
        ("arms=[ft_kl]", "compares with the base, which is the model with its adapter off. Set lora.rank"),
        ("arms=[{name: ib, form: controlled, adaptive: true}]", "weighs examples by a scan"),
        ("arms=[{name: ib, layer: 4}]", "layer must be from 1 to 3"),
    ],
)
def test_what_the_command_refuses_is_a_sentence(setting: str, message: str, tmp_path: Path) -> None:
    arguments = [word for one in (*QUICK, setting) for word in ("--set", one)]
    result = CliRunner().invoke(main, ["world", "barrier", str(tmp_path / "out"), "--workers", "1", *arguments])
    assert result.exit_code == 2, result.output
    assert message in " ".join(result.output.split())
    assert "Traceback" not in result.output


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be made"):
        run_barrier(read_settings(QUICK), tmp_path / "file" / "out", num_workers=1)


def test_two_commands_do_not_work_in_one_folder(tmp_path: Path) -> None:
    from ibft.run.locks import hold

    with hold(tmp_path / ".barrier.lock", tmp_path), pytest.raises(UserError, match="another ibft command is at work"):
        run_barrier(read_settings(QUICK), tmp_path, num_workers=1)
