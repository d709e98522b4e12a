"""C++ judged by g++: programs by what they print, functions by what they return."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from cpp_problems import ADD, DOUBLE, HEAD, RIGHT_ADD, RIGHT_DOUBLE, RIGHT_WEAK, WEAK, function

from ibft.artifacts.json_lines import write_rows
from ibft.artifacts.rows import Problem, Sample
from ibft.errors import UserError
from ibft.execution import Pool, check_references, execute, execute_all, gxx
from ibft.execution.inside import lockdown
from ibft.execution.sandbox import Limits
from ibft.problems.loading import load_problems
from ibft.run.sections import JudgeConfig

pytestmark = pytest.mark.skipif(
    shutil.which("g++") is None or not lockdown.landlock_abi(), reason="needs g++ and Landlock"
)


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool() as pool:
        yield pool


def completion(problem: Problem, text: str) -> Sample:
    return Sample(task_id=problem.task_id, completion=text)


@pytest.mark.parametrize(
    ("answer", "status", "message"),
    [
        (RIGHT_ADD, "passed", "passed"),
        (RIGHT_ADD.replace("a + b", "a - b"), "failed", "case 1 of 2"),
        (RIGHT_ADD.replace("a + b", "3"), "failed", "case 2 of 2"),
        (RIGHT_ADD.replace("int a", "it a"), "syntax_error", "'it' was not declared"),
        (RIGHT_ADD.replace("cin >>", "for (;;); cin >>"), "timeout_cpu", "more than 0.5 s"),
        (
            RIGHT_ADD.replace("cin >>", "static volatile char* all = new char[3l << 30]; all[0] = 1; cin >>"),
            "memory",
            "bad_alloc",
        ),
        (RIGHT_ADD.replace("<< endl", "<< endl; return 3"), "failed", "exit code 3"),
        (RIGHT_ADD.replace("cin >>", "throw 1; cin >>"), "failed", "terminate called"),
        (
            "#include <thread>\n" + RIGHT_ADD.replace("cin >>", "thread([] {}).join(); cin >>"),
            "failed",
            "Operation not permitted",
        ),
        ("int main() { return 0; }", "failed", "case 1 of 2"),
        (f"Sure:\n```cpp\n{RIGHT_ADD}```\nCompile it:\n```bash\ng++ a.cpp\n```\n", "passed", "passed"),
    ],
)
def test_programs_are_judged_by_what_they_print(pool: Pool, answer: str, status: str, message: str) -> None:
    limits = Limits(cpu_s=0.5, wall_s=20, memory_mib=1024)
    outcome = execute(ADD, Sample(task_id="add", solution=answer), limits=limits, pool=pool)
    assert (outcome.status, outcome.is_weak) == (status, False), outcome
    assert message in outcome.message


@pytest.mark.slow
@pytest.mark.parametrize(
    ("head", "checks", "right", "wrong"),
    [
        ("bool even(long n)", "assert(candidate(2) == (true)); assert(candidate(3) == (false));",
         "return n % 2 == 0;", "return true;"),
        ("float half(float x)", "assert(candidate((3.0f)) == (1.5f));", "return x / 2;", "return 1;"),
        ("double precise(double x)", "assert(abs(candidate(0.1) - 0.3) < 1e-12);", "return x + 0.2;", "return 0.29;"),
        ("std::string twice(std::string s)", 'assert(candidate(("a:b\\n\\"")) == ("a:b\\n\\"a:b\\n\\""));',
         "return s + s;", "return s;"),
        ("std::map<std::string,long> tally(std::vector<std::string> words)",
         'assert(candidate((std::vector<std::string>({"a", "a", "b"}))) == '
         '(std::map<std::string,long>({{"a", 2}, {"b", 1}})));',
         "std::map<std::string,long> m; for (auto& w : words) ++m[w]; return m;", "return {};"),
        ("std::tuple<long, std::string> both(long n)", 'assert(candidate(1) == (std::make_tuple(1, "x")));',
         'return {n, "x"};', 'return {n, "y"};'),
        ("std::optional<long> largest(std::vector<long> v)",
         "assert(candidate((std::vector<long>())) == std::nullopt);"
         " assert(candidate((std::vector<long>({3, 9}))) == 9);",
         "if (v.empty()) return std::nullopt; return *max_element(v.begin(), v.end());", "return std::nullopt;"),
        ("std::vector<std::vector<bool>> grid(long n)",
         "assert(candidate(1) == (std::vector<std::vector<bool>>({{true, false}})));",
         "return {{true, n == 2}};", "return {{true, true}};"),
        ("void sort_it(std::vector<int>& v)",
         "std::vector<int> v = {2, 1}; candidate(v); assert(v == std::vector<int>({1, 2}));",
         "std::sort(v.begin(), v.end());", "v = {2, 1};"),
        ("long after(long n)", "assert(candidate(candidate(candidate(1))) == 4);", "return n + 1;", "return n + 2;"),
        ("long counted()", "assert(candidate() == 1); assert(candidate() == 2);",
         "static long n; return ++n;", "return 1;"),
        ("long caller(long n)", "if (candidate(2) != 4) return 1;", "return 2 * n;", "return n;"),
        ("char first(std::string s)", "assert(candidate(\"xy\") == 'x');", "return s[0];", "return s[1];"),
    ],
)  # fmt: skip
def test_functions_are_judged_in_another_process_than_their_tests(
    pool: Pool, head: str, checks: str, right: str, wrong: str
) -> None:
    problem = function(head, checks, prompt=f"{HEAD}using namespace std;\n")
    answers = [completion(problem, text) for text in (right, f"{right}\n}}", wrong)]
    outcomes = execute_all([(problem, answer) for answer in answers], pool=pool)
    assert [(outcome.status, outcome.is_weak) for outcome in outcomes] == [
        ("passed", False), ("passed", False), ("failed", False),
    ], outcomes  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (f"```cpp\n{DOUBLE.prompt}{RIGHT_DOUBLE}\nint main() {{ std::cout << doubled({{1}})[0]; }}\n```", "passed"),
        (f"```c++\nstd::vector<long> doubled(const std::vector<long>& given) {{ auto numbers = given;\n"
         f"{RIGHT_DOUBLE}```",
         "passed"),
        (f"```cpp\n{RIGHT_DOUBLE}```", "passed"),
        (f"It is simple.\n\n#include <vector>\nstd::vector<long> doubled(std::vector<long> numbers) {{\n"
         f"{RIGHT_DOUBLE}\nDone.",
         "passed"),
        (f"<think>Loop {{</think>```cpp\n#define int long long\n"
         f"std::vector<long> doubled(std::vector<long> numbers) {{\n{RIGHT_DOUBLE}```", "passed"),
        ("```cpp\nstd::vector<long> other(std::vector<long> numbers) { return numbers; }\n```", "syntax_error"),
    ],
)  # fmt: skip
def test_answers_of_a_chat_are_read(pool: Pool, answer: str, status: str) -> None:
    outcome = execute(DOUBLE, Sample(task_id="doubled", solution=answer), pool=pool)
    assert outcome.status == status, outcome


def test_a_continuation_ends_with_its_function(pool: Pool) -> None:
    rambling = f'{RIGHT_DOUBLE}\n// "}}" and {{\nint main() {{ abort(); }}\nthis is no code'
    assert execute(DOUBLE, completion(DOUBLE, rambling), pool=pool).status == "passed"


def test_types_that_do_not_cross_are_judged_weakly(pool: Pool) -> None:
    answers = [RIGHT_WEAK, "return number;", "exit(0);", "syntax"]
    outcomes = execute_all([(WEAK, completion(WEAK, answer)) for answer in answers], pool=pool)
    assert [outcome.status for outcome in outcomes] == ["passed", "failed", "failed", "syntax_error"], outcomes
    assert all(outcome.is_weak for outcome in outcomes)
    assert "candidate(Number{2}).value == 4" in outcomes[1].message


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (function("long zero(long n)", "assert(candidate(3) == 0);"), "empty value passes its tests"),
        (function("long any(long n)", "candidate(3);"), "empty value passes its tests"),
        (function("long never(long n)", ""), "empty value passes its tests"),
        (msgspec.structs.replace(WEAK, tests="}\nNumber made;\nint main() { auto all = {twice(made)}; }\n"),
         "an empty program passes its tests"),
        (msgspec.structs.replace(DOUBLE, canonical_solution="return numbers;"),
         "candidate((std::vector<long>({1, 2})))"),
        (msgspec.structs.replace(ADD, canonical_solution="int main() {}"), "case 1 of 2"),
        (msgspec.structs.replace(ADD, canonical_solution="int main() {"), "syntax error"),
    ],
)  # fmt: skip
def test_broken_problems_are_refused(problem: Problem, message: str) -> None:
    reference = check_references([problem], JudgeConfig(workers=1))[problem.task_id]
    assert reference.status != "passed"
    assert message in reference.message


@pytest.mark.parametrize(
    ("problem", "solution", "is_weak"),
    [(DOUBLE, RIGHT_DOUBLE, False), (WEAK, RIGHT_WEAK, True), (ADD, RIGHT_ADD, False)],
)
def test_sound_references_pass(problem: Problem, solution: str, is_weak: bool) -> None:
    sound = msgspec.structs.replace(problem, canonical_solution=solution)
    reference = check_references([sound], JudgeConfig(workers=1))[problem.task_id]
    assert (reference.status, reference.is_weak) == ("passed", is_weak), reference
    assert reference.cpu_time_s < 0.2  # without the compiler's


def test_a_missing_compiler_is_an_error_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gxx.shutil, "which", lambda _: None)
    with pytest.raises(UserError, match=r"g\+\+ is not on the search path.*apt install g\+\+"):
        gxx.installed_gxx.__wrapped__()


def test_files_of_multipl_e_are_read(tmp_path: Path) -> None:
    row = {"name": "HumanEval_0_doubled", "language": "cpp", "prompt": DOUBLE.prompt, "tests": DOUBLE.tests,
           "stop_tokens": ["\n}"]}  # fmt: skip
    write_rows(tmp_path / "cpp.jsonl", [row])
    (problem,) = load_problems(f"multipl-e:{tmp_path / 'cpp.jsonl'}")
    assert problem == msgspec.structs.replace(DOUBLE, task_id="HumanEval_0_doubled")
    write_rows(tmp_path / "rs.jsonl", [row | {"language": "rs"}])
    with pytest.raises(UserError, match="line 1: language 'rs'"):
        load_problems(f"multipl-e:{tmp_path / 'rs.jsonl'}")
