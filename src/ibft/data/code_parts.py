"""The parts of a prompt that is code: a Python function to continue, or a Verilog module."""

from __future__ import annotations

import ast
import io
import re
import tokenize

from ibft.data.code import parse_python
from ibft.data.parts import Part, label_and_sentences, trimmed

__all__ = ["function_parts", "module_parts"]

_Function = (ast.FunctionDef, ast.AsyncFunctionDef)
_DEF = re.compile(r"(?:async[ \t]+)?def[ \t]+(\w+)")
_INDENTED_DEF = re.compile(r"(?m)^([ \t]*)(?:async[ \t]+)?def[ \t]")
_STRING = re.compile(r"[rRuU]?(\"\"\"|'''|\"|')(.*)\1", re.DOTALL)
_MODULE = re.compile(r"(?m)^[ \t]*module[ \t]+(\w+)")
_BLOCK = "if True:\n"
"""What indented code may stand in."""
_COMMENT_MARKS = re.compile(r"[\s/*]*")


def function_parts(prompt: str) -> list[Part]:
    """Return the parts of a Python prompt around the function that it begins; none where it begins no function.

    Of several functions, that is the last; what stands above it is its context. A prompt that ends inside a docstring,
    or is not Python, begins none.
    """
    if prompt[:1] in (" ", "\t"):  # a method alone
        shift = len(_BLOCK)
        parts = [part for part in function_parts(_BLOCK + prompt) if part.end > shift]
        return [part._replace(start=max(part.start - shift, 0), end=part.end - shift) for part in parts]
    node = _last_function(prompt)
    if node is None:
        return []
    starts = [0, *(match.end() for match in re.finditer("\n", prompt))]

    def place(line: int, column: int) -> int:
        """Return the number of the character; `ast` counts columns in bytes."""
        text = prompt[starts[line - 1] :].partition("\n")[0]
        return starts[line - 1] + len(text.encode()[:column].decode())

    definition = _DEF.match(prompt, place(node.lineno, node.col_offset))
    if definition is None or (colon := _colon_behind(prompt, definition.end())) is None:
        return []
    first_line = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    parts = _above(prompt, starts[first_line - 1], "class" if node.col_offset else "context")
    if node.decorator_list:
        parts.append(Part("decorator", *trimmed(prompt, starts[first_line - 1], definition.start())))
    parts.append(Part("name", *definition.span(1), of="signature"))
    parts.append(Part("parameters", *trimmed(prompt, definition.end(), colon), of="signature"))
    end, first = colon + 1, node.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        assert first.end_lineno is not None
        assert first.end_col_offset is not None
        start, end = place(first.lineno, first.col_offset), place(first.end_lineno, first.end_col_offset)
        parts += _docstring_parts(prompt, start, end)
    body = trimmed(prompt, end, len(prompt))
    if body[0] < body[1]:
        parts.append(Part("body", *body))
    return parts


def _last_function(prompt: str) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    indents = _INDENTED_DEF.findall(prompt)
    # Carriage returns alone, which Python counts as line ends, are in no code that people have.
    if not indents or re.search(r"\r(?!\n)", prompt):
        return None
    # Without a docstring the function has no body yet.
    for source in (prompt, f"{prompt.rstrip()}\n{indents[-1]}    pass\n"):
        if (tree := parse_python(source)) is not None:
            functions = [node for node in ast.walk(tree) if isinstance(node, _Function)]
            return max(functions, key=lambda node: node.lineno, default=None)
    return None


def _colon_behind(prompt: str, start: int) -> int | None:
    """Return the place of the colon that ends a signature: the first outside of brackets."""
    behind, depth = prompt[start:], 0
    starts = [0, *(match.end() for match in re.finditer("\n", behind))]
    try:
        for token in tokenize.generate_tokens(io.StringIO(behind).readline):
            if token.string == ":" and not depth:
                return start + starts[token.start[0] - 1] + token.start[1]
            depth += (token.string in ("(", "[", "{")) - (token.string in (")", "]", "}"))
    except (tokenize.TokenError, SyntaxError):
        pass
    return None


def _above(prompt: str, end: int, kind: str) -> list[Part]:
    """Return what stands above a definition: its comment, and the context or class before that."""
    lines = prompt[:end].splitlines(keepends=True)
    while lines and not lines[-1].strip():
        lines.pop()
    last = len("".join(lines))
    while lines and lines[-1].lstrip().startswith("#"):
        lines.pop()
    middle = len("".join(lines))
    spans = [(kind, *trimmed(prompt, 0, middle)), ("comment", *trimmed(prompt, middle, last))]
    return [Part(name, first, final) for name, first, final in spans if first < final]


def _docstring_parts(prompt: str, start: int, end: int) -> list[Part]:
    string = _STRING.fullmatch(prompt, start, end)
    # Two literals side by side: what is between them is not text.
    if string is None or re.search(rf"(?<!\\){string.group(1)}", string.group(2)):
        return [Part("docstring", start, end)]
    quotes = string.group(1)
    forbidden = (quotes,) if len(quotes) == 3 else (quotes, "\n")
    return label_and_sentences(prompt, *string.span(2), of="docstring", forbidden=forbidden)


def module_parts(prompt: str) -> list[Part]:
    """Return the parts of a prompt that ends in a Verilog module's header; none where there is no such header."""
    headers = [*_MODULE.finditer(prompt)]
    if not headers or (end := prompt.find(";", headers[-1].end())) < 0:
        return []
    header = headers[-1]
    begin = _COMMENT_MARKS.match(prompt, 0, header.start())
    assert begin is not None
    last = len(prompt[: header.start()].rstrip(" \t\r\n/*"))
    parts = label_and_sentences(prompt, begin.end(), last, of="description")
    parts.append(Part("name", *header.span(1), of="signature"))
    ports, body = trimmed(prompt, header.end(), end), trimmed(prompt, end + 1, len(prompt))
    if ports[0] < ports[1]:
        parts.append(Part("parameters", *ports, of="signature"))
    if body[0] < body[1]:
        parts.append(Part("body", *body))
    return parts
