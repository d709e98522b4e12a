"""A benchmark is one file, ours or another package's: it is named, loaded, chosen from and judged like any other."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import ibft
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


@pytest.mark.skipif(not lockdown.landlock_abi(), reason="this kernel has no Landlock")
def test_a_benchmark_of_ours_is_one_file(tmp_path: Path) -> None:
    """In a copy of this package, to which nothing but the file is added."""
    copy = tmp_path / "copy" / "ibft"
    shutil.copytree(Path(ibft.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    file = Path(__file__).with_name("riddles_benchmark.py").read_text().replace("load_riddles", "load_old_riddles")
    (copy / "problems" / "benchmarks" / "old_riddles.py").write_text(file)
    (tmp_path / "riddles.tsv").write_text("Six by nine?\t54\nHow many legs has a spider?\t8\n")
    program = """if True:
        import sys
        from ibft.errors import UserError
        from ibft.execution import execute_all
        from ibft.problems.loading import BENCHMARKS, load_problems

        print(*BENCHMARKS.names())
        problems = load_problems(sys.argv[1])
        print(*(name for name in sys.modules if name.startswith("ibft.problems.benchmarks.")))
        outcomes = execute_all([(problem, "    return 54\\n") for problem in problems])
        print(*(outcome.status for outcome in outcomes))
        try:
            load_problems("old-riddles")
        except UserError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", program, f"old-riddles:{tmp_path / 'riddles.tsv'}"],
        env=os.environ | {"PYTHONPATH": str(copy.parent)},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    names, loaded, statuses, error = done.stdout.splitlines()
    assert names.split() == [
        *(
            "apps",
            "codeforces",
            "evalplus",
            "humaneval",
            "livecodebench",
            "mbpp",
            "multipl-e",
            "old-riddles",
            "rtllm",
            "verilog-eval",
        ),
    ]
    assert loaded == "ibft.problems.benchmarks.old_riddles"  # the others wait until they are asked for
    assert statuses.split() == ["passed", "failed"]
    assert "evalplus:PATH, humaneval, livecodebench:PATH, mbpp:PATH, multipl-e:PATH, old-riddles:PATH" in error


def test_its_problems_are_chosen_and_its_name_is_listed(riddles: str) -> None:
    assert [problem.task_id for problem in load_problems(riddles, tasks=["*/1"])] == ["Riddles/1"]
    with pytest.raises(UserError, match=r"Use apps:PATH, .*humaneval, .*riddles:PATH"):
        load_problems("riddles")


def test_a_broken_package_is_not_imported_to_say_that_a_source_is_unknown(
    tmp_path: Path, install_package: Callable[[Path, str, str], None]
) -> None:
    (tmp_path / "broken_benchmark.py").write_text("raise ImportError('no such library')\n")
    install_package(tmp_path / "broken_benchmark.py", "ibft.benchmarks", "broken = broken_benchmark:load")
    with pytest.raises(UserError, match=r"'humanevil' is unknown\. Use apps:PATH, .*humaneval, .*broken\[:PATH\]"):
        load_problems("humanevil")
    with pytest.raises(UserError, match=r"The benchmark broken of broken_benchmark .*ImportError: no such library"):
        load_problems("broken:file")
