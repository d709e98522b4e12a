"""Shapes of answers that models write for Python problems: a table to read. Every one holds the right program.

RIGHT is the right function, WRONG a draft of it that a naive rule picks. What is extracted is run. Each shape is
written after what some family of models does, in words of our own.
"""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from ibft.artifacts.json_lines import write_rows
from ibft.artifacts.rows import Problem, Sample
from ibft.run.sections import JudgeConfig
from ibft.stages.judge import judge_file
from ibft.text.answers import Answer, Form, extract, extract_sample, is_chat

PROMPT = '''import math
from typing import List


def root_sum(xs: List[float]) -> float:
    """Return the square root of the sum of xs.

    >>> root_sum([4.0, 5.0])
    3.0
    """
'''
PROBLEM = Problem(
    task_id="shape/0",
    prompt=PROMPT,
    entry_point="root_sum",
    canonical_solution="    return math.sqrt(sum(xs))\n",
    tests="assert root_sum([4, 5]) == 3.0\nassert root_sum([16]) == 4.0\nassert root_sum([]) == 0.0\n",
)
RIGHT = "def root_sum(xs):\n    return math.sqrt(sum(xs))\n"
WRONG = "def root_sum(xs):\n    return sum(xs)\n"
RIGHT_BODY = "    return math.sqrt(sum(xs))\n"
WRONG_BODY = "    return sum(xs)\n"
RIGHT_BLOCK = f"```python\n{RIGHT}```\n"
WRONG_BLOCK = f"```python\n{WRONG}```\n"
TRANSCRIPT = ">>> def root_sum(xs):\n...     return sum(xs)\n...\n>>> root_sum([4, 5])\n9\n"
DOCUMENTED = '''def root_sum(xs):
    """Return the root of the sum.

    Example:
    ```python
    root_sum([4, 5])  # 3.0
    ```
    And with ~~~ too:
    ```
    root_sum([])
    ```
    """
    return math.sqrt(sum(xs))
'''


DECORATED = "import functools\n\n@functools.wraps(sum)\n" + RIGHT


def python(code: str) -> str:
    return f"```python\n{code}```\n"


def quoted(text: str) -> str:
    return "".join(f"> {line}\n" for line in text.splitlines())


def indented(text: str, by: str = "    ") -> str:
    return textwrap.indent(text, by)


