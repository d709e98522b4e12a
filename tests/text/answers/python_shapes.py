"""Shapes of answers that models write for Python problems: a table to read. Every one holds the right program.

RIGHT is the right function, WRONG a draft of it that a naive rule picks. `test_python_shapes.py` runs what is
extracted; each shape is written after what a family of models does, in words of our own.
"""

from __future__ import annotations

import textwrap

from ibft.rows import Problem

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
    "channels, decoded without their tokens": f"analysisWe need a root. Draft:\n{WRONG_BLOCK}assistantfinal{RIGHT_BLOCK}",
    "begin_of_thought": (
        f"<|begin_of_thought|>\n{WRONG_BLOCK}<|end_of_thought|>\n\n<|begin_of_solution|>\n{RIGHT_BLOCK}<|end_of_solution|>"
    ),
    "the word </think> in the code's own comment": (
        "```python\ndef root_sum(xs):\n    # nothing about </think> here\n    return math.sqrt(sum(xs))\n```\n"
    ),
    "reasoning quotes the tag": f"<think>\nThe tag '</think>' ends this.\n{WRONG_BLOCK}</think>\n{RIGHT_BLOCK}",
    # Several blocks
    "corrected at the end": f"{WRONG_BLOCK}\nWait, that is the sum itself. Corrected:\n\n{RIGHT_BLOCK}",
    "three tries": f"{WRONG_BLOCK}Hm.\n{WRONG_BLOCK.replace('sum(xs)', 'max(xs)')}Finally:\n{RIGHT_BLOCK}",
    "corrected in a block without a language": f"{WRONG_BLOCK}Better:\n```\n{RIGHT}```\n",
    "the last try is not code": f"{RIGHT_BLOCK}\nIn pseudocode:\n```python\ndef root_sum(xs):\n    root of (sum of xs)\n```",
    "the last try was cut off": f"{RIGHT_BLOCK}\nA variant that is faster:\n```python\ndef root_sum(xs):\n    total = (",
    "signature at the end": f"{RIGHT_BLOCK}\nIts signature:\n```python\ndef root_sum(xs): ...\n```\n",
    "usage at the end": f"{RIGHT_BLOCK}\nUse it so:\n```python\nfrom solution import root_sum\nprint(root_sum([4, 5]))\n```",
    "shell first": f"```bash\npip install numpy\n```\n```python\n{RIGHT}```\nRun it:\n```sh\npython main.py\n```",
    "output block last": f"{RIGHT_BLOCK}Output:\n```text\n3.0\n```\n",
    "json last": f'{RIGHT_BLOCK}Input:\n```json\n{{"xs": [4, 5]}}\n```\n',
    "the wrong program in another language last": f"{RIGHT_BLOCK}In JavaScript:\n```javascript\nconst root_sum = 3;\n```\n",
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
    "<code> with entities": "<code>\ndef root_sum(xs):\n    return math.sqrt(sum(x for x in xs if x &gt; -1))\n</code>\n",
    "[PYTHON]": f"[PYTHON]\n{RIGHT}[/PYTHON]\n[TESTS]\nassert root_sum([1]) == 2\n[/TESTS]\n",
    "inline code everywhere": f"`root_sum` uses `math.sqrt`, as ``sum`` is ```not``` enough:\n{RIGHT_BLOCK}`root_sum` is done.\n",
    "prompt opened the fence": f"{RIGHT}```\n\nThe naive way would be wrong:\n```python\nprint(sum([4, 5]))\n```\n",
    "empty block first": f"```python\n```\n{RIGHT_BLOCK}",
    "non-breaking spaces": "```python\ndef root_sum(xs):\n\xa0\xa0\xa0\xa0return math.sqrt(sum(xs))\n```\n",
    "prose inside the fence": f"```python\nHere is the function you asked for:\n\n{RIGHT}\nIt takes the root of the sum.\n```\n",
    "notebook magic": f"```python\n!pip install numpy\n{RIGHT}```\n",
    # No fence
    "prose around": f"Here is the function:\n\n{RIGHT}\nIt takes the root of the sum.\n",
    "prose around two tries": f"First try:\n\n{WRONG}\nThis forgets the root. Better:\n\n{RIGHT}\nDone.\n",
    "indented as Markdown's code": f"Here is the function:\n\n{indented(RIGHT)}\nIt takes the root.\n",
    "prose with keywords": f"for this task we need a root.\nif the list is empty, return 0.\n\n{RIGHT}\nreturn value: a float\n",
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
    "example that waits for input": f"```python\n{RIGHT}\nxs = [4, 5]\nprint(root_sum(xs))\n\nif __name__ == '__main__':\n    input()\n```\n",
    "wrong assertion of its own": f"```python\n{RIGHT}\nassert root_sum([1, 1]) == 2\n```\n",
    "old print statement": f"```python\n{RIGHT}\nprint root_sum([4, 5])\n```\n",
    "example cut off by the limit": f"```python\n{RIGHT}\n# Example\nprint(root_sum([4,",
    # How it is defined
    "lambda": "```python\nroot_sum = lambda xs: math.sqrt(sum(xs))\n```\nor slower:\n```python\nsum([1])\n```\n",
    "decorated": "```python\nimport functools\n\n@functools.wraps(sum)\ndef root_sum(xs):\n    return math.sqrt(sum(xs))\n```\n",
    "decorated amid prose": "So:\n\nimport functools\n\n@functools.wraps(sum)\ndef root_sum(xs):\n    return math.sqrt(sum(xs))\n\nOK?\n",
    "defined under try": "```python\ntry:\n    import numpy as np\nexcept ImportError:\n    np = None\n"
    + RIGHT
    + "```\n",
    "future import": f"```python\nfrom __future__ import annotations\n\n{RIGHT}```\n",
    "string that holds a control token": (
        "```python\ndef root_sum(xs):\n    end = '<|im_end|>'\n    return math.sqrt(sum(xs)) if end else 0\n```<|im_end|>\n"
    ),
    # Control tokens and turns
    "end of turn": f"{RIGHT_BLOCK}<|im_end|>\n",
    "end of text behind code": f"{RIGHT.rstrip()}<|endoftext|>",
    "header of the turn": f"<|im_start|>assistant\n{RIGHT_BLOCK}<|im_end|>",
    "Llama's header and end": f"<|start_header_id|>assistant<|end_header_id|>\n\n{RIGHT_BLOCK}<|eot_id|>",
    "Gemma's turn": f"<start_of_turn>model\n{RIGHT_BLOCK}<end_of_turn>\n<eos>",
    "DeepSeek's end": f"{RIGHT_BLOCK}<｜end▁of▁sentence｜>",
    "sentence tokens": f"<s> {RIGHT_BLOCK}</s>",
    "next turn made up": f"{RIGHT_BLOCK}<|im_end|>\n<|im_start|>user\nAnd without the root?<|im_end|>\n<|im_start|>assistant\n{WRONG_BLOCK}",
    "next document made up": f"{RIGHT.rstrip()}<|endoftext|>{WRONG}",
    "user's next instruction made up": f"{RIGHT_BLOCK}</s>[INST] Without the root? [/INST] {WRONG_BLOCK}",
}
