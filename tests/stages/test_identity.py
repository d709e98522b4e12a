"""What identifies a result, through the command line: what is refused, what is accepted, and what a refusal leaves."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from safetensors.torch import load_file, save_file

from ibft.cli import main
from ibft.run.folder import RunFolder
from ibft.run.sections import ModelConfig
from ibft.stages.identity import data_identity, model_identity

RECIPE: dict[str, Any] = {
    "name": "r",
    "model": {"name": "model", "device": "cpu"},
    "data": {"train": "data.jsonl", "control": "control.jsonl", "max_tokens": 200},
    "scan": {"max_shown": 0, "reference": {"name": "reference", "device": "cpu"}},
    "objective": ["ft"],
    "train": {"max_steps": 1, "batch_size": 2, "batching": "padded", "lora": {"rank": 2}},
    "problems": {"source": "problems.jsonl"},
    "generate": {"num_samples": 2, "max_new_tokens": 2, "temperature": 0.5},
    "report": {"k": [1], "bootstrap_resamples": 50},
}
STAGES = ("scan", "train/ft", "rescan/ft", "generate/base", "generate/ft", "judge/base", "judge/ft")


@pytest.fixture(autouse=True)
def _float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ibft.models.loading._cpu_computes_in_bfloat16", lambda: False)


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def pairs(count: int) -> list[dict[str, Any]]:
    return [{"id": f"f{n}", "prompt": f"def f{n}(a):\n", "completion": f"    return a + {n}\n"} for n in range(count)]


def problems(count: int) -> list[dict[str, Any]]:
    return [
        {"task_id": f"t/{n}", "prompt": f"def f{n}(x):\n", "tests": f"assert f{n}(1) == {n}", "entry_point": f"f{n}"}
        for n in range(count)
    ]


def write_place(folder: Path, model: Path) -> None:
    """A folder with everything that the recipe names."""
    shutil.copytree(model, folder / "model")
    shutil.copytree(model, folder / "reference")
    write_rows(folder / "data.jsonl", pairs(6))
    write_rows(folder / "control.jsonl", pairs(9)[6:])
    write_rows(folder / "problems.jsonl", problems(2))
    (folder / "r.yaml").write_text(yaml.safe_dump(RECIPE))


def ibft(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def done(*arguments: str) -> None:
    result = ibft(*arguments)
    assert result.exit_code == 0, result.output


@pytest.fixture
def place(tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where no run has been made yet."""
    write_place(tmp_path / "place", tiny_model_folder)
    monkeypatch.chdir(tmp_path / "place")
    return tmp_path / "place"


