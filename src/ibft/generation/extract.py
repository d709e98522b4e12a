"""What of a model's raw text is the answer. Pure functions; the same rules end generation early.

1. **Inside a function.** Where the problem's prompt leaves a function open (as HumanEval's do), the answer is
   the body that follows. It ends before the first line that starts at column 0 with something other than a
   closing bracket: such a line is no longer the function. (The stop strings of the Codex paper, arXiv
   2107.03374 (`\\nclass`, `\\ndef`, `\\n#`, `\\nif`, `\\nprint`), are cases of this rule.) Lines inside a
   triple-quoted string count as text, not as lines of code.
2. **A whole program.** Otherwise the answer ends before the first line that starts with a code fence,
   `if __name__`, `print(` or `assert `: what follows there are examples of use.
3. **A fenced block.** With the chat template, the answer is the first fenced block, or, without any fence, the
   whole text. It is a program of its own, so what stands in the prompt before the entry point (imports,
   helpers) is put in front of it.
4. The recipe's own `generate.stop` strings end the answer in every case.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ibft.rows import Problem, Sample

__all__ = ["cut", "leaves_function_open", "to_sample"]

_TOP_LEVEL_LINE = re.compile(r"(?m)^[^\s\)\]\}]")
_EXAMPLE_OF_USE = re.compile(r"(?m)^(?:```|if __name__|print\(|assert )")
_FENCE = re.compile(r"(?ms)^[ \t]*```[^\n]*\n(.*?)(?:^[ \t]*```|\Z)")
_TRIPLE_QUOTE = re.compile(r'"""|\'\'\'')


def leaves_function_open(prompt: str) -> bool:
    """Whether Python source ends inside a function or class, so that what follows is its body."""
    top_level = [line for line in prompt.splitlines() if _TOP_LEVEL_LINE.match(line)]
    return bool(top_level) and re.match(r"(async\s+def|def|class)\b", top_level[-1]) is not None


def cut(text: str, prompt: str, language: str, stop: Sequence[str] = ()) -> str:
    """The part of a raw continuation that answers the prompt (rules 1, 2 and 4)."""
    ends = [index for string in stop if (index := text.find(string)) >= 0]
    if language == "python":
        pattern = _TOP_LEVEL_LINE if leaves_function_open(prompt) else _EXAMPLE_OF_USE
        ends += [match.start() for match in pattern.finditer(text) if not _is_inside_string(text, match.start())][:1]
    return text[: min(ends, default=len(text))]


def _is_inside_string(text: str, position: int) -> bool:
    """Whether a triple-quoted string is open at `position`."""
    quote = ""
    for match in _TRIPLE_QUOTE.finditer(text, 0, position):
        if not quote:
            quote = match.group()
        elif match.group() == quote:
            quote = ""
    return bool(quote)


def to_sample(
    problem: Problem,
    text: str,
    *,
    is_chat: bool,
    stop: Sequence[str] = (),
    index: int,
    finish_reason: str,
    num_tokens: int,
) -> Sample:
    """Turn raw text into a sample: a `solution` from a chat answer, a `completion` otherwise."""
    completion = solution = None
    if is_chat:
        ends = [place for string in stop if (place := text.find(string)) >= 0]
        text = text[: min(ends, default=len(text))]
        fenced = _FENCE.search(text)
        solution = _before_entry_point(problem) + (fenced.group(1) if fenced else text)
    else:
        completion = cut(text, problem.prompt, problem.language, stop)
        finish_reason = "stop" if len(completion) < len(text) else finish_reason
    return Sample(
        task_id=problem.task_id,
        completion=completion,
        solution=solution,
        index=index,
        finish_reason=finish_reason,
        num_tokens=num_tokens,
    )


def _before_entry_point(problem: Problem) -> str:
    definition = re.search(rf"(?m)^def {re.escape(problem.entry_point)}\b", problem.prompt)
    return problem.prompt[: definition.start()] if problem.entry_point and definition else ""
