import time
from typing import Any

import pytest

from ibft.artifacts.rows import Problem
from ibft.text.answers import Answer, extract, has_ended
from ibft.text.answers.completion import cut, until_stop
from ibft.text.answers.prompt import before_entry_point, leaves_function_open

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
    ("prompt", "expected"),
    [
        ("import math\n\ndef f(x):\n", "import math\n\n"),
        ("import math\n\n@cache\ndef f(x):\n    '''doc'''\n", "import math\n\n"),
        ("import math\n\n@cache\n@timed(\n    1,\n)\ndef f(x):\n", "import math\n\n"),
        ("import math\n\n@cache\nasync def f(x):\n", "import math\n\n"),
        ("import math\n\n@frozen\nclass f:\n    def g(self):\n", "import math\n\n"),
        ("def f(x):\n    '''doc'''\n", ""),
        ("x = 1\nasync def f(x):\n", "x = 1\n"),
        ("x = (\ndef f(x):\n", ""),
        ("x = 1\n", ""),
        ("import math\n\nclass f:\n    pass\n", "import math\n\n"),
        ("def fg(x):\n    return 1\n\ndef f(x):\n", "def fg(x):\n    return 1\n\n"),
        ("class A:\n    def f(self): ...\n\ndef f(x):\n    pass\n", "class A:\n    def f(self): ...\n\n"),
    ],
)
def test_what_stands_before_the_entry_point(prompt: str, expected: str) -> None:
    assert before_entry_point(prompt, "f") == expected


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
    assert cut(text, PROMPT) == answer


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
    assert cut(text, '"""Write f."""\n') == answer


def test_the_recipes_stop_strings_count_in_every_language() -> None:
    assert until_stop("assign a = b;\nendmodule\nmore", ("endmodule",)) == "assign a = b;\n"
    assert until_stop("    return 1 # END\n", ("END",)) == "    return 1 # "


def test_a_text_of_many_lines_in_a_string_is_cut_in_time_that_grows_with_its_length() -> None:
    text = '    s = """\n' + "x\n" * 100_000
    start = time.process_time()
    assert cut(text, PROMPT) == text
    assert time.process_time() - start < 2  # 0.05 s; it took minutes where each line looked for its string anew


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("    return 2 * x\n", "    return 2 * x\n"),
        ("    return 2 * x\nprint(f(2))\n", "    return 2 * x\n"),
        ("    return 2 * x<|endoftext|>import os\n", "    return 2 * x"),
        ("    return 2 * x\n</s>", "    return 2 * x\n"),
        ("    return '</s>'\n", "    return '</s>'\n"),
        ("\n\n\ndef g():\n    pass\n", "\n\n\n"),
        ("# done\n", ""),
        ("", ""),
    ],
)
def test_a_continuation_stays_a_completion(text: str, answer: str) -> None:
    assert extract(text, PROBLEM, form="completion") == Answer(completion=answer)


@pytest.mark.parametrize(
    "text",
    [
        f"{PROMPT}    return 2 * x\n",
        "def f(x):\n    return 2 * x\n",
        "\ndef f(x):\n    return 2 * x\n\nprint(f(1))\n",
        "```python\ndef f(x):\n    return 2 * x\n```\nIt doubles.",
        "Sure:\n```python\n    return 2 * x\n```\n",
    ],
)
def test_a_continuation_that_starts_over_is_a_program(text: str) -> None:
    answer = extract(text, PROBLEM, form="completion")
    program = PROMPT + answer.completion if answer.completion else answer.solution or ""
    assert program.startswith("from typing import List\n")
    namespace: dict[str, Any] = {}
    exec(program, namespace)
    assert namespace["f"](3) == 6


@pytest.mark.parametrize(
    ("text", "ended"),
    [
        ("    return 2", False),
        ("    return 2 * x\n", False),
        ("    return 2 * x\n\ndef", True),
        ("    return 2 * x\n```", True),
        ("import os\n", True),
        ("# Test", True),
        ("de", False),
        ("def f(", False),
        ("def f(x):\n    return 2 * x\n", False),
        ("def f(x):\n    return 2 * x\n\nprint(f(", True),
        ("def g(x):\n", True),
        ("```python\ndef f(x):\n    return 2 * x\n", False),
        ("```python\ndef f(x):\n    return 2 * x\n```\n", True),
        ("Here is the function", False),
        ("Here is the function:\n```python\n    return 2 * x\n```", True),
    ],
)
def test_whether_a_continuation_has_ended(text: str, ended: bool) -> None:
    assert has_ended(text, PROBLEM, form="completion") is ended


def test_a_chat_ends_at_stop_strings_alone() -> None:
    text = "```python\ndef f(x):\n    return 2 * x\n```\nDone. END"
    assert not has_ended(text, PROBLEM, form="chat")
    assert has_ended(text, PROBLEM, form="chat", stop=["END"])
    assert extract("    return 1 # END\n", PROBLEM, form="completion", stop=["END"]).text == "    return 1 # "


def test_a_prompt_may_end_inside_of_a_line() -> None:
    prompt = "def even(n):\n    ret"
    assert cut("urn n % 2 == 0\n\nprint(1)\n", prompt) == "urn n % 2 == 0\n\n"
    assert cut("print(1)\n", "def even(n):\n") == ""
