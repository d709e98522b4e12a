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
        ({"tests": "x", "language": "verilog", "files": [{"name": "a/b", "content": ""}]}, "without a folder"),
        ({"tests": "x", "language": "verilog", "files": [{"name": "../b", "content": ""}]}, "without a folder"),
        ({"tests": "x", "language": "verilog", "files": [{"name": "design.sv", "content": ""}]}, "none of alone.sv"),
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