SHAPES: dict[str, str] = {
    # Reasoning
    "think": f"<think>\nFirst idea:\n{WRONG_BLOCK}\nNo, the root is missing.\n</think>\n\n{RIGHT_BLOCK}",
    "think, draft after a fence that never closes": f"<think>\n```python\n{WRONG}\nhm, no.\n</think>\n{RIGHT_BLOCK}",
    "think, answer without a fence": f"<think>\n{WRONG}</think>\n{RIGHT}",
    "think opened by the template": f"The sum first.\n{WRONG_BLOCK}That lacks the root.\n</think>\n\n{RIGHT_BLOCK}",
    "answer, then reasoning that is cut off": f"{RIGHT_BLOCK}\n<think>\nIs it right? Perhaps\n{WRONG_BLOCK}is",
    "thinking in another case": f"<Thinking>\n{WRONG_BLOCK}</Thinking>\n{RIGHT_BLOCK}",
    "reasoning and answer tags": f"<reasoning>\n{WRONG_BLOCK}</reasoning>\n<answer>\n{RIGHT}</answer>\n",
    "answer tag around a fence": f"<think>\n{WRONG}\n</think>\n<answer>\n{RIGHT_BLOCK}</answer>",
    "[THINK]": f"[THINK]\n{WRONG_BLOCK}[/THINK]{RIGHT_BLOCK}",
    "channels": (
        f"<|channel|>analysis<|message|>Draft:\n{WRONG_BLOCK}Needs a root.<|end|><|start|>assistant<|channel|>final"
        f"<|message|>Here it is.\n{RIGHT_BLOCK}<|return|>"
    ),
    "channels, decoded without their tokens": f"analysisWe need a root.\n{WRONG_BLOCK}assistantfinal{RIGHT_BLOCK}",
    "begin_of_thought": (
        f"<|begin_of_thought|>\n{WRONG_BLOCK}<|end_of_thought|>\n\n"
        f"<|begin_of_solution|>\n{RIGHT_BLOCK}<|end_of_solution|>"
    ),
    "the word </think> in the code's own comment": (
        "```python\ndef root_sum(xs):\n    # nothing about </think> here\n    return math.sqrt(sum(xs))\n```\n"
    ),
    "reasoning quotes the tag": f"<think>\nThe tag '</think>' ends this.\n{WRONG_BLOCK}</think>\n{RIGHT_BLOCK}",
    # Several blocks
    "corrected at the end": f"{WRONG_BLOCK}\nWait, that is the sum itself. Corrected:\n\n{RIGHT_BLOCK}",
    "three tries": f"{WRONG_BLOCK}Hm.\n{WRONG_BLOCK.replace('sum(xs)', 'max(xs)')}Finally:\n{RIGHT_BLOCK}",
    "corrected in a block without a language": f"{WRONG_BLOCK}Better:\n```\n{RIGHT}```\n",
    "the last try is not code": RIGHT_BLOCK + "Roughly:\n" + python("def root_sum(xs):\n    root of (sum of xs)\n"),
    "the last try was cut off": RIGHT_BLOCK + "Faster:\n```python\ndef root_sum(xs):\n    total = (",
    "signature at the end": f"{RIGHT_BLOCK}\nIts signature:\n```python\ndef root_sum(xs): ...\n```\n",
    "usage at the end": RIGHT_BLOCK + python("from solution import root_sum\nprint(root_sum([4, 5]))\n"),
    "shell first": f"```bash\npip install numpy\n```\n```python\n{RIGHT}```\nRun it:\n```sh\npython main.py\n```",
    "output block last": f"{RIGHT_BLOCK}Output:\n```text\n3.0\n```\n",
    "json last": f'{RIGHT_BLOCK}Input:\n```json\n{{"xs": [4, 5]}}\n```\n',
    "the wrong program in another language last": RIGHT_BLOCK + "```javascript\nconst root_sum = 3;\n```\n",
    "a transcript last": f"{RIGHT_BLOCK}Without the root one would see:\n```pycon\n{TRANSCRIPT}```\n",
    "transcript alone": "```pycon\n" + TRANSCRIPT.replace("return sum(xs)", "return math.sqrt(sum(xs))") + "```\n",
    "helper in an earlier block": (
        "First a helper:\n```python\ndef total(xs):\n    return sum(xs)\n```\nThen the function:\n"
        "```python\ndef root_sum(xs):\n    return math.sqrt(total(xs))\n```\n"
    ),
    "helper beside a wrong draft that asserts": (
        f"```python\nimport operator, functools\n\ndef total(xs):\n    return functools.reduce(operator.add, xs, 0)\n\n"
        f"{WRONG}\nassert root_sum([4, 5]) == 3\n```\nThe assertion fails, so:\n"
        "```python\ndef root_sum(xs):\n    return total(xs) ** 0.5\n```\n"
    ),
    "helper in a later block": (
        "```python\ndef root_sum(xs):\n    return math.sqrt(total(xs))\n```\nwhere\n"
        "```python\ndef total(xs):\n    return sum(xs)\n```\n"
    ),
    "import in a block of its own": (
        "```python\nfrom functools import reduce as fold\n```\n\n"
        "```python\ndef root_sum(xs):\n    return fold(lambda a, b: a + b, xs, 0) ** 0.5\n```\n"
    ),
    "table that another block fills": (
        "```python\nROOTS = {}\nfor i in range(50):\n    ROOTS[i] = i ** 0.5\nprint(ROOTS)\n```\n"
        "```python\ndef root_sum(xs):\n    return ROOTS[sum(xs)]\n```\n"
    ),
    # Fences
    "tildes": f"~~~python\n{RIGHT}~~~\n",
    "longer fence around a shorter one": f"````python\n{DOCUMENTED}````\n",
    "fence inside a docstring": f"```python\n{DOCUMENTED}```\nDone.\n",
    "fence inside a docstring, not closed": f"```python\n{DOCUMENTED}",
    "markdown fence around": f"````markdown\n# Answer\n\n{RIGHT_BLOCK}````\n",
    "markdown fence of the same length around": f"```markdown\n# Answer\n{RIGHT_BLOCK}```\n",
    "fence behind words": f"Sure, here you go: ```python\n{RIGHT}```\n",
    "fence behind words, no language": f"Sure, here you go: ```\n{RIGHT}```\n",
    "code on the fence's line": "```python def root_sum(xs): return math.sqrt(sum(xs))```\n",
    "code on the fence's line, no language": "```def root_sum(xs):\n    return math.sqrt(sum(xs))\n```\n",
    "closing fence behind the code": "```python\ndef root_sum(xs):\n    return math.sqrt(sum(xs))```\nIt works.\n",
    "words behind the closing fence": f"```python\n{RIGHT}``` That is all.\n{WRONG[:0]}",
    "never closed": f"```python\n{RIGHT}",
    "never closed, words behind": f"```python\n{RIGHT}\nThis function adds the numbers and takes the root.\n",
    "closing fence forgotten before the next": f"```python\n{WRONG}\nCorrected:\n{RIGHT_BLOCK}",
    "info string with a title": f'```python title="root.py" linenos\n{RIGHT}```\n',
    "info string in braces": f"```{{.python .numberLines}}\n{RIGHT}```\n",
    "upper case language": f"```Python3\n{RIGHT}```\n",
    "space before the language": f"``` python\n{RIGHT}```\n",
    "in a list": f"1. First, this:\n\n{indented(RIGHT_BLOCK, '   ')}\n2. Then, test it.\n",
    "on the list's own line": "- ```python\n" + indented(RIGHT, "  ") + "  ```\n",
    "in a block quote": quoted(f"Here:\n{RIGHT_BLOCK}") + "\nHope this helps.\n",
    "all lines indented": f"```python\n{indented(RIGHT)}```\n",
    "carriage returns": f"Sure:\n{WRONG_BLOCK}No:\n{RIGHT_BLOCK}".replace("\n", "\r\n"),
    "<code>": f'<p>Use this:</p>\n<pre><code class="language-python">{RIGHT}</code></pre>\n',
    "<code> with entities": "<code>\n" + RIGHT.replace("(sum(xs))", "(sum(x for x in xs if x &gt; -1))") + "</code>\n",
    "[PYTHON]": f"[PYTHON]\n{RIGHT}[/PYTHON]\n[TESTS]\nassert root_sum([1]) == 2\n[/TESTS]\n",
    "inline code everywhere": f"`root_sum` uses `math.sqrt`, as ``sum`` is ```not``` enough:\n{RIGHT_BLOCK}`Done`.\n",
    "prompt opened the fence": f"{RIGHT}```\n\nThe naive way would be wrong:\n```python\nprint(sum([4, 5]))\n```\n",
    "empty block first": f"```python\n```\n{RIGHT_BLOCK}",
    "non-breaking spaces": "```python\ndef root_sum(xs):\n\xa0\xa0\xa0\xa0return math.sqrt(sum(xs))\n```\n",
    "prose inside the fence": python(
        f"Here is the function you asked for:\n\n{RIGHT}\nIt takes the root of the sum.\n"
    ),
    "notebook magic": f"```python\n!pip install numpy\n{RIGHT}```\n",
    # No fence
    "prose around": f"Here is the function:\n\n{RIGHT}\nIt takes the root of the sum.\n",
    "prose around two tries": f"First try:\n\n{WRONG}\nThis forgets the root. Better:\n\n{RIGHT}\nDone.\n",
    "indented as Markdown's code": f"Here is the function:\n\n{indented(RIGHT)}\nIt takes the root.\n",
    "prose with keywords": f"for this we need a root.\nif it is empty, return 0.\n\n{RIGHT}\nreturn value: a float\n",
    "Markdown around": f"## Solution\n\n{RIGHT}\n**Note:** it takes *the root*.\n- Time: O(n)\n* Space = O(1)\n",
    "helper and main amid prose": (
        "We need a helper:\n\ndef total(xs):\n    return sum(xs)\n\nand then:\n\n"
        "def root_sum(xs):\n    return math.sqrt(total(xs))\n\nThat's it.\n"
    ),
    # Repeated prompt, bodies
    "whole prompt again": f"```python\n{PROMPT}{RIGHT_BODY}```\n",
    "whole prompt again without a fence": f"{PROMPT}{RIGHT_BODY}\nThis is the completed function.\n",
    "body alone": f"```python\n{RIGHT_BODY}```\n",
    "body alone, not indented": "```python\nreturn math.sqrt(sum(xs))\n```\n",
    "body alone, indented by two": "```python\n  total = sum(xs)\n  return math.sqrt(total)\n```\n",
    "body alone amid prose": f"The body is:\n\n{RIGHT_BODY}\nThat completes it.\n",
    "draft body, then the function": f"Roughly:\n```python\n{WRONG_BODY}```\nIn full:\n{RIGHT_BLOCK}",
    "the function, then its key line": f"{RIGHT_BLOCK}The key line is:\n```python\n{WRONG_BODY}```\n",
    # Examples of use
    "example that waits for input": python(RIGHT + "\nprint(root_sum([4]))\nif __name__ == '__main__':\n    input()\n"),
    "wrong assertion of its own": f"```python\n{RIGHT}\nassert root_sum([1, 1]) == 2\n```\n",
    "old print statement": f"```python\n{RIGHT}\nprint root_sum([4, 5])\n```\n",
    "example cut off by the limit": f"```python\n{RIGHT}\n# Example\nprint(root_sum([4,",
    # How it is defined
    "lambda": "```python\nroot_sum = lambda xs: math.sqrt(sum(xs))\n```\nor slower:\n```python\nsum([1])\n```\n",
    "decorated": python(DECORATED),
    "decorated amid prose": f"So:\n\n{DECORATED}\nOK?\n",
    "defined under try": python("try:\n    import numpy\nexcept ImportError:\n    pass\n" + RIGHT),
    "future import": f"```python\nfrom __future__ import annotations\n\n{RIGHT}```\n",
    "string that holds a control token": (
        python("def root_sum(xs):\n    end = '<|im_end|>'\n    return math.sqrt(sum(xs)) if end else 0\n")
        + "<|im_end|>\n"
    ),
    # Control tokens and turns
    "end of turn": f"{RIGHT_BLOCK}<|im_end|>\n",
    "end of text behind code": f"{RIGHT.rstrip()}<|endoftext|>",
    "header of the turn": f"<|im_start|>assistant\n{RIGHT_BLOCK}<|im_end|>",
    "Llama's header and end": f"<|start_header_id|>assistant<|end_header_id|>\n\n{RIGHT_BLOCK}<|eot_id|>",
    "Gemma's turn": f"<start_of_turn>model\n{RIGHT_BLOCK}<end_of_turn>\n<eos>",
    "DeepSeek's end": f"{RIGHT_BLOCK}<｜end▁of▁sentence｜>",
    "sentence tokens": f"<s> {RIGHT_BLOCK}</s>",
    "next turn made up": f"{RIGHT_BLOCK}<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n{WRONG}",
    "next document made up": f"{RIGHT.rstrip()}<|endoftext|>{WRONG}",
    "user's next instruction made up": f"{RIGHT_BLOCK}</s>[INST] Without the root? [/INST] {WRONG_BLOCK}",
    "user's next instruction made up, in Alpaca's form": (
        f"### Response:\n{RIGHT}\n### Instruction:\nWithout the root.\n\n### Response:\n{WRONG}"
    ),
    # Others
    "LaTeX": f"\\begin{{verbatim}}\n{RIGHT}\\end{{verbatim}}\n",
    "notebook": "```\nIn [1]: def root_sum(xs):\n   ...:     return math.sqrt(sum(xs))\n\nIn [2]: 1\nOut[2]: 1\n```\n",
    "line numbers": python("1 def root_sum(xs):\n2     return math.sqrt(sum(xs))\n"),
    "the language as a word": f"python\n{RIGHT}",
    "template at the end": RIGHT_BLOCK + "From:\n" + python("def root_sum(xs):\n    raise NotImplementedError\n"),
    "user's code quoted": quoted(f"Your code was:\n{WRONG_BLOCK}") + f"\nFixed:\n{RIGHT_BLOCK}",
    "steps, then the whole": (
        "1. **Sum**:\n   ```python\n   total = sum(xs)\n   return total\n   ```\n2. **Root**.\n\n" + RIGHT_BLOCK
    ),
    "details": f"<details>\n<summary>Code</summary>\n\n{RIGHT_BLOCK}\n</details>",
    "string that holds a fence": python("def root_sum(xs):\n    fence = '```'\n    return math.sqrt(sum(xs))\n"),
    "name in a string": python(f'DOC = """\n{WRONG}"""\n{RIGHT}'),
    "helper behind a form feed": (
        "```python\nimport operator\n\f\ndef total(xs):\n    return operator.index(sum(xs))\n```\n"
        "```python\ndef root_sum(xs):\n    return total(xs) ** 0.5\n```\n"
    ),
}


