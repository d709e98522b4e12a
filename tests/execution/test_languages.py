"""Another package adds a language in one file: its answers are read and judged like any other's."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

import ibft
from ibft.artifacts.json_lines import read_rows, write_rows
from ibft.artifacts.rows import Problem, Result, Sample
from ibft.errors import UserError
from ibft.execution import LANGUAGES, execute
from ibft.execution.inside import lockdown
from ibft.problems.loading import load_problems
from ibft.run.sections import JudgeConfig
from ibft.stages.judge import judge_file
from ibft.text.answers import extract, has_ended
from ibft.text.answers.reader import READERS, Answer

PROBLEM = Problem(
    task_id="sh/0", prompt="# Print 1 to 3.\n", tests="1\n2\n3\n", language="shell", canonical_solution="seq 3\n"
)
RIGHT = "for n in 1 2 3; do echo $n; done\n"


@pytest.fixture
def shell(install_package: Callable[[Path, str, str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    for table in (LANGUAGES, READERS):
        monkeypatch.setattr(table, "_items", {})
    install_package(Path(__file__).with_name("shell_language.py"), "ibft.languages", "shell = shell_language:SHELL")


@pytest.mark.usefixtures("shell")
@pytest.mark.skipif(not lockdown.landlock_abi(), reason="this kernel has no Landlock")
def test_samples_in_a_third_language_are_judged(tmp_path: Path) -> None:
    broken = msgspec.structs.replace(PROBLEM, task_id="sh/1", canonical_solution="seq 4\n")
    write_rows(tmp_path / "problems.jsonl", [PROBLEM, broken])
    samples = [
        Sample(task_id="sh/0", completion=RIGHT),
        Sample(task_id="sh/0", solution="seq 4\n"),
        Sample(task_id="sh/0", solution=f"<think>Loop?</think>\nLike this:\n```sh\n{RIGHT}```\nDone.\n"),
        Sample(task_id="sh/0", completion="while :; do :; done\n"),
        Sample(task_id="sh/1", completion=RIGHT),
    ]
    write_rows(tmp_path / "samples.jsonl", samples)
    config = JudgeConfig(workers=1, timeout_s=0.5, cache=False)
    metrics = judge_file(
        str(tmp_path / "problems.jsonl"), tmp_path / "samples.jsonl", tmp_path / "out", config, (1,), resamples=10
    )
    results = list(read_rows(tmp_path / "out/results.jsonl", Result))
    assert [result.status for result in results] == ["passed", "failed", "passed", "timeout_cpu", "excluded"]
    assert results[2].completion == RIGHT
    assert metrics.tool_versions["sh"] == "POSIX"
    assert "numpy" not in metrics.tool_versions
    assert execute(PROBLEM, "seq 3\n").status == "passed"


@pytest.mark.usefixtures("shell")
def test_answers_in_a_third_language_are_read_without_the_judge() -> None:
    chat = f"Some Python:\n```python\nprint(1)\n```\nand\n```bash\n{RIGHT}```\n"
    assert extract(chat, PROBLEM, form="chat") == Answer(solution=RIGHT)
    assert extract(f"```\n{RIGHT}```\n", PROBLEM, form="chat") == Answer(solution=RIGHT)
    assert extract(RIGHT, PROBLEM, form="completion") == Answer(completion=RIGHT)
    assert not has_ended(RIGHT, PROBLEM, form="completion")
    assert has_ended(f"{RIGHT}\n# end", PROBLEM, form="completion", stop=["# end"])


@pytest.mark.skipif(not lockdown.landlock_abi(), reason="this kernel has no Landlock")
def test_a_language_is_one_file(tmp_path: Path) -> None:
    """In a copy of this package, to which nothing but the file is added."""
    copy = tmp_path / "copy" / "ibft"
    shutil.copytree(Path(ibft.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    file = Path(__file__).with_name("shell_language.py")
    shutil.copy(file, copy / "execution" / "languages" / "shell.py")
    write_rows(tmp_path / "problems.jsonl", [PROBLEM])
    program = (
        "import sys; from ibft.execution import LANGUAGES, execute; from ibft.problems.loading import load_problems;"
        "problem, = load_problems(sys.argv[1]);"
        "print(*LANGUAGES.names(), *(execute(problem, answer).status for answer in sys.argv[2:]))"
    )
    answers = [f"Like this:\n```sh\n{RIGHT}```\n", "seq 4\n"]
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "problems.jsonl"), *answers],
        env=os.environ | {"PYTHONPATH": str(copy.parent)},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["cpp", "python", "shell", "verilog", "passed", "failed"]


def test_a_reader_of_its_own_loads_nothing_of_the_judge() -> None:
    program = (
        "import sys; from ibft.text.answers.reader import READERS;"
        "READERS['cpp'], READERS['python'], READERS['verilog'];"
        "print(*(name for name in sys.modules if name.startswith('ibft.execution')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == []


def test_an_unknown_language_is_refused_and_the_known_ones_are_named(tmp_path: Path) -> None:
    write_rows(tmp_path / "problems.jsonl", [msgspec.structs.replace(PROBLEM, language="cobol")])
    with pytest.raises(UserError, match=r"line 1: 'cobol' is not a known.*cpp, python, verilog.*ibft\.languages"):
        load_problems(str(tmp_path / "problems.jsonl"))
