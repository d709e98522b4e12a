import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ibft.errors import UserError
from ibft.run import folder as folder_module
from ibft.run import locks
from ibft.run.folder import RunFolder, RunRecord, read_run_record
from ibft.run.recipe import Recipe, load_recipe


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return Recipe(name="a", output=str(tmp_path / "runs"))


def test_the_folder_holds_recipe_and_provenance(recipe: Recipe) -> None:
    with RunFolder(recipe).open() as run:
        assert load_recipe(run.path / "recipe.yaml") == recipe
        provenance = json.loads((run.path / "provenance.json").read_text())
    assert provenance["seed"] == 0
    assert provenance["versions"]["ibft"]


def test_a_stage_appears_when_it_is_complete_and_not_before(recipe: Recipe) -> None:
    run = RunFolder(recipe)
    stage = run.stage("train/ft", {"x": 1})
    with pytest.raises(KeyboardInterrupt), stage.work() as folder:  # noqa: PT012 - the body is the interrupted work
        (folder / "half").write_text("1")
        raise KeyboardInterrupt
    assert not stage.is_complete
    assert not stage.path.exists()
    with run.stage("train/ft", {"x": 1}).work() as folder:
        assert (folder / "half").read_text() == "1"  # a later run goes on from what is there
    assert run.stage("train/ft", {"x": 1}).is_complete
    assert run.record("train/ft").finished is not None


def test_a_changed_recipe_never_reuses_an_old_result(recipe: Recipe) -> None:
    run = RunFolder(recipe)
    with run.stage("scan", {"scan": {"k": 20}, "seed": 0}).work():
        pass
    with pytest.raises(UserError, match=r"scan\.k: 20 -> 10.*--overwrite"):
        run.stage("scan", {"scan": {"k": 10}, "seed": 0})
    assert not RunFolder(recipe, overwrite=True).stage("scan", {"scan": {"k": 10}, "seed": 0}).is_complete


def test_unfinished_work_of_another_recipe_is_not_continued(recipe: Recipe) -> None:
    run = RunFolder(recipe)
    with pytest.raises(KeyboardInterrupt), run.stage("scan", {"k": 20}).work():
        raise KeyboardInterrupt
    with pytest.raises(UserError, match="different recipe"):
        run.stage("scan", {"k": 10})


def test_a_missing_stage_names_the_verb(recipe: Recipe) -> None:
    with pytest.raises(UserError, match="ibft generate RECIPE"):
        RunFolder(recipe).record("generate/base")


def test_two_commands_cannot_work_in_one_folder(recipe: Recipe) -> None:
    code = (
        "from ibft.run.recipe import Recipe; from ibft.run.folder import RunFolder\n"
        f"with RunFolder(Recipe(name='a', output={recipe.output!r})).open(): pass"
    )
    with RunFolder(recipe).open():
        meanwhile = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    afterwards = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "another ibft command is at work" in meanwhile.stderr
    assert afterwards.returncode == 0, afterwards.stderr


def test_commands_whose_parts_differ_work_side_by_side(recipe: Recipe) -> None:
    code = (
        "from ibft.run.recipe import Recipe; from ibft.run.folder import RunFolder\n"
        f"with RunFolder(Recipe(name='a', output={recipe.output!r})).open(PARTS): pass"
    )

    def other(parts: object) -> subprocess.CompletedProcess[str]:
        program = code.replace("PARTS", repr(parts))
        return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    with RunFolder(recipe).open(["train/ft", "train/ib"]):
        assert other(["train/dft"]).returncode == 0
        assert other(["scan", "train/ft"]).stderr.count("a/train/ft: another ibft command is at work") == 1
        assert "a: another ibft command is at work" in other(None).stderr
    assert other(["train/ft"]).returncode == 0


def test_a_refused_command_leaves_what_another_has_begun(recipe: Recipe) -> None:
    with RunFolder(recipe).open(["train/ft"]) as run:
        record = run.path / "recipe.yaml"
        assert not run.path.joinpath("train").exists()
        with pytest.raises(UserError, match="no"), RunFolder(recipe).open(["train/ib"]):
            raise UserError("no")
        assert record.exists()