def run(answer: Answer | Sample, problem: Problem = PROBLEM) -> None:
    """Run an answer and the problem's tests in one namespace; raises where it is wrong."""
    text = answer.solution if answer.completion is None else problem.prompt + answer.completion
    namespace: dict[str, object] = {}
    exec(text or "", namespace)
    exec(problem.tests, namespace)


def test_the_drafts_are_wrong() -> None:
    for draft in (WRONG, PROMPT + WRONG_BODY):
        with pytest.raises(AssertionError):
            run(Answer(solution=draft))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("form", ["chat", "completion"])
def test_every_shape_is_read(shape: str, form: Form) -> None:
    answer = extract(SHAPES[shape], PROBLEM, form=form)
    run(answer)
    assert extract(answer.text, PROBLEM, form="chat" if answer.completion is None else form) == answer


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("field", ["completion", "solution"])
def test_every_shape_is_read_from_a_file_of_samples(shape: str, field: str) -> None:
    if shape == "the language as a word":
        pytest.skip("it compiles as it stands, so the judge leaves it alone")
    sample = Sample(task_id=PROBLEM.task_id, **{field: SHAPES[shape]})
    extracted = extract_sample(sample, PROBLEM)
    run(extracted)
    assert extract_sample(extracted, PROBLEM) is extracted
    assert extracted.raw == SHAPES[shape] or extracted is sample


