import importlib
from pathlib import Path

import msgspec
import pytest

from ibft.artifacts.rows import Module, Problem, Sample
from ibft.execution import LANGUAGES, settings
from ibft.execution.outcome import Reference
from ibft.execution.settings import JudgeSettings
from ibft.run.sections import JudgeConfig

PROBLEM = Problem(task_id="t", prompt="def f(x):\n", tests="assert f(2) == 4\n", entry_point="f")
REFERENCE = Reference(status="passed", message="", cpu_time_s=0.01)
SAMPLE = Sample(task_id="t", completion="    return 4\n")
SETTINGS = JudgeSettings(JudgeConfig(timeout_s=3), "landlock", 1)


def test_cpu_limit_is_the_larger_of_the_setting_and_ten_times_the_reference() -> None:
    slow = msgspec.structs.replace(REFERENCE, cpu_time_s=1.5)
    assert SETTINGS.limits(PROBLEM, REFERENCE).cpu_s == 3
    assert SETTINGS.limits(PROBLEM, slow).cpu_s == 15
    assert SETTINGS.limits(msgspec.structs.replace(PROBLEM, language="verilog"), REFERENCE).cpu_s == 30


def test_wall_limit_grows_with_workers_that_share_a_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ibft.execution.settings.usable_cores", lambda: 2)
    assert SETTINGS._replace(num_workers=2).wall_s(3) == 15
    assert SETTINGS._replace(num_workers=8).wall_s(3) == 60


def test_a_verdict_is_known_again_by_whatever_decides_it_and_nothing_else() -> None:
    key = SETTINGS.sample_key(PROBLEM, SAMPLE, REFERENCE)
    # A completion and the solution that it amounts to are one program; measured times and workers decide nothing.
    whole = Sample(task_id="t", solution=PROBLEM.prompt + (SAMPLE.completion or ""), index=7)
    assert SETTINGS.sample_key(PROBLEM, whole, msgspec.structs.replace(REFERENCE, cpu_time_s=9.0)) == key
    assert SETTINGS._replace(num_workers=8).sample_key(PROBLEM, SAMPLE, REFERENCE) == key
    others = [
        SETTINGS.sample_key(PROBLEM, Sample(task_id="t", completion="    return 5\n"), REFERENCE),
        SETTINGS.sample_key(msgspec.structs.replace(PROBLEM, tests="assert f(3)\n"), SAMPLE, REFERENCE),
        SETTINGS.sample_key(msgspec.structs.replace(PROBLEM, setup="import math\n"), SAMPLE, REFERENCE),
        SETTINGS.sample_key(msgspec.structs.replace(PROBLEM, modules=(Module("a", ""),)), SAMPLE, REFERENCE),
        SETTINGS.sample_key(msgspec.structs.replace(PROBLEM, modules=(Module("a", "b = 1\n"),)), SAMPLE, REFERENCE),
        SETTINGS.sample_key(PROBLEM, SAMPLE, msgspec.structs.replace(REFERENCE, is_weak=True)),
        SETTINGS._replace(level="none").sample_key(PROBLEM, SAMPLE, REFERENCE),
        SETTINGS._replace(config=JudgeConfig(timeout_s=4)).sample_key(PROBLEM, SAMPLE, REFERENCE),
        SETTINGS._replace(config=JudgeConfig(memory_mib=1)).sample_key(PROBLEM, SAMPLE, REFERENCE),
        SETTINGS.reference_key(PROBLEM),
    ]
    assert len({key, *others}) == len(others) + 1


@pytest.mark.parametrize("name", ["twofold", "space_twofold.twofold"])
def test_a_verdict_depends_on_every_file_of_the_package_of_its_language(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Whose package may stand in a namespace beside others, which it knows nothing of."""
    folder = tmp_path.joinpath(*name.split("."))
    (folder / "deep").mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "language.py").write_text(
        "from ibft.execution import Language\nclass Twofold(Language): pass\nTWOFOLD = Twofold()\n"
    )
    (folder / "deep" / "helper.py").write_text("LIMIT = 1\n")
    other = folder.parent / "other.py"
    other.write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(LANGUAGES._items, "twofold", importlib.import_module(f"{name}.language").TWOFOLD)

    def key() -> str:
        settings._judge_digest.cache_clear()
        return SETTINGS.sample_key(problem, SAMPLE, REFERENCE)

    problem = msgspec.structs.replace(PROBLEM, language="twofold")
    before = key()
    assert key() == before
    other.write_text("LIMIT = 2\n")
    assert key() == before
    (folder / "deep" / "helper.py").write_text("LIMIT = 2\n")
    assert key() != before


def test_a_verdict_depends_on_the_modules_that_were_installed_with_its_language(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lonely.py").write_text(
        "from ibft.execution import Language\nclass Lonely(Language): pass\nLONELY = Lonely()\n"
    )
    (tmp_path / "lonely_helper.py").write_text("LIMIT = 1\n")
    metadata = tmp_path / "lonely-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: lonely\nVersion: 1.0\n")
    (metadata / "RECORD").write_text("lonely.py,,\nlonely_helper.py,,\nlonely_gone.py,,\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(LANGUAGES._items, "lonely", importlib.import_module("lonely").LONELY)
    problem = msgspec.structs.replace(PROBLEM, language="lonely")
    before = SETTINGS.sample_key(problem, SAMPLE, REFERENCE)
    settings._judge_digest.cache_clear()
    (tmp_path / "lonely_helper.py").write_text("LIMIT = 2\n")
    assert SETTINGS.sample_key(problem, SAMPLE, REFERENCE) != before