def tree(folder: Path) -> dict[Path, tuple[int, bytes]]:
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def test_a_command_that_is_refused_changes_nothing(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no"), RunFolder(recipe).open():
        raise UserError("no")
    assert list(tmp_path.iterdir()) == []
    with RunFolder(recipe).open() as run, run.stage("scan", {"k": 20}).work():
        pass
    before = tree(tmp_path)
    other = msgspec.structs.replace(recipe, seed=1)
    for overwrite in (False, True):
        run = RunFolder(other, overwrite=overwrite)
        with pytest.raises(UserError), run.open(), run.stage("scan", {"k": 10}).work():
            raise UserError("no")
        assert tree(tmp_path) == before


def test_a_command_that_fails_after_it_has_made_something_is_recorded(recipe: Recipe) -> None:
    with RunFolder(recipe).open():
        pass
    other = msgspec.structs.replace(recipe, seed=1)
    with pytest.raises(UserError), RunFolder(other).open() as run, run.stage("train/ft", {}).work() as folder:  # noqa: PT012
        (folder / "checkpoint").write_text("1")
        raise UserError("out of memory")
    assert load_recipe(run.path / "recipe.yaml").seed == 1
    assert (run.path / "train/ft.partial/checkpoint").exists()


def test_an_old_result_is_replaced_when_the_new_one_is_complete(recipe: Recipe) -> None:
    with RunFolder(recipe).stage("scan", {"k": 20}).work() as folder:
        (folder / "old").write_text("1")
    run = RunFolder(recipe, overwrite=True)
    with pytest.raises(KeyboardInterrupt), run.stage("scan", {"k": 10}).work():
        raise KeyboardInterrupt
    assert (run.path / "scan/old").exists()
    with run.stage("scan", {"k": 10}).work():
        pass
    assert [path.name for path in run.path.iterdir()] == ["scan"]
    assert [path.name for path in (run.path / "scan").iterdir()] == ["stage.json"]


def test_a_recorded_identity_outlives_what_was_unknown_then(recipe: Recipe) -> None:
    """A hub repository's commit may be known only after its first download."""
    run = RunFolder(recipe)
    unknown = {"model": {"name": "owner/name", "digest": None}}
    with run.stage("scan", unknown).work():
        pass
    again = run.stage("scan", {"model": {"name": "owner/name", "digest": "commit 1"}})
    assert again.is_complete
    assert again.identity == run.record("scan").identity


def test_an_unwritable_folder_is_one_sentence() -> None:
    with pytest.raises(UserError, match="output"), RunFolder(Recipe(name="a", output="/proc/none")).open():
        pass


def test_commands_that_begin_and_end_together_are_all_recorded(recipe: Recipe) -> None:
    code = (
        "import sys; from ibft.run.recipe import Recipe; from ibft.run.folder import RunFolder\n"
        f"run = RunFolder(Recipe(name='a', output={recipe.output!r}))\n"
        "with run.open([sys.argv[1]]), run.stage(sys.argv[1], {'k': 1}).work(): pass"
    )
    parts = [f"train/{number}" for number in range(6)]
    started = [
        subprocess.Popen([sys.executable, "-c", code, part], stderr=subprocess.PIPE, text=True) for part in parts
    ]
    assert [(process.wait(), process.stderr and process.stderr.read()) for process in started] == [(0, "")] * 6
    run = RunFolder(recipe)
    assert all(run.record(part) for part in parts)
    assert load_recipe(run.path / "recipe.yaml").name == "a"


@pytest.mark.parametrize("has_folder", [False, True])
def test_commands_that_begin_a_run_together_agree_on_the_gpu_section(recipe: Recipe, has_folder: bool) -> None:
    """Both have decided before there is a run.json; the second may look when the first has made the folder alone."""
    if has_folder:
        RunFolder(recipe).path.mkdir(parents=True)
    with_gpu, without = RunFolder(recipe, gpu_overrides=True), RunFolder(recipe, gpu_overrides=False)
    with with_gpu.open(["train/ft"]):
        before = tree(with_gpu.path)
        with pytest.raises(UserError, match=r"with the recipe's `gpu:` section.* again"), without.open(["train/ib"]):
            pytest.fail("two decisions in one run")
        assert tree(with_gpu.path) == before
    assert read_run_record(with_gpu.path) == RunRecord(gpu_overrides=True)


def make(recipe: Recipe, part: str) -> None:
    with RunFolder(recipe, gpu_overrides=True).open([part]) as run, run.stage(part, {}).work():
        pass


def test_a_command_that_began_a_run_and_is_refused_leaves_what_another_has_made(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(recipe)
    with pytest.raises(UserError, match="no"), run.open(["train/ft"]):  # noqa: PT012 - the other command's moment
        make(recipe, "train/ib")
        raise UserError("no")
    assert run.record("train/ib")
    assert load_recipe(run.path / "recipe.yaml") == recipe

    other = msgspec.structs.replace(recipe, name="other")
    run = RunFolder(other, gpu_overrides=False)

    def hold_late(*arguments: Any, **options: Any) -> Any:
        """The folder was missing when the command looked, and another one has made it since."""
        monkeypatch.undo()
        make(other, "train/ib")
        return locks.hold(*arguments, **options)

    monkeypatch.setattr(folder_module, "hold", hold_late)
    with pytest.raises(UserError, match="gpu:"), run.open(["train/ib"]):
        pytest.fail("two decisions in one run")
    assert run.record("train/ib")
    assert read_run_record(run.path) == RunRecord(gpu_overrides=True)


def test_what_is_read_cannot_be_made_meanwhile(recipe: Recipe) -> None:
    other = RunFolder(recipe)
    with RunFolder(recipe).open(["generate/ft"], reads=["train/ft"]):
        with RunFolder(recipe).open(["rescan/ft"], reads=["train/ft"]):
            pass
        before = tree(Path(recipe.output))
        with pytest.raises(UserError, match="train/ft: another ibft command"), other.open(["scan", "train/ft"]):
            pass
        assert tree(Path(recipe.output)) == before  # the lock of the scan is gone again