def test_the_judge_says_the_same(tmp_path: Path) -> None:
    shapes = list(SHAPES.values())[::8]
    write_rows(tmp_path / "problems.jsonl", [PROBLEM])
    write_rows(tmp_path / "samples.jsonl", [Sample(task_id=PROBLEM.task_id, completion=text) for text in shapes])
    config = JudgeConfig(workers=1, timeout_s=2, cache=False)
    metrics = judge_file(
        str(tmp_path / "problems.jsonl"), tmp_path / "samples.jsonl", tmp_path / "out", config, (1,), resamples=20
    )
    assert metrics.statuses == {"passed": len(shapes)}
    assert metrics.num_extracted == len(shapes)


METHOD = Problem(
    task_id="shape/1",
    prompt=(
        "import math\n\nclass Circle:\n    def __init__(self, r):\n        self.r = r\n\n"
        '    def area(self):\n        """Return the area."""\n'
    ),
    entry_point="area",
    tests="assert round(Circle(2).area(), 2) == 12.57\n",
)
AREA = "def area(self):\n    return math.pi * self.r ** 2\n"
CLASS = METHOD.prompt.replace('"""Return the area."""', "return math.pi * self.r ** 2").replace("import math\n\n", "")
ASYNC = Problem(
    task_id="shape/2",
    prompt='import asyncio\n\nasync def twice(x: int) -> int:\n    """Return twice x."""\n',
    entry_point="twice",
    tests="import asyncio\nassert asyncio.run(twice(2)) == 4\n",
)
TWICE = "async def twice(x):\n    return 2 * x\n"
PROGRAM = Problem(
    task_id="shape/3",
    prompt='"""\nWrite a function add.\nassert add(1, 2) == 3\n"""\n',
    entry_point="add",
    tests="assert add(1, 2) == 3\n",
)
ADD = "def add(a, b):\n    return a + b\n"
BAD_ADD = "def add(a, b):\n    return a - b\n"
NAMELESS = Problem(task_id="shape/4", prompt="Write add and one.\n", tests="assert add(1, 2) == 3 and one() == 1\n")
ONE = "def one():\n    return 1\n"
BARE = Problem(task_id="shape/5", prompt="def add(a, b):\n", entry_point="add", tests=PROGRAM.tests)
HELPED = Problem(
    task_id="shape/6",
    prompt='def same(x):\n    return x\n\n\n@staticmethod\ndef add(a, b):\n    """Add."""\n',
    entry_point="add",
    tests=PROGRAM.tests,
)


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (METHOD, python(CLASS)),
        (METHOD, python(AREA.replace("** 2", "")) + "Squared:\n" + python(AREA)),
        (METHOD, python(indented(AREA))),
        (METHOD, python(indented(AREA.partition("\n")[2]))),
        (METHOD, python("return math.pi * self.r ** 2\n")),
        (METHOD, f"Here:\n\n{AREA}\nDone."),
        (ASYNC, python(TWICE.replace("2 * x", "x")) + python(TWICE)),
        (ASYNC, f"So:\n{TWICE}Done."),
        (ASYNC, python("    return 2 * x\n")),
        (PROGRAM, python(BAD_ADD) + "No:\n" + python(ADD)),
        (PROGRAM, f"Here you are:\n{ADD}Done"),
        (PROGRAM, PROGRAM.prompt + ADD),
        (PROGRAM, python("import operator\n\nadd = operator.add\n") + python("add(1, 2)\n")),
        (PROGRAM, f"{BAD_ADD}</think>{ADD}"),
        (NAMELESS, python(BAD_ADD) + "Both:\n" + python(f"{ADD}\n{ONE}")),
        (NAMELESS, python(BAD_ADD) + python(ADD) + "and\n" + python(ONE)),
        (BARE, python(BAD_ADD) + python(ADD)),
        (BARE, python("return a + b\n")),
        (BARE, ADD + "\nThis adds."),
        (HELPED, python("def add(a, b):\n    return same(a) + b\n")),
        (HELPED, python("    return same(a) + b\n")),
    ],
)
def test_other_kinds_of_problems(problem: Problem, text: str) -> None:
    run(extract(text, problem, form="chat"), problem)
    for field in ("completion", "solution"):
        run(extract_sample(Sample(task_id="t", **{field: text}), problem), problem)


