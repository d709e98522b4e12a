import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ibft.artifacts.json_lines import write_rows
from ibft.artifacts.rows import Sample
from ibft.cli import main
from ibft.run.folder import RunFolder
from ibft.run.recipe import load_recipe


def ibft(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_every_verb_has_help() -> None:
    listed = ibft("--help").output
    for verb in (
        "run",
        "scan",
        "rescan",
        "train",
        "generate",
        "judge",
        "report",
        "init",
        "doctor",
        "leakage",
        "prune",
        "canary",
        "export",
        "scale",
    ):
        assert verb in listed
        assert ibft(verb, "--help").exit_code == 0


def test_the_help_lists_every_verb_once_and_cuts_no_sentence() -> None:
    for path, group in [
        ((), main),
        *(((name,), one) for name, one in main.commands.items() if hasattr(one, "commands")),
    ]:
        lines = ibft(*path, "--help").output.splitlines()
        for name in [name for name, verb in group.commands.items() if not verb.hidden]:
            assert sum(line.startswith(f"  {name}  ") for line in lines) == 1, name
        assert not any(line.endswith("...") for line in lines if not line.startswith("Usage:"))


@pytest.mark.parametrize(("verb", "option"), [("scan", "--full"), ("train", "--full"), ("report", "--overwrite")])
def test_no_verb_has_an_option_without_effect(verb: str, option: str) -> None:
    assert "no such option" in ibft(verb, "r.yaml", option).output.lower()


def test_a_remedy_keeps_its_brackets(monkeypatch: pytest.MonkeyPatch) -> None:
    from ibft.cli import doctor

    missing = doctor.Check("trl", False, "pip install 'ibft[train]'", "train [all of it]")
    monkeypatch.setattr(doctor, "check_machine", lambda: [missing])
    output = ibft("doctor").output
    assert "'ibft[train]'" in output
    assert "train [all of it]" in output


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["recipe.yaml", "--help"]])
def test_the_judges_help_has_its_options_and_its_subcommand(arguments: list[str]) -> None:
    shown = ibft("judge", *arguments).output
    assert shown.startswith("Usage: main judge [OPTIONS] [RECIPE]\n")
    for word in ("--samples", "--write", "diff", "Compare two files of results, problem by problem."):
        assert word in shown
    assert "judge run" not in shown
    assert "Usage: main judge diff [OPTIONS] A B" in ibft("judge", "diff", "--help").output


def test_help_and_judging_load_no_heavy_library() -> None:
    code = (
        "import sys; import ibft.cli, ibft.stages.judge, ibft.stages.report, ibft.run.recipe, ibft.run.folder\n"
        "heavy = {'torch', 'transformers', 'trl', 'peft', 'datasets', 'accelerate', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_init_writes_a_recipe_that_loads_and_overwrites_nothing(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    assert ibft("init", path).exit_code == 0
    assert load_recipe(path).arms == ("base", "ft", "ib")
    again = ibft("init", path)
    assert again.exit_code == 2
    assert "exists already" in again.output


def test_init_makes_a_world_that_its_own_recipe_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small = ("--set", "num_train=80", "--set", "num_test=5", "--set", "num_dev=3")
    assert ibft("init", "--world", "chains", *small).exit_code == 0
    recipe = load_recipe("chains/recipe.yaml")
    assert len(Path(recipe.data.train).read_text().splitlines()) == 80
    checked = ibft("problems", "check", recipe.problems.source)
    assert "5 of 5 problems can be judged, 0 of them inside" in checked.output
    again = ibft("init", "--world", "chains", *small)
    assert again.exit_code == 2
    assert "exists already" in again.output
    assert ibft("init", "--world", "chains", "other.yaml", *small).exit_code == 0
    assert load_recipe("other.yaml").data.train == "other/train.jsonl"
    assert (tmp_path / "other" / "train.jsonl").read_bytes() == (tmp_path / "chains" / "train.jsonl").read_bytes()


def test_init_leaves_what_is_there_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "dev.jsonl").write_text("mine")
    assert ibft("init", "--world", "chains", tmp_path, "--set", "num_train=80").exit_code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["dev.jsonl"]
    assert (tmp_path / "dev.jsonl").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--set", "seed=1"), "Add --world chains"),
        (("--world", "chains", "--set", "depth=3"), "--set: unknown key depth. Did you mean m"),
        (("--world", "chains", "--set", "seed"), "expected KEY=VALUE"),
        (("--world", "chains", "--set", "num_train=0"), "--set: num_train is 0: Expected `int` >= 1"),
        (("--world", "chains", "--set", "num_phrasings=many"), "num_phrasings is 'many': Expected `int`"),
        (("--world", "chains", "--set", "min_depth=5"), "min_depth is 5 and max_depth 4"),
        (("--world", "lines"), "'lines' is not one of 'chains', 'planted'"),
    ],
)
def test_settings_of_a_world_are_checked(arguments: tuple[str, ...], expected: str, tmp_path: Path) -> None:
    result = ibft("init", tmp_path / "new", *arguments)
    assert result.exit_code == 2
    assert expected in result.output
    assert not (tmp_path / "new").exists()


