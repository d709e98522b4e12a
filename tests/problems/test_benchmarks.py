"""Another package adds a benchmark in one file: it is named, loaded, chosen from and judged like any other."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ibft.artifacts.json_lines import write_rows
from ibft.artifacts.rows import Sample
from ibft.errors import UserError
from ibft.execution.inside import lockdown
from ibft.problems.loading import BENCHMARKS, load_problems
from ibft.run.sections import JudgeConfig
from ibft.stages.judge import judge_file


@pytest.fixture
def riddles(tmp_path: Path, install_package: Callable[[Path, str, str], None], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(BENCHMARKS, "_items", {})
    file = Path(__file__).with_name("riddles_benchmark.py")
    install_package(file, "ibft.benchmarks", "riddles = riddles_benchmark:load_riddles")
    (tmp_path / "riddles.tsv").write_text("Six by nine?\t54\nHow many legs has a spider?\t8\n")
    return f"riddles:{tmp_path / 'riddles.tsv'}"


@pytest.mark.skipif(not lockdown.landlock_abi(), reason="this kernel has no Landlock")
def test_a_benchmark_of_another_package_is_judged(riddles: str, tmp_path: Path) -> None:
    samples = [Sample(task_id=f"Riddles/{number}", completion="    return 54\n") for number in range(2)]
    write_rows(tmp_path / "samples.jsonl", samples)
    config = JudgeConfig(workers=1, cache=False)
    metrics = judge_file(riddles, tmp_path / "samples.jsonl", tmp_path / "out", config, (1,), resamples=10)
    assert metrics.statuses == {"passed": 1, "failed": 1}
    assert metrics.problems == riddles


def test_its_problems_are_chosen_and_its_name_is_listed(riddles: str) -> None:
    assert [problem.task_id for problem in load_problems(riddles, tasks=["*/1"])] == ["Riddles/1"]
    with pytest.raises(UserError, match=r"Use humaneval, mbpp:PATH, .*riddles:PATH"):
        load_problems("riddles")


def test_a_broken_package_is_not_imported_to_say_that_a_source_is_unknown(
    tmp_path: Path, install_package: Callable[[Path, str, str], None]
) -> None:
    (tmp_path / "broken_benchmark.py").write_text("raise ImportError('no such library')\n")
    install_package(tmp_path / "broken_benchmark.py", "ibft.benchmarks", "broken = broken_benchmark:load")
    with pytest.raises(UserError, match=r"'humanevil' is unknown\. Use humaneval, mbpp:PATH, .*broken\[:PATH\], or"):
        load_problems("humanevil")
    with pytest.raises(UserError, match=r"The benchmark broken of broken_benchmark .*ImportError: no such library"):
        load_problems("broken:file")