DECORATED = Problem(
    task_id="shape/7",
    prompt='import math\n\n\nclass Circle:\n    r = 1\n\n    @property\n    def area(self):\n        """Area."""\n',
    entry_point="area",
    tests="assert 3 < Circle().area < 4\n",
)
AREA_ALONE = "def area(self):\n    return math.pi * self.r ** 2\n"


@pytest.mark.parametrize("decorator", ["", "@property\n"])
def test_a_method_is_decorated_once(decorator: str) -> None:
    solution = extract(python(decorator + AREA_ALONE), DECORATED, form="chat").solution
    before = "import math\n\n\nclass Circle:\n    r = 1\n\n    @property\n"
    assert solution == before + indented(AREA_ALONE)


@pytest.mark.parametrize("definition", ["async def", "@functools.cache\nasync def", "@functools.cache\ndef"])
def test_imports_before_a_definition_of_any_kind_stay_and_its_decorators_do_not(definition: str) -> None:
    imports = "import functools\nimport math\n\n\n"
    problem = Problem(
        task_id="shape/8", prompt=f"{imports}{definition} root(x):\n", entry_point="root", tests="assert root(4)\n"
    )
    program = "def root(x):\n    return math.sqrt(x)\n"
    assert extract(python(program), problem, form="chat") == Answer(solution=imports + program)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I cannot help with that.",
        f"<think>\n{RIGHT_BLOCK}Let me check again",
        f"<think>\n{RIGHT_BLOCK}</think>",
        f"<|channel|>analysis<|message|>{RIGHT_BLOCK}",
        f"analysisPerhaps\n{RIGHT_BLOCK}",
        "<|im_end|>",
    ],
    ids=["empty", "refusal", "still thinking", "only thinking", "channel without an end", "decoded channel", "token"],
)
def test_no_answer_is_an_empty_one(text: str) -> None:
    assert extract(text, PROBLEM, form="chat") == Answer(solution="")


