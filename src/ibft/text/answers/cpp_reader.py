"""Reading answers in C++: a body behind the prompt's function, or a whole program."""

from __future__ import annotations

import re

from ibft.artifacts.rows import Problem, Sample
from ibft.text.answers.blocks import split_blocks
from ibft.text.answers.cpp import body_end, defines, num_open_braces, without_main
from ibft.text.answers.reader import Answer, Form, Reader
from ibft.text.answers.turn import plain_texts

__all__ = ["CPP_READER", "CppReader"]

_STARTS = re.compile(
    r"^(?:#[ \t]*(?:include|define|pragma)\b|using\s|template\s*<|(?:[\w:<>,&*]+\s+)+[\w:]+\([^;\n]*\{)", re.M
)


class CppReader(Reader):
    """The block that has what is asked for: the function, or `main` where programs read standard input."""

    fences = frozenset({"cpp", "c++", "cc", "cxx", "c", "h", "hpp"})

    def extract(self, text: str, problem: Problem, form: Form) -> Answer:
        """Return a function's body or the whole program."""
        plain = next(plain_texts(text))
        wanted = "main" if problem.io else problem.entry_point
        blocks = [
            block for block in split_blocks(plain, lambda _: False).blocks if block.language in self.fences | {""}
        ]
        whole = [block.code for block in blocks if defines(block.code, wanted)]
        if whole:
            return _solution(whole[-1], problem)
        if blocks:
            code = blocks[-1].code
            is_body = self.is_open(problem.prompt) and bool(wanted)
            return Answer(completion=_cut(code, problem.prompt)) if is_body else _solution(code, problem)
        if form == "chat" or defines(plain, wanted):
            return _solution(_code(plain), problem)
        return Answer(completion=_cut(plain, problem.prompt))

    def extract_sample(self, sample: Sample, problem: Problem) -> Answer | None:
        """Return the answer in a sample of another tool; None where it has to be judged as it is."""
        form: Form = "chat" if sample.completion is None else "completion"
        answer = self.extract(sample.text, problem, form)
        is_same = "".join(answer.text.split()) == "".join(sample.text.split())
        return answer if answer.text.strip() and not is_same else None

    def has_ended(self, text: str, problem: Problem, form: Form) -> bool:
        """Decide whether a continuation has closed its function."""
        return form == "completion" and self.is_open(problem.prompt) and _cut(text, problem.prompt) != text

    def is_open(self, prompt: str) -> bool:
        """Decide whether a prompt ends inside braces."""
        return num_open_braces(prompt) > 0


CPP_READER = CppReader()


def _solution(code: str, problem: Problem) -> Answer:
    return Answer(solution=code if problem.io else without_main(code))


def _cut(text: str, prompt: str) -> str:
    """Return a continuation up to the brace that closes what the prompt has opened."""
    depth = num_open_braces(prompt)
    end = body_end(text, depth) if depth > 0 else None
    return text if end is None or not text[end:].strip() else f"{text[:end]}\n"


def _code(text: str) -> str:
    """Return the code amid words without a fence: from its first line that looks like C++ to its last brace."""
    start = _STARTS.search(text)
    end = text.rfind("}")
    return text if start is None or end < start.start() else f"{text[start.start() : end + 1]}\n"
