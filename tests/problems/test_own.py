import gzip
import json
from pathlib import Path

import pytest

from ibft.artifacts.rows import Problem
from ibft.errors import UserError
from ibft.problems.loading import load_problems

CHECK = "def check(candidate):\n    assert candidate() == 1\n"


def load(tmp_path: Path, **fields: object) -> Problem:
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps({"task_id": "t/0", "prompt": "def f():\n", "tests": "", **fields}) + "\n")
    return load_problems(str(path))[0]


def test_tests_in_humanevals_form_are_called(tmp_path: Path) -> None:
    assert load(tmp_path, tests=CHECK, entry_point="f").tests.endswith("\ncheck(f)\n")
    called = f"{CHECK}\nfor _ in range(2):\n    check(f)\n"
    assert load(tmp_path, tests=called, entry_point="f").tests == called


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"tests": "assert math.isclose(f(), 3)"}, r"use math without importing it.*`import math`"),
        ({"tests": CHECK}, "never call it"),
        ({"tests": "assert ("}, "tests of t/0 are not valid Python"),
        ({"tests": "\0"}, "tests of t/0 are not valid Python"),
        ({"tests": "assert f()", "setup": "x ="}, "setup of t/0 are not valid Python"),
        (
            {"tests": "assert f()", "modules": [{"name": "shelf", "source": "x ="}]},
            "modules of t/0 are not valid Python",
        ),
        ({"tests": "assert f()", "modules": [{"name": "in-house", "source": ""}]}, "'in-house', which is not a name"),
        (
            {"tests": "assert f()", "modules": [{"name": "json", "source": ""}]},
            "'json', which is not a name, or one",
        ),
        ({"tests": "assert f()", "modules": [{"name": "a", "source": ""}] * 2}, "module 'a' twice"),
        ({"tests": "assert f()", "modules": [{"name": "shelf"}]}, r"line 1: .*source.*modules"),
        ({"tests": "x", "language": "verilog", "modules": [{"name": "a", "source": ""}]}, "for Python problems"),
        ({"tests": "assert f()", "entry_point": "g"}, "never use its entry_point 'g'"),
        ({"tests": "assert f()", "entry_point": "f()"}, "not a Python name"),
        ({"tests": "assert f()", "entry_point": "class"}, "not a Python name"),
        ({"tests": "assert len([1]) == 1"}, "use nothing that the candidate defines"),
        ({"tests": "assert one == 1", "setup": "one = 1"}, "use nothing that the candidate defines"),
        ({"tests": "def f(): return 1\nassert f() == 1", "entry_point": "f"}, "defines its entry_point 'f' itself"),
        ({"tests": "assert f()", "setup": "def f(): ...", "entry_point": "f"}, "defines its entry_point 'f' itself"),
        ({"tests": "x", "language": "ruby"}, r"line 1: .*'ruby'.*language"),
        ({"tests": "x", "language": "verilog", "entry_point": "top module"}, "not a Verilog name"),
        ({"tests": "x", "language": "verilog", "setup": "import math"}, "for Python problems"),
        ({"tests": "x", "inside": "yes"}, r"line 1: .*inside"),
        ({"tests": f"assert f() == {'-' * 4_000}1"}, "code of t/0 is nested too deeply"),
        ({"tests": "assert f()", "setup": f"x = {'-' * 100_000}1"}, "code of t/0 is nested too deeply"),
    ],
)
def test_problems_that_no_run_could_judge_as_meant_are_refused(
    tmp_path: Path, fields: dict[str, object], expected: str
) -> None:
    with pytest.raises(UserError, match=expected):
        load(tmp_path, **fields)


