"""Finished runs beside each other: which are repetitions, what differs, and what is refused."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from ibft.artifacts.json_lines import write_rows
from ibft.artifacts.rows import Result
from ibft.cli import main
from ibft.errors import UserError
from ibft.run.recipe import dump_recipe, load_recipe
from ibft.stages.compare import compare_runs

NUM_PROBLEMS, NUM_SAMPLES = 40, 4


def make_run(
    folder: Path,
    seed: int,
    chances: dict[str, float],
    settings: Sequence[str] = (),
    *,
    num_problems: int = NUM_PROBLEMS,
    status: str = "failed",
) -> Path:
    """A finished run whose arms pass with these chances, as far as a comparison reads one."""
    run = folder / f"run{len(list(folder.glob('run*')))}"
    run.mkdir(parents=True)
    arms = [arm for arm in chances if arm != "base"] or ["ft"]
    (run / "recipe.yaml").write_text(yaml.safe_dump({"name": run.name, "seed": seed, "objective": arms}))
    (run / "recipe.yaml").write_text(dump_recipe(load_recipe(run / "recipe.yaml", settings)))
    rng = random.Random(f"{seed} {chances} {settings}")
    for arm, chance in chances.items():
        rows = [
            Result(task_id=f"t{n}", completion="", result="", passed=rng.random() < chance, status=status)  # type: ignore[arg-type]
            for n in range(num_problems)
            for _ in range(NUM_SAMPLES)
        ]
        (run / "judge" / arm).mkdir(parents=True)
        write_rows(run / "judge" / arm / "results.jsonl", rows)
    return run


def test_runs_that_differ_in_their_seed_are_repetitions(tmp_path: Path) -> None:
    runs = [make_run(tmp_path, seed, {"base": 0.2, "ft": 0.5, "ib": 0.52}) for seed in range(3)]
    found = compare_runs(runs)
    assert [condition.name for condition in found.conditions] == ["base", "ft", "ib"]
    assert [list(condition.by_seed) for condition in found.conditions] == [[0, 1, 2]] * 3
    assert found.conditions[0].runs == {seed: str(run) for seed, run in enumerate(runs)}
    decided = {(pair.better, pair.other): pair.is_separated for pair in found.differences}
    assert decided[("ft", "base")]
    assert decided[("ib", "base")]
    assert not {*decided} >= {("ib", "ft"), ("ft", "ib")}
    assert not decided.get(("ib", "ft"), decided.get(("ft", "ib")))
    assert all(pair.num_seeds == 3 and pair.num_problems == NUM_PROBLEMS for pair in found.differences)


def test_settings_make_conditions_and_name_them(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path, seed, {"base": 0.2, "ft": 0.3 + 0.3 * (rate > 1e-4)}, [f"train.learning_rate={rate}"])
        for seed in range(2)
        for rate in (1e-4, 4e-4)
    ]
    found = compare_runs(runs, arms=["ft"])
    assert [condition.name for condition in found.conditions] == [
        "ft (train.learning_rate=0.0001)",
        "ft (train.learning_rate=0.0004)",
    ]
    # The base is not trained, so that the rate changes nothing in it, and each seed occurs twice.
    with pytest.raises(UserError, match=r"same arm base with the same seed 0.*--arms"):
        compare_runs(runs)


def test_what_does_not_matter_makes_no_condition(tmp_path: Path) -> None:
    a = make_run(tmp_path, 0, {"ft": 0.3, "ib": 0.3}, ["judge.workers=1", "scan.max_shown=3"])
    b = make_run(tmp_path, 1, {"ft": 0.3, "ib": 0.3}, ["judge.workers=2"])
    assert [len(condition.by_seed) for condition in compare_runs([a, b]).conditions] == [2, 2]


def test_other_metrics(tmp_path: Path) -> None:
    runs = [make_run(tmp_path, seed, {"ft": 0.5, "ib": 0.5}) for seed in range(2)]
    [all_of_two] = [one for one in compare_runs(runs, metric="pass@2^(2)").conditions if one.name == "ft"]
    assert 0.15 < all_of_two.mean < 0.35
    for metric in ("pass@0", "pass@2^(3)", "Pass@1"):
        with pytest.raises(UserError, match="expected pass@K"):
            compare_runs(runs, metric=metric)
    with pytest.raises(UserError, match=r"pass@5 is undefined: .*run0, ft: "):
        compare_runs(runs, metric="pass@5")


def test_problems_that_are_not_everywhere_are_left_out_and_named(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path, 0, {"ft": 0.3, "ib": 0.3}),
        make_run(tmp_path, 1, {"ft": 0.3, "ib": 0.3}, num_problems=38),
    ]
    found = compare_runs(runs)
    assert found.left_out == dict.fromkeys(("t38", "t39"), f"not in {runs[1]}, ib")
    assert found.differences[0].num_problems == 38


def test_what_is_refused_says_what_to_do(tmp_path: Path) -> None:
    run = make_run(tmp_path, 0, {"ft": 0.3})
    with pytest.raises(UserError, match=r"nothing to compare: 1 condition \(ft\)"):
        compare_runs([run, run])
    with pytest.raises(UserError, match="is not a run's folder"):
        compare_runs([tmp_path])
    with pytest.raises(UserError, match="no run has a judged arm 'tf'"):
        compare_runs([make_run(tmp_path, 0, {"ft": 0.3, "ib": 0.3})], arms=["ft", "ib", "tf"])
    empty = make_run(tmp_path, 0, {})
    with pytest.raises(UserError, match="has no judged arm"):
        compare_runs([empty])
    failed = make_run(tmp_path, 1, {"ft": 0.3}, status="infrastructure_error")
    with pytest.raises(UserError, match="the sandbox failed on 160 of 160 samples"):
        compare_runs([run, failed])


def test_the_verb(tmp_path: Path) -> None:
    runs = [str(make_run(tmp_path, seed, {"ft": 0.3, "ib": 0.38})) for seed in range(3)]
    shown = CliRunner().invoke(main, ["compare", *runs], env={"COLUMNS": "200"})
    assert shown.exit_code == 0, shown.output
    assert "condition  seeds  pass@1" in shown.output
    assert "3 seeds, 40 problems" in shown.output
    read = CliRunner().invoke(main, ["compare", *runs, "--json"])
    assert len(json.loads(read.output)["differences"][0]["by_seed"]) == 3
    alone = CliRunner().invoke(main, ["compare", runs[0]], env={"COLUMNS": "200"})
    assert "With one seed nothing is said about other seeds" in alone.output
