"""Shapes of answers to problems of standard input. Every one holds the right program; what is extracted is run."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ibft.artifacts.rows import Case, Problem, Sample
from ibft.text.answers import Form, extract, extract_sample, has_ended

PROBLEM = Problem(task_id="shape/0", prompt='"""\nAdd two numbers.\n"""\n', io=(Case("2 3\n", "5\n"),))
WORDS = Problem(task_id="shape/1", prompt="Add two numbers", io=PROBLEM.io)
RIGHT = "a, b = map(int, input().split())\nprint(a + b)\n"
MAIN = (
    "def main():\n    a, b = map(int, input().split())\n    print(a + b)\n\n\nif __name__ == '__main__':\n    main()\n"
)
WRONG = "a, b = map(int, input().split())\nprint(a - b)\n"
SOLVE = "def solve(a, b):\n    return a + b\n"
SHAPES = {
    "a program": RIGHT,
    "with a main block": MAIN,
    "a fence": f"```python\n{MAIN}```",
    "a fence without a language": f"Here you are.\n\n```\n{RIGHT}```\n",
    "words around": f"Read both and add them.\n\n```python\n{RIGHT}```\nThis takes constant time.",
    "a fence that is never closed": f"```python\n{RIGHT}",
    "a wrong draft": f"First:\n```python\n{WRONG}```\nThat subtracts. Fixed:\n```python\n{RIGHT}```\n",
    "an example of input and output": f"```python\n{RIGHT}```\nInput:\n```\n2 3\n```\nOutput:\n```\n5\n```",
    "an example of one number": f"```python\n{RIGHT}```\nIt prints\n```\n5\n```",
    "how to call it": f"```python\n{RIGHT}```\nRun it:\n```bash\npython add.py < input.txt\n```",
    "a call of its function": f"```python\n{SOLVE}\na, b = map(int, input().split())\nprint(solve(a, b))\n```\n"
    "For example:\n```python\nprint(solve(2, 3))\n```",
    "a test of its function": f"```python\n{MAIN}```\nTest it:\n```python\nassert main() is None\n```",
    "the program in two blocks": f"The function:\n```python\n{SOLVE}```\nThe program:\n```python\n"
    "a, b = map(int, input().split())\nprint(solve(a, b))\n```",
    "the function explained afterwards": f"```python\n{MAIN}```\nAbove all:\n```python\ndef main():\n    ...\n```",
    "reasoning": f"<think>\nMaybe\n```python\n{WRONG}```\n</think>\n```python\n{RIGHT}```",
    "control tokens": f"```python\n{RIGHT}```<|im_end|>\n<|im_start|>user\n",
    "no fence, words before": f"Here is the program:\n\n{RIGHT}",
    "no fence, words before and after": f"Here is the program:\n\n{MAIN}\nIt reads two numbers and adds them.",
    "Windows line ends": f"```python\n{MAIN}```".replace("\n", "\r\n"),
    "a second language": f"```cpp\n#include <iostream>\nint main() {{}}\n```\nIn Python:\n```python\n{RIGHT}```",
    "another language afterwards": f"```python\n{RIGHT}```\nIn C++:\n```cpp\n#include <iostream>\nint main() {{}}\n```",
    "it reads by sys": "```python\nimport sys\nsys.stdout.write(f'{sum(map(int, sys.stdin.read().split()))}')\n```",
    "a transcript": f"```python\n{RIGHT}```\n```\n>>> 2 + 3\n5\n```",
    "in a list": "1. Read them.\n   ```python\n   a, b = map(int, input().split())\n   print(a + b)\n   ```\n",
    "of LiveCodeBench": f"### Answer:\n\n```python\n{MAIN}```\n\n### Explanation\nNone.",
}


def run(source: str) -> str:
    done = subprocess.run([sys.executable, "-I", "-c", source], input="2 3\n", capture_output=True, text=True)
    return done.stdout.strip() or done.stderr


@pytest.mark.parametrize("problem", [PROBLEM, WORDS], ids=["code", "words"])
@pytest.mark.parametrize("text", SHAPES.values(), ids=SHAPES)
def test_the_program_is_found_and_stays_whole(text: str, problem: Problem) -> None:
    answer = extract(text, problem, form="chat")
    assert run(answer.text) == "5"
    assert ("__main__" in answer.text) is ("__main__" in text)
    for sample in (Sample(task_id=problem.task_id, solution=text), Sample(task_id=problem.task_id, completion=text)):
        assert run(extract_sample(sample, problem).text) == "5"
    again = extract_sample(Sample(task_id=problem.task_id, solution=answer.text), problem)
    assert again.text == answer.text  # what is stored stays as it is


@pytest.mark.parametrize("text", [RIGHT, MAIN, f"import sys\n{MAIN}"])
def test_what_is_clean_goes_through_to_the_byte(text: str) -> None:
    for form in ("chat", "completion"):
        assert extract(text, PROBLEM, form=form).text == text  # type: ignore[arg-type]
    for problem in (PROBLEM, WORDS):
        for sample in (Sample(task_id="t", solution=text), Sample(task_id="t", completion=text)):
            assert extract_sample(sample, problem) is sample
    assert not has_ended(text, PROBLEM, form="completion")


@pytest.mark.parametrize(
    ("text", "form", "expected"),
    [
        ("print(1", "completion", "print(1"),  # a syntax error stays one
        ("I cannot answer that.", "chat", ""),
        ("", "chat", ""),
        ("<think>\nprint(1)\n", "chat", ""),
        (SOLVE, "chat", SOLVE),  # prints nothing, and is what the model wrote
    ],
)
def test_what_holds_no_program(text: str, form: Form, expected: str) -> None:
    assert extract(text, PROBLEM, form=form).text == expected


def test_code_of_the_prompt_is_put_in_front_where_it_is_needed() -> None:
    problem = Problem(task_id="t", prompt="import sys\n\ndef read():\n    return sys.stdin.read()\n", io=PROBLEM.io)
    needs = "print(sum(map(int, read().split())))\n"
    assert run(extract(f"```python\n{needs}```", problem, form="chat").text) == "5"
    assert extract(f"```python\n{RIGHT}```", problem, form="chat").text == RIGHT
    assert extract(needs, problem, form="completion").completion == needs