IO = [{"input": "1\n", "output": "2\n"}]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"io": IO, "tests": "assert f()"}, "has io and tests"),
        ({"io": IO, "setup": "import math", "inside": True}, "has io and setup and inside"),
        ({"io": IO, "modules": [{"name": "shelf", "source": ""}]}, "has io and modules"),
        ({"io": IO, "language": "verilog"}, "has io, which verilog problems cannot have"),
        ({"tests": "assert f()", "checker": "def check(i, o, e): ..."}, "has checker, which is for problems with io"),
        (
            {"tests": "assert f()", "comparison": "exact", "time_limit_s": 2},
            "has comparison and time_limit_s, which is",
        ),
        ({"io": IO, "comparison": "loosely"}, r"line 1: .*'loosely'.*comparison"),
        ({"io": IO, "comparison": "floats", "tolerance": -1}, "the tolerance -1"),
        ({"io": IO, "time_limit_s": -1}, "the time_limit_s -1"),
        ({"io": IO, "tolerance": 0.1}, "which only the comparison 'floats' has"),
        ({"io": IO, "comparison": "exact", "checker": "def check(i, o, e): ..."}, "a checker, which decides alone"),
        ({"io": IO, "checker": "def check("}, "checker of t/0 is not valid Python"),
        ({"io": IO, "checker": "def verify(i, o, e): ..."}, "neither defines check"),
        ({"io": IO, "preamble": "import ("}, "preamble of t/0 are not valid Python"),
        ({"io": [{"input": "1"}]}, r"line 1: .*output.*io"),
        ({"io": "1"}, r"line 1: .*io"),
        ({"tests": "x", "language": "verilog", "preamble": "import math"}, "for Python problems"),
    ],
)
def test_problems_of_standard_input_are_refused_where_they_could_not_be_judged_as_meant(
    tmp_path: Path, fields: dict[str, object], expected: str
) -> None:
    with pytest.raises(UserError, match=expected):
        load(tmp_path, **{"tests": "", **fields})


@pytest.mark.parametrize(
    "fields",
    [
        {"comparison": "floats", "tolerance": 0.001},
        {"checker": "def check(input, output, expected):\n    return True\n"},
        {"checker": "import sys\nprint(open(sys.argv[3]).read())\n", "time_limit_s": 2.5},
    ],
)
def test_problems_of_standard_input_are_read(tmp_path: Path, fields: dict[str, object]) -> None:
    problem = load(tmp_path, io=IO, **fields)
    assert [(case.input, case.output) for case in problem.io] == [("1\n", "2\n")]
    assert {name: getattr(problem, name) for name in fields} == fields


@pytest.mark.parametrize(
    "fields",
    [
        {"tests": "assert f() == 1"},
        {"tests": "f = memo(f)\nassert f() == 1", "setup": "from functools import cache as memo", "entry_point": "f"},
        {"tests": "assert globals()['f']() == 1", "entry_point": "f"},
        {"tests": "assert Stack().pop is None", "inside": True},
        {"tests": "assert filter(1) == 1", "entry_point": "filter"},
    ],
)
def test_problems_that_can_be_judged_are_left_as_they_are(tmp_path: Path, fields: dict[str, object]) -> None:
    assert load(tmp_path, **fields) == Problem(**{"task_id": "t/0", "prompt": "def f():\n", **fields})  # type: ignore[arg-type]


def test_a_line_that_is_nested_too_deeply_is_named(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text(f'\n{{"task_id": "t/0", "prompt": "", "tests": "", "more": {"[" * 10_000}\n')
    with pytest.raises(UserError, match=r"own\.jsonl, line 2: JSON that is nested too deeply"):
        load_problems(str(path))


def test_suffixes_may_be_written_large(tmp_path: Path) -> None:
    path = tmp_path / "OWN.JSONL.GZ"
    path.write_bytes(gzip.compress(b'{"task_id": "t/0", "prompt": "", "tests": "assert f()"}\n'))
    assert [problem.task_id for problem in load_problems(str(path))] == ["t/0"]


def test_helpers_of_the_prompt_become_setup_where_the_tests_use_them(tmp_path: Path) -> None:
    prompt = "import math\n\n\ndef f(x):\n    '''Halve x.'''\n"
    used = load(tmp_path, prompt=prompt, tests="assert math.isclose(f(1), 0.5)\n", entry_point="f")
    assert used.setup == "import math\n\n\n"
    assert load(tmp_path, prompt=prompt, tests="assert f(1) == 0.5\n", entry_point="f").setup == ""
    own = load(tmp_path, prompt=prompt, tests="assert math.f(f(1))\n", entry_point="f", setup="import cmath as math\n")
    assert own.setup == "import cmath as math\n"


def test_verilogs_default_entry_point(tmp_path: Path) -> None:
    assert load(tmp_path, tests="module tb; endmodule", language="verilog").entry_point == "top_module"
    named = load(tmp_path, tests="module tb; endmodule", language="verilog", entry_point="adder_4$")
    assert named.entry_point == "adder_4$"