@pytest.fixture(scope="module")
def finished(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("identity") / "place"
    write_place(folder, tiny_model_folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ibft.models.loading._cpu_computes_in_bfloat16", lambda: False)
        patch.chdir(folder)
        done("run", "r.yaml")
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run folder of a finished run, with its recipe, model and data in another place than where it was made."""
    shutil.copytree(finished, tmp_path / "moved")
    monkeypatch.chdir(tmp_path / "moved")
    return Path("runs/r")


def snapshot(folder: Path = Path()) -> dict[str, tuple[int, bytes]]:
    """Every file and folder with the time of its last change and its bytes."""
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in [folder, *folder.rglob("*")]
    }


def refused(*arguments: str) -> str:
    """Run a command that is refused; check that it changed nothing, and return what it says."""
    before = snapshot()
    result = ibft(*arguments)
    assert result.exit_code == 2, result.output
    assert snapshot() == before
    return result.output


def made(run: Path) -> dict[str, int]:
    return {name: (run / name / "stage.json").stat().st_mtime_ns for name in STAGES}


def edit(path: Path, change: Callable[[str], str]) -> None:
    path.write_text(change(path.read_text()))


def edit_weights(folder: Path) -> None:
    """Another training: the same tensors with other values, and not a byte more."""
    path = next(folder.glob("*.safetensors"))
    save_file({name: weight + 0.01 for name, weight in load_file(path).items()}, path, {"format": "pt"})


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


# What is identified by its content


def test_a_finished_run_in_another_place_is_the_same_run(run: Path) -> None:
    before = made(run)
    done("run", "r.yaml")
    where = Path.cwd()
    done(
        "run", "r.yaml", "--set", f"model.name={where / 'model'}", "--set", f"data.train={where / 'data.jsonl'}",
        "--set", f"data.control={where / 'control.jsonl'}", "--set", f"scan.reference.name={where / 'reference'}",
        "--set", f"problems.source={where / 'problems.jsonl'}",
    )  # fmt: skip
    assert made(run) == before


@pytest.mark.parametrize("verb", ["run", "scan", "train", "rescan", "generate"])
def test_another_model_under_the_same_name(run: Path, verb: str) -> None:
    edit_weights(Path("model"))
    stage = {"run": "scan", "rescan": "scan", "train": "train/ft", "generate": "generate/base"}.get(verb, verb)
    assert f"{run / stage} was made from a different recipe (the content of model has changed)" in refused(
        verb, "r.yaml"
    )


def test_a_tokenizer_counts_and_a_model_card_does_not(run: Path) -> None:
    (Path("model") / "README.md").write_text("# A model")
    (Path("model") / ".cache").mkdir()
    done("scan", "r.yaml")
    edit(Path("model") / "tokenizer_config.json", lambda text: text.replace("{", '{"added": 1,', 1))
    assert "the content of model has changed" in refused("scan", "r.yaml")


@pytest.mark.parametrize("name", ["reference", "data.jsonl", "control.jsonl"])
def test_what_else_a_scan_reads(run: Path, name: str) -> None:
    if name == "reference":
        edit_weights(Path(name))
    else:
        edit(Path(name), lambda text: text.replace("return", "yield"))
    assert f"the content of {name} has changed" in refused("scan", "r.yaml")
    before = made(run)
    done("scan", "r.yaml", "--overwrite")
    assert {stage for stage, time in made(run).items() if time != before[stage]} == {"scan"}
    done("scan", "r.yaml")


def test_an_adapter_that_was_trained_by_hand(run: Path) -> None:
    edit_weights(run / "train/ft/adapter")
    for verb, stage in (("generate", "generate/ft"), ("rescan", "rescan/ft"), ("run", "rescan/ft")):
        said = refused(verb, "r.yaml")
        assert f"{run / stage} was made from a different recipe (the content of {run}/train/ft/adapter has" in said
    before = made(run)
    done("generate", "r.yaml", "--overwrite")
    assert {stage for stage, time in made(run).items() if time != before[stage]} == {"generate/ft"}
    done("export", "r.yaml", "--arm", "ft", "--out", "shipped")
    assert "is of another training" in (Path("shipped") / "README.md").read_text()


def test_samples_and_problems_that_were_edited(run: Path) -> None:
    edit(run / "generate/ft/samples.jsonl", lambda text: text.replace("t/0", "t/1"))
    assert f"the content of {run}/generate/ft/samples.jsonl has changed" in refused("judge", "r.yaml")
    shutil.rmtree(run / "judge")
    write_rows(Path("problems.jsonl"), [row | {"prompt": "# Asked otherwise.\n"} for row in problems(2)])
    assert f"{run}/generate/base was made from a different recipe (the content of problems" in refused(
        "judge", "r.yaml"
    )
    said = refused("generate", "r.yaml", "--set", "problems.limit=1")
    assert "(problems: problems.jsonl -> problems.jsonl (limit 1))" in said


def test_judging_and_exporting_do_not_look_at_what_they_do_not_read(run: Path) -> None:
    edit_weights(Path("model"))
    edit(Path("data.jsonl"), lambda text: text.replace("return", "yield"))
    done("judge", "r.yaml")
    done("export", "r.yaml", "--arm", "ft", "--out", "shipped")
    said = refused("export", "r.yaml", "--arm", "ft", "--out", "merged", "--merge")
    assert "the content of model has changed" in said
    assert "model.name: model -> other" in refused("judge", "r.yaml", "--set", "model.name=other")


def test_other_tests_are_judged_again_and_nothing_is_sampled_again(run: Path) -> None:
    write_rows(Path("problems.jsonl"), [row | {"tests": f"assert f{n}(2) == {n}"} for n, row in enumerate(problems(2))])
    done("generate", "r.yaml")
    assert "judge/base was made from a different recipe" in refused("judge", "r.yaml")


def test_a_data_folder(place: Path) -> None:
    """Read without a copy in datasets' own cache, since `max_examples` streams it."""
    Path("folder").mkdir()
    write_rows(Path("folder/data/train.jsonl"), pairs(4))
    sets = ("--set", "data.train=folder", "--set", "data.max_examples=9", "--set", "data.control=null")
    done("train", "r.yaml", *sets)
    done("scan", "r.yaml", *sets)
    shutil.copytree("folder", "elsewhere/again")
    done("train", "r.yaml", *sets, "--set", "data.train=elsewhere/again")
    write_rows(Path("folder/data/train.jsonl"), pairs(5))
    for verb in ("train", "scan", "run"):
        assert "the content of folder has changed" in refused(verb, "r.yaml", *sets)
    done("train", "r.yaml", *sets, "--overwrite")
    assert json.loads(Path("runs/r/train/ft/summary.json").read_text())["examples"] == 5


def test_a_saved_data_set(tmp_path: Path) -> None:
    from datasets import Dataset

    before = []
    for rows in (pairs(3), pairs(4)):
        Dataset.from_list(rows).save_to_disk(str(tmp_path / "saved"))
        before.append(data_identity(str(tmp_path / "saved"))["digest"])
    (tmp_path / "saved" / "cache-0123.arrow").write_bytes(b"what a computed column is kept in")
    assert before[0] != before[1] == data_identity(str(tmp_path / "saved"))["digest"]


def test_names_of_the_hub_are_known_by_their_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    named = ModelConfig(name="owner/name", revision="v1", dtype="float32")
    assert model_identity(named)["digest"] is None
    assert data_identity("owner/pairs")["digest"] is None
    for folder, revision in (("models--owner--name", "v1"), ("datasets--owner--pairs", "main")):
        (tmp_path / folder / "refs").mkdir(parents=True)
        (tmp_path / folder / "refs" / revision).write_text("a" * 40)
    assert model_identity(named)["digest"] == data_identity("owner/pairs")["digest"] == "commit " + "a" * 40
    assert data_identity("owner/pairs@" + "b" * 40)["digest"] == "commit " + "b" * 40
    packaged = model_identity(ModelConfig(name="package:click"))["digest"]
    assert packaged is not None
    assert packaged.startswith("version ")


def test_a_snapshot_of_links_is_its_content(tiny_model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "snapshot").mkdir()
    for path in tiny_model_folder.iterdir():
        (tmp_path / "snapshot" / path.name).symlink_to(path)
    one, other = (
        model_identity(ModelConfig(name=str(name)))["digest"] for name in (tiny_model_folder, tmp_path / "snapshot")
    )
    assert one == other


# What is not part of an identity


def test_transport_device_workers_and_speed_change_nothing(run: Path) -> None:
    before = made(run)
    changes = [
        "model.device=cpu:0", "model.trust_remote_code=true", "model.attention=eager", "scan.batch_tokens=64",
        "generate.batch_size=1", "generate.server.url=http://elsewhere/v1", "generate.server.concurrency=2",
        "generate.server.api_key_env=OTHER", "generate.server.max_retries=9", "generate.server.timeout_s=1",
        "generate.server.models={ft: mine}", "judge.workers=1", "judge.cache=false",
    ]  # fmt: skip
    done("run", "r.yaml", *(word for change in changes for word in ("--set", change)))
    assert made(run) == before


def test_a_servers_answers_are_not_those_of_the_local_model(run: Path) -> None:
    said = refused("generate", "r.yaml", "--set", "generate.backend=server", "--set", "generate.server.model=m")
    assert "generate.backend: local -> server" in said


def test_attention_counts_where_it_chooses_the_batches(place: Path) -> None:
    sets = ("--set", "train.batching=auto")
    done("train", "r.yaml", *sets)
    assert "(model.attention: auto -> eager)" in refused("train", "r.yaml", *sets, "--set", "model.attention=eager")


# The resolved dtype


def inputs_of(run: Path, stage: str) -> Any:
    return json.loads((run / stage / "stage.json").read_text())["inputs"]


def test_the_dtype_is_recorded_as_resolved_and_another_one_is_refused(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert yaml.safe_load((run / "recipe.yaml").read_text())["model"]["dtype"] == "float32"
    assert yaml.safe_load((run / "recipe.yaml").read_text())["scan"]["reference"]["dtype"] == "float32"
    for stage in ("scan", "train/ft", "generate/base"):
        assert inputs_of(run, stage)["model"]["dtype"] == "float32"
    done("run", "r.yaml", "--set", "model.dtype=float32")
    monkeypatch.setattr("ibft.models.loading._cpu_computes_in_bfloat16", lambda: True)
    for verb, stage in (("scan", "scan"), ("train", "train/ft"), ("generate", "generate/base"), ("run", "scan")):
        said = refused(verb, "r.yaml")
        assert f"{run / stage} was made from a different recipe (model.dtype: float32 -> bfloat16)" in said
        assert "set `model.dtype: float32`" in said
    done("judge", "r.yaml")
    done("run", "r.yaml", "--set", "model.dtype=float32", "--set", "scan.reference.dtype=float32")


def test_work_that_was_interrupted_is_not_continued_in_another_dtype(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("ibft.stages.scan._make", interrupted)
        assert ibft("scan", "r.yaml").exit_code == 130
    assert Path("runs/r/scan.partial").exists()
    monkeypatch.setattr("ibft.models.loading._cpu_computes_in_bfloat16", lambda: True)
    assert "scan.partial was made from a different recipe (model.dtype: float32 -> bf" in refused("scan", "r.yaml")


def test_judging_and_reporting_need_no_pytorch_and_keep_the_recorded_dtype(run: Path) -> None:
    shutil.rmtree(run / "judge")
    shutil.rmtree("model")  # nor the model
    program = (
        "import sys; sys.modules['torch'] = sys.modules['transformers'] = None\n"
        "from ibft.cli import main; main(sys.argv[1:])"
    )
    for verb in ("judge", "report"):
        process = subprocess.run([sys.executable, "-c", program, verb, "r.yaml"], capture_output=True, text=True)
        assert process.returncode == 0, process.stderr
    assert yaml.safe_load((run / "recipe.yaml").read_text())["model"]["dtype"] == "float32"
    assert "generate.num_samples: 2 -> 3" in refused("judge", "r.yaml", "--set", "generate.num_samples=3")


# A refused command changes nothing


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["generate", "r.yaml"], "runs/r/train/ft does not exist yet"),
        (["rescan", "r.yaml"], "runs/r/scan does not exist yet"),
        (["judge", "r.yaml"], "runs/r/generate/base does not exist yet"),
        (["report", "r.yaml"], "runs/r"),
        (["scan", "r.yaml", "--set", "data.control=none.jsonl"], "data.control: the file none.jsonl does not exist"),
        (["scan", "r.yaml", "--set", "model.name=./none"], "./none is not a folder"),
        (["scan", "r.yaml", "--set", "model.name=empty"], "model.name: empty cannot be loaded"),
        (["scan", "r.yaml", "--set", "scan.reference.name=empty"], "model.name: empty cannot be loaded"),
        (["train", "r.yaml", "--set", "objective={name: ib, layer: 9}"], "layer must be from 1 to 3"),
        (["run", "r.yaml", "--set", "model.device=cuda:99"], "model.device is 'cuda:99'"),
        (["run", "r.yaml", "--set", "problems.source=none.jsonl"], "none.jsonl"),
        (["run", "r.yaml", "--set", "problems.source=untested.jsonl"], "empty tests"),
        (["run", "r.yaml", "--set", "generate.backend=server"], "no model name for the arm 'base'"),
        (["run", "r.yaml", "--set", "generate.temperatur=1"], "unknown key generate.temperatur"),
        (["run", "r.yaml", "--set", "gpu.name=other"], "gpu.name is 'other'"),
    ],
)  # fmt: skip
def test_what_can_be_known_is_refused_first_and_leaves_no_folder(
    place: Path, arguments: list[str], expected: str
) -> None:
    Path("empty").mkdir()
    write_rows(Path("untested.jsonl"), [row | {"tests": ""} for row in problems(1)])
    assert expected in refused(*arguments)
    assert not Path("runs").exists()


@pytest.mark.parametrize("flags", [[], ["--overwrite"]])
def test_a_refusal_leaves_a_finished_run_as_it_was(run: Path, flags: list[str]) -> None:
    Path("empty").mkdir()
    assert "layer must be" in refused("train", "r.yaml", "--set", "objective={name: ib, layer: 9}", *flags)
    assert "empty cannot be loaded" in refused("scan", "r.yaml", "--set", "model.name=empty", "--overwrite")
    (run / ".lock").unlink()  # as after a copy without hidden files
    assert "does not exist" in refused("run", "r.yaml", "--set", "data.train=none.jsonl", *flags)


def test_the_third_stage_is_refused_before_the_first_runs(run: Path) -> None:
    for stage in ("scan", "train", "rescan"):
        shutil.rmtree(run / stage)
    assert "(generate.temperature: 0.5 -> 1.0)" in refused("run", "r.yaml", "--set", "generate.temperature=1.0")
    assert "judge/base was made" in refused("run", "r.yaml", "--set", "judge.timeout_s=9")
    assert "(train: " in refused("run", "r.yaml", "--set", "train.learning_rate=1e-3")


def test_an_upstream_of_another_recipe_is_refused(run: Path) -> None:
    said = refused("generate", "r.yaml", "--set", "train.learning_rate=1e-3")
    assert f"{run}/train/ft was made from a different recipe (train.learning_rate: 5e-05 -> 0.001)" in said
    assert "`ibft train RECIPE --overwrite`" in said


def test_while_another_command_is_at_work(run: Path) -> None:
    import fcntl

    with (run / ".lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for verb in ("run", "judge", "report"):
            assert "another ibft command is at work" in refused(verb, "r.yaml", "--set", "report.k=[2]")


def test_an_old_result_stays_until_the_new_one_is_complete(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edit(Path("data.jsonl"), lambda text: text.replace("return", "yield"))
    before = snapshot(run / "scan")
    with monkeypatch.context() as patch:
        patch.setattr("ibft.stages.scan._conclude", interrupted)
        assert ibft("scan", "r.yaml", "--overwrite").exit_code == 130
    assert snapshot(run / "scan") == before
    assert (run / "scan.partial" / "scores.parquet").exists()
    done("scan", "r.yaml", "--overwrite")
    assert snapshot(run / "scan") != before
    assert not list(run.glob("scan.*"))


# The gpu: section


@pytest.fixture
def on_gpu(place: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Say whether this machine has a GPU. Models stay on the CPU."""
    edit(Path("r.yaml"), lambda text: text + "gpu: {problems: {limit: 1}, train: {max_steps: 2}}\n")
    return lambda has: monkeypatch.setattr("ibft.models.loading.uses_gpu", lambda config: has)


@pytest.mark.parametrize("made_on_gpu", [True, False])
def test_the_gpu_section_is_decided_when_the_run_is_made(on_gpu: Callable[[bool], None], made_on_gpu: bool) -> None:
    limit = 1 if made_on_gpu else None
    on_gpu(made_on_gpu)
    done("generate", "r.yaml", "--set", "objective=[]")
    assert json.loads(Path("runs/r/run.json").read_text()) == {"gpu_overrides": made_on_gpu}
    on_gpu(not made_on_gpu)
    for verb in ("judge", "report", "train"):
        done(verb, "r.yaml", "--set", "objective=[]")
        assert yaml.safe_load(Path("runs/r/recipe.yaml").read_text())["problems"]["limit"] == limit
    assert len(Path("runs/r/judge/base/results.jsonl").read_text().splitlines()) == 2 * (1 if made_on_gpu else 2)
    done("train", "r.yaml")
    assert inputs_of(Path("runs/r"), "train/ft")["train"]["max_steps"] == (2 if made_on_gpu else 1)
    edit(
        Path("r.yaml"),
        lambda text: text.replace("max_steps: 2", "max_steps: 3").replace("max_steps: 1", "max_steps: 4"),
    )
    assert "train.max_steps" in refused("train", "r.yaml")
    Path("runs/r/run.json").unlink()  # as an older version left it: recipe.yaml tells
    done("judge", "r.yaml", "--set", "objective=[]", "--set", f"train.max_steps={2 if made_on_gpu else 1}")


def test_what_judge_does_not_read_is_refused_where_it_contradicts_the_run(run: Path) -> None:
    before = (run / "recipe.yaml").read_text()
    for verb, setting in (("judge", "train.max_steps=7"), ("report", "judge.timeout_s=9")):
        assert f"--set {setting}: `ibft {verb}` does not read" in refused(verb, "r.yaml", "--set", setting)
    assert (run / "recipe.yaml").read_text() == before
    done("judge", "r.yaml", "--set", "train.max_steps=1", "--set", "report.bootstrap_resamples=50")


def test_a_refused_command_decides_nothing(on_gpu: Callable[[bool], None]) -> None:
    on_gpu(True)
    refused("scan", "r.yaml", "--set", "data.train=none.jsonl")
    refused("judge", "r.yaml")
    on_gpu(False)
    done("scan", "r.yaml")
    assert json.loads(Path("runs/r/run.json").read_text()) == {"gpu_overrides": False}


# Run folders of an older version


def as_before(run: Path) -> None:
    """Rewrite the records as version 0.1.0 at commit 2a1f7ce had them: names, no digests, dtype as in the recipe."""
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    for section in (recipe["model"], recipe["scan"]["reference"]):
        section["dtype"] = "auto"
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    for stage in STAGES:
        path = run / stage / "stage.json"
        record = json.loads(path.read_text())
        inputs = record["inputs"]
        for name in ("format", "weights", "samples"):
            inputs.pop(name, None)
        for section in ("model", "data", "scan", "generate"):
            if section in inputs and isinstance(inputs[section], dict):
                inputs[section] = {key: recipe[section][key] for key in recipe[section]}
        if stage.startswith("generate"):
            inputs["problems"] = [{"task_id": row["task_id"], "prompt": row["prompt"]} for row in problems(2)]
        path.write_text(json.dumps(record))


@pytest.mark.slow
def test_runs_of_an_older_version_are_judged_and_reported_and_not_continued(run: Path) -> None:
    as_before(run)
    for verb in ("judge", "report"):
        done(verb, "r.yaml")
    for verb, stage in (("run", "scan"), ("train", "train/ft"), ("rescan", "scan"), ("generate", "generate/base")):
        said = refused(verb, "r.yaml")
        assert f"{run / stage} was made by another version of ibft, which does not give the same results" in said
    done("export", "r.yaml", "--arm", "ft", "--out", "shipped")
    shutil.rmtree(run / "judge")
    done("judge", "r.yaml")
    done("run", "r.yaml", "--set", "name=anew")


def test_stages_record_the_resolved_dtype_without_the_command_line(place: Path) -> None:
    from ibft.run.recipe import load_recipe
    from ibft.stages.scan import scan

    recipe = load_recipe("r.yaml")
    with RunFolder(recipe).open() as folder:
        scan(recipe, folder)
    assert inputs_of(folder.path, "scan")["model"]["dtype"] == "float32"
    assert os.listdir("runs") == ["r"]