def test_doctor_names_what_is_there() -> None:
    output = ibft("doctor").output
    for what in ("Python", "torch", "GPU", "bwrap", "iverilog"):
        assert what in output


@pytest.mark.parametrize("verb", ["run", "scan", "rescan", "train", "generate", "judge", "report"])
def test_a_missing_recipe_is_one_sentence_and_exit_code_2(verb: str, tmp_path: Path) -> None:
    result = ibft(verb, tmp_path / "none.yaml")
    assert result.exit_code == 2
    assert "Error:" in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize("verb", ["run", "train"])
def test_a_layer_out_of_range_is_noticed_before_any_work(verb: str, tiny_model_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(f"model: {{name: {tiny_model_folder}}}\nobjective: [ft, ib]\noutput: {tmp_path / 'runs'}\n")
    result = ibft(verb, path)
    assert result.exit_code == 2
    assert "layer must be from 1 to 3" in result.output
    assert not list((tmp_path / "runs" / "recipe").glob("*/"))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["judge"], "judge needs a RECIPE"),
        (["judge", "--problems", "humaneval"], "judge needs a RECIPE"),
        (["judge", "x.yaml", "--problems", "humaneval"], "not both"),
        (["judge", "--problems", "humaneval", "--samples", "none.jsonl", "--out", "o", "--k", "1,x"], "--k 1,x"),
        (["judge", "--problems", "humaneval", "--samples", "none.jsonl", "--out", "o"], "none.jsonl"),
        (["judge", "--problems", "nonsense", "--samples", "none.jsonl", "--out", "o"], "nonsense"),
    ],
)
def test_mistakes_at_the_judge_are_one_sentence(
    arguments: list[str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = ibft(*arguments)
    assert result.exit_code == 2
    assert expected in result.output


def test_problems_without_tests_are_refused(tmp_path: Path) -> None:
    (tmp_path / "problems.jsonl").write_text('{"task_id": "t/0", "prompt": "", "tests": " "}\n')
    (tmp_path / "samples.jsonl").write_text('{"task_id": "t/0", "completion": "x = 1"}\n')
    arguments = ("--problems", tmp_path / "problems.jsonl", "--samples", tmp_path / "samples.jsonl", "--out", tmp_path)
    result = ibft("judge", *arguments)
    assert result.exit_code == 2
    assert "empty tests" in result.output


def test_a_file_of_samples_is_judged_and_the_figures_are_right(tmp_path: Path) -> None:
    problem = {
        "task_id": "t/0",
        "prompt": "def one():\n",
        "tests": "def check(f):\n    assert f() == 1\n",
        "entry_point": "one",
    }
    (tmp_path / "problems.jsonl").write_text(json.dumps(problem) + "\n")
    samples = [{"task_id": "t/0", "completion": f"    return {value}\n"} for value in (1, 2, 1, 1)]
    (tmp_path / "samples.jsonl").write_text("".join(json.dumps(sample) + "\n" for sample in samples))
    result = ibft(
        "judge", "--problems", tmp_path / "problems.jsonl", "--samples", tmp_path / "samples.jsonl",
        "--out", tmp_path / "out", "--k", "1,2,5",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (metrics["num_problems"], metrics["num_samples"]) == (1, 4)
    assert metrics["metrics"]["pass@1"]["value"] == 0.75
    assert metrics["metrics"]["pass@2^(2)"]["value"] == 0.5
    assert metrics["metrics"]["pass@5"]["value"] is None
    assert metrics["metrics"]["pass@5"]["reason"]
    rows = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    assert [row["passed"] for row in rows] == [True, False, True, True]
    assert "75.0%" in result.output


@pytest.mark.parametrize("strict", [False, True])
def test_a_hollow_run_is_said_first_and_fails_where_it_is_asked_to(tmp_path: Path, strict: bool) -> None:
    (tmp_path / "problems.jsonl").write_text('{"task_id": "t", "prompt": "def f():\\n", "tests": "assert f() == 1"}\n')
    rows = [{"task_id": "t", "completion": text} for text in ("", " ", "prose only\n", "    return 1\n")]
    (tmp_path / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = ibft(
        "judge", "--problems", tmp_path / "problems.jsonl", "--samples", tmp_path / "samples.jsonl",
        "--out", tmp_path / "out", "--k", "1", *(["--strict"] if strict else []),
    )  # fmt: skip
    assert result.exit_code == (1 if strict else 0), result.output
    shown = " ".join(result.stdout.replace("│", " ").split())
    assert (
        shown.index("HOLLOW RUN: samples.jsonl") < shown.index("3 of 4 samples hold no program") < shown.index("pass@1")
    )
    assert "HOLLOW" in result.stdout.splitlines()[0]
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["hollow"]["num_empty"] == 2
    assert (tmp_path / "out" / "results.jsonl").exists()


@pytest.mark.parametrize("strict", [False, True])
def test_a_hollow_arm_is_said_and_fails_where_it_is_asked_to(tmp_path: Path, strict: bool) -> None:
    (tmp_path / "problems.jsonl").write_text('{"task_id": "t", "prompt": "def f():\\n", "tests": "assert f() == 1"}\n')
    path = tmp_path / "recipe.yaml"
    path.write_text(
        f"output: {tmp_path / 'runs'}\nobjective: [ft]\nproblems: {{source: {tmp_path / 'problems.jsonl'}}}\n"
        "report: {k: [1]}\nprompt: {template: plain}\n"
    )
    run = RunFolder(load_recipe(path))
    for arm, text in (("base", ""), ("ft", "    return 1\n")):
        with run.stage(f"generate/{arm}", {}).work() as folder:
            write_rows(folder / "samples.jsonl", [Sample(task_id="t", completion=text)])
    result = ibft("judge", path, "--write", "rows", *(["--strict"] if strict else []))
    assert result.exit_code == (1 if strict else 0), result.output
    assert "HOLLOW RUN: base" in result.stdout
    assert "HOLLOW RUN: ft" not in result.stdout
    assert (run.path / "judge/ft/metrics.json").exists()
    row = json.loads((run.path / "judge/ft/rows.jsonl").read_text())
    assert (row["arm"], row["seed"], row["task_id"], row["n"], row["c"]) == ("ft", 0, "t", 1, 1)
    reported = ibft("report", path)
    assert "HOLLOW RUN: base" in reported.stdout.splitlines()[0]


def judged(folder: Path, *options: str, reference: str = "return 1", answer: str = "return 1") -> Result:
    problem = {"task_id": "t", "prompt": "def f():\n", "tests": "assert f() == 1", "entry_point": "f"}
    problem["canonical_solution"] = f"    {reference}\n"
    (folder / "problems.jsonl").write_text(json.dumps(problem) + "\n")
    (folder / "samples.jsonl").write_text(json.dumps({"task_id": "t", "completion": f"    {answer}\n"}) + "\n")
    return ibft(
        "judge", "--problems", folder / "problems.jsonl", "--samples", folder / "samples.jsonl",
        "--out", folder / "out", "--k", "1", "--no-cache", *options,
    )  # fmt: skip


def test_exit_codes(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    assert judged(tmp_path / "a", answer="return 2").exit_code == 0  # judged, and wrong
    result = judged(tmp_path, reference="return 2")
    assert result.exit_code == 1
    shown = " ".join(result.stdout.replace("│", " ").split())
    assert "NOTHING COULD BE JUDGED: samples.jsonl" in shown
    assert "(first: t: failed: AssertionError: assert f() == 1)" in shown
    assert (tmp_path / "out" / "results.jsonl").exists()
    assert judged(tmp_path, "--write", "json").exit_code == 2


def test_a_run_of_which_nothing_can_be_judged_fails(tmp_path: Path) -> None:
    problem = {
        "task_id": "t",
        "prompt": "def f():\n",
        "tests": "assert f() == 1",
        "canonical_solution": "    return 2\n",
    }
    (tmp_path / "problems.jsonl").write_text(json.dumps(problem) + "\n")
    path = tmp_path / "recipe.yaml"
    path.write_text(
        f"output: {tmp_path / 'runs'}\nobjective: [ft]\nproblems: {{source: {tmp_path / 'problems.jsonl'}}}\n"
        "report: {k: [1]}\nprompt: {template: plain}\n"
    )
    run = RunFolder(load_recipe(path))
    for arm in ("base", "ft"):
        with run.stage(f"generate/{arm}", {}).work() as folder:
            write_rows(folder / "samples.jsonl", [Sample(task_id="t", completion="    return 1\n")])
    result = ibft("judge", path)
    assert result.exit_code == 1
    assert all(f"NOTHING COULD BE JUDGED: {arm}" in result.stdout for arm in ("base", "ft"))


def test_results_for_other_tools(tmp_path: Path) -> None:
    result = judged(tmp_path, "--write", "rows, human-eval,inspect")
    assert result.exit_code == 0, result.output
    written = {"results.jsonl", "metrics.json", "rows.jsonl", "human_eval_results.jsonl", "inspect_log.json"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == written | {"stage.json"}
    assert all(name in result.output for name in written)
    row = json.loads((tmp_path / "out" / "rows.jsonl").read_text())
    assert (row["arm"], row["seed"], row["n"], row["c"]) == ("samples", None, 1, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--packages", "no_such_thing"],
            "'no_such_thing' is not installed. Install it with `pip install no_such_thing`",
        ),
        (["--memory", "0"], "--memory"),
        (
            ["--write", "xml"],
            "--write xml: not a form that is written. Choose among evalplus, human-eval, inspect, rows",
        ),
    ],
)
def test_options_of_judging_that_are_refused(tmp_path: Path, options: list[str], message: str) -> None:
    result = judged(tmp_path, *options)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert not (tmp_path / "out").exists()


def test_memory_is_a_limit_of_samples(tmp_path: Path) -> None:
    answer = "x = bytes(900 << 20); return 1"
    for memory, status in (("512", "memory"), ("2048", "passed")):
        assert judged(tmp_path, "--memory", memory, answer=answer).exit_code == 0
        row = json.loads((tmp_path / "out" / "results.jsonl").read_text())
        assert row["status"] == status
        shutil.rmtree(tmp_path / "out")


@pytest.mark.parametrize("option", [["--extract", "none"]])
def test_what_no_recipe_can_say_is_not_for_a_recipe(tmp_path: Path, option: list[str]) -> None:
    result = ibft("judge", tmp_path / "recipe.yaml", *option)
    assert result.exit_code == 2
    assert f"{option[0]} goes with --samples only." in result.output
    assert "--set" not in result.output


@pytest.mark.parametrize(
    ("option", "key", "setting"),
    [
        (["--workers", "3"], "judge.workers", "judge.workers=NUMBER"),
        (["--sandbox", "none"], "judge.sandbox", "judge.sandbox=LEVEL"),
        (["--k", "1"], "report.k", "report.k=[K,K]"),
        (["--timeout", "2"], "judge.timeout_s", "judge.timeout_s=SECONDS"),
        (["--no-cache"], "judge.cache", "judge.cache=false"),
        (["--memory", "512"], "judge.memory_mib", "judge.memory_mib=MIB"),
        (["--packages", "pytest"], "judge.packages", "judge.packages=[NAME,NAME]"),
        (["--threads"], "judge.threads", "judge.threads=true"),
    ],
)
def test_an_option_of_samples_names_the_key_of_a_recipe(
    tmp_path: Path, option: list[str], key: str, setting: str
) -> None:
    path = tmp_path / "recipe.yaml"
    result = ibft("judge", path, *option)
    assert result.exit_code == 2
    output = result.output.replace("\n", " ")
    assert f"{option[0]} goes with --samples. With a RECIPE, set {key} in {path}, or for once with" in output
    assert f"--set {setting}." in output
    # The key is one: with a value of its kind the recipe takes it.
    values = {
        "NUMBER": "3",
        "LEVEL": "none",
        "[K,K]": "[1,5]",
        "SECONDS": "2",
        "false": "false",
        "true": "true",
        "MIB": "512",
        "[NAME,NAME]": "[pytest]",
    }
    value = values[setting.partition("=")[2]]
    path.write_text("problems: {source: humaneval}\n")
    load_recipe(path, [f"{key}={value}"])


def test_judge_compares_two_files_of_results(tmp_path: Path) -> None:
    for name, passed in (("a", "false"), ("b", "true")):
        row = '{"task_id": "t", "completion": "", "result": "", "passed": %s}\n'
        (tmp_path / f"{name}.jsonl").write_text(row % passed)
    result = ibft("judge", "diff", tmp_path / "a.jsonl", tmp_path / "b.jsonl")
    assert result.exit_code == 0
    assert "+100.0" in result.output
    assert "1 improved: t (0/1 to 1/1)" in result.output


def test_problems_check_names_what_is_broken(tmp_path: Path) -> None:
    rows = [
        '{"task_id": "good", "prompt": "", "tests": "assert f() == 1", "canonical_solution": "f = lambda: 1"}\n',
        '{"task_id": "bad", "prompt": "", "tests": "assert f() == 1", "canonical_solution": "f = lambda: 2"}\n',
    ]
    (tmp_path / "problems.jsonl").write_text("".join(rows))
    result = ibft("problems", "check", tmp_path / "problems.jsonl")
    assert result.exit_code == 1
    assert "bad: failed: AssertionError: assert f() == 1" in result.output
    assert "1 of 2 problems can be judged, 0 of them inside." in result.output


def test_options_that_would_do_nothing_are_refused(tmp_path: Path) -> None:
    result = ibft("judge", tmp_path / "recipe.yaml", "--workers", "3")
    assert result.exit_code == 2
    assert "--workers goes with --samples" in result.output
