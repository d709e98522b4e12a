import msgspec
import pytest

from ibft.artifacts.rows import Module, Problem, Sample
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
