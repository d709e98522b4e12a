"""Find the program in an answer to a problem of standard input. Rule 13 of the package's docstring.

Such a problem asks for no name. A program is known by what it does when it runs: it reads and prints.
"""

from __future__ import annotations

import ast
import re
import textwrap

from ibft.artifacts.rows import Problem
from ibft.text.answers.blocks import split_blocks
from ibft.text.answers.loose import find_code
from ibft.text.answers.prompt import Asked, leaves_function_open
from ibft.text.answers.python import cleaned, fragment, in_order, readable, with_helpers
from ibft.text.answers.reader import Answer, Form
from ibft.text.answers.syntax import compiles, in_front, is_code, names_in, parse
from ibft.text.answers.turn import plain_texts

__all__ = ["continues_code", "find_whole", "without_program"]

_READS = re.compile(r"\b(?:input|stdin|open|fileinput)\b")
_PRINTS = re.compile(r"\b(?:print|stdout|write|writelines)\b")
_MAX_READ = 40
_ANY = Asked("", frozenset(), "", False)


def continues_code(text: str, prompt: str) -> bool:
    """Decide whether a text continues a prompt of code, as opposed to words, to a program that compiles."""
    return (is_code(prompt) or leaves_function_open(prompt)) and compiles(prompt + text)


def find_whole(text: str, problem: Problem, form: Form, *, is_strict: bool = False) -> Answer | None:
    """Return the program in an answer; None where it has none, and, if it is strict, where the text is one already.

    Args:
        text: what the model wrote, or another tool's sample.
        problem: with `io`.
        form: how it was asked.
        is_strict: leave code that does not compile alone, unless there is prose or a fence around it.
    """
    if form == "completion" and continues_code(text, problem.prompt):
        return Answer(completion=text)
    for plain in plain_texts(text):
        if (code := _find(cleaned(plain), is_strict)) is not None:
            program = _with_prompt(code, problem.prompt)
            is_untouched = program == text and form == "completion"
            return Answer(completion=text) if is_untouched else Answer(solution=program)
    return None


def without_program(text: str, form: Form) -> Answer:
    """Return what stands for an answer without a program: code that does not compile, "" where there is only prose."""
    plain = next(plain_texts(text))
    if form == "completion":
        return Answer(completion=plain)
    split = split_blocks(cleaned(plain), _acts, _parses)
    return Answer(solution=fragment(split.blocks, split.loose, _ANY))


def _find(text: str, is_strict: bool) -> str | None:
    if _acts(text):
        return text
    split = split_blocks(text, _acts, _parses)
    blocks = in_order(split.blocks[-_MAX_READ:])
    codes = [code for block in blocks for code in [readable(block, _ANY)] if code is not None and is_code(code)]
    rest = find_code(split.loose)
    if rest.code.strip() and not rest.is_broken and not (is_strict and not blocks and not rest.num_prose):
        codes.insert(0, rest.code)
    if not codes:
        return None
    # The last of the best: a later block corrects an earlier one, but may also only show how to call it.
    _, number = max((_rank(code), number) for number, code in enumerate(codes))
    return with_helpers(codes[number], [*codes[:number], *codes[number + 1 :]], _ANY)


def _acts(code: str) -> bool:
    """Decide whether code compiles and prints something when it is run, as opposed to only defining functions."""
    tree = parse(code) if _PRINTS.search(code) else None
    if tree is None or not compiles(code):
        return False
    passive = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)
    return any(
        not isinstance(node, passive) and not (isinstance(node, ast.Expr) and not isinstance(node.value, ast.Call))
        for node in tree.body
    )


def _parses(code: str) -> bool:
    return parse(textwrap.dedent(code)) is not None


def _rank(code: str) -> tuple[bool, bool, bool]:
    """Order pieces of code by how far each is a program: it acts, reads, and needs nothing from elsewhere."""
    _, needed = names_in(code)
    return _acts(code), bool(_READS.search(code)), not needed


def _with_prompt(code: str, prompt: str) -> str:
    """Put the prompt in front, where it is code that the program needs and does not have."""
    if not is_code(prompt) or not names_in(code)[1] & names_in(prompt)[0]:
        return code
    return in_front(prompt, code)
