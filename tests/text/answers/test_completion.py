import pytest
from ibft.generation.extract import cut, leaves_function_open, to_sample

from ibft.rows import Problem

PROMPT = 'from typing import List\n\n\ndef f(x):\n    """Double x."""\n'
PROBLEM = Problem(task_id="t/0", prompt=PROMPT, tests="", entry_point="f")


@pytest.mark.parametrize(
    ("prompt", "is_open"),
    [
        (PROMPT, True),
        ("class A:\n    def f(self):\n", True),
        ("async def f(x):\n", True),
        ("def f(\n    x,\n):\n", True),
        ('"""Write a function."""\n', False),
        ("def f(x):\n    return x\n\nf(3)\n", False),
        ("", False),
        ("define = 3\n", False),
    ],
)
def test_whether_a_function_is_open(prompt: str, is_open: bool) -> None:
    assert leaves_function_open(prompt) is is_open


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("    return 2 * x\n", "    return 2 * x\n"),
        ("    return 2 * x\n\n\ndef g():\n    pass\n", "    return 2 * x\n\n\n"),
        ("    return 2 * x\n# Test the function\n", "    return 2 * x\n"),
        ("    return 2 * x\nprint(f(3))\n", "    return 2 * x\n"),
        ("    return 2 * x\n```\nThis doubles x.", "    return 2 * x\n"),
        ("    return [\n        x,\n]\n", "    return [\n        x,\n]\n"),
        ('    s = """\ntext at column 0\n"""\n    return s\n', '    s = """\ntext at column 0\n"""\n    return s\n'),
        ("```\nprose", ""),
        ("", ""),
    ],
)
def test_a_body_ends_where_the_function_ends(text: str, answer: str) -> None:
    assert cut(text, PROMPT, "python") == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("def f(x):\n    return x\n\ndef g():\n    pass\n", "def f(x):\n    return x\n\ndef g():\n    pass\n"),
        ("import os\n\ndef f(x):\n    return x\n\nprint(f(2))\n", "import os\n\ndef f(x):\n    return x\n\n"),
        ("def f(x):\n    return x\nassert f(1) == 1\n", "def f(x):\n    return x\n"),
        ("def f(x):\n    return x\nif __name__ == '__main__':\n    f(1)\n", "def f(x):\n    return x\n"),
    ],
)
def test_a_program_ends_where_its_examples_begin(text: str, answer: str) -> None:
    assert cut(text, '"""Write f."""\n', "python") == answer


def test_the_recipes_stop_strings_count_in_every_language() -> None:
    assert cut("assign a = b;\nendmodule\nmore", "module m;\n", "verilog", ("endmodule",)) == "assign a = b;\n"
    assert cut("    return 1 # END\n", PROMPT, "python", ("END",)) == "    return 1 # "


def sample(text: str, is_chat: bool, finish_reason: str = "length") -> tuple[str | None, str | None, str | None]:
    row = to_sample(PROBLEM, text, is_chat=is_chat, index=3, finish_reason=finish_reason, num_tokens=9)
    assert (row.task_id, row.index, row.num_tokens) == ("t/0", 3, 9)
    return row.completion, row.solution, row.finish_reason


def test_a_chat_answer_is_its_first_fenced_block_behind_the_prompts_imports() -> None:
    code = "def f(x):\n    return 2 * x\n"
    expected = "from typing import List\n\n\n" + code
    assert sample(f"Sure!\n```python\n{code}```\nIt doubles.", True) == (None, expected, "length")
    assert sample(f"```\n{code}", True)[1] == expected  # a fence that was cut off
    assert sample(code, True)[1] == expected


def test_an_answer_that_was_complete_before_the_limit_is_not_called_cut() -> None:
    assert sample("    return x\nprint(1)", False) == ("    return x\n", None, "stop")
    assert sample("    return x", False) == ("    return x", None, "length")