def test_code_that_does_not_compile_stays_so() -> None:
    broken = RIGHT.replace("):", ")")
    assert extract(python(broken), PROBLEM, form="chat").text.endswith(broken)
    for text in (
        f"def helper(:\n    pass\n\n\n{RIGHT}",
        f"{RIGHT}\n\ndef helper(x):\n    retur",
        f"{RIGHT}\nx = = 3\n",
    ):
        sample = Sample(task_id="t", solution=text)
        assert extract_sample(sample, PROBLEM) is sample
    sample = Sample(task_id="t", completion=f"{RIGHT_BODY}\n\ndef helper(x):\n    retur")
    assert extract_sample(sample, PROBLEM) is sample


@pytest.mark.parametrize(
    "text", ["x = 1\n", f"{RIGHT}\nassert root_sum([1]) == 2\n", f"# <think>\n{RIGHT}", f"{DOCUMENTED}"]
)
def test_what_compiles_within_its_problem_is_not_changed(text: str) -> None:
    for problem in (PROGRAM, PROBLEM):
        sample = Sample(task_id="t", completion=text, raw="as another tool had it")
        assert extract_sample(sample, problem) is sample
    assert extract_sample(Sample(task_id="t", solution=text), PROBLEM).solution == text


def test_a_chat_is_told_from_code() -> None:
    assert all(map(is_chat, (RIGHT_BLOCK, "~~~\nx\n~~~", "<think>", "x<|im_end|>", "analysisWe")))
    assert not any(map(is_chat, (RIGHT, PROMPT, "s = r'</think>'", "analysis = 1", "x = ~~~1")))
