"""Code as it is compared: what an example's code is, its functions or modules, and two forms of each. Pure.

The forms follow the usual classes of code clones (Roy and Cordy, Queen's University TR 2007-541): `tokens` are the
same for copies that differ in layout and comments alone (type 1), `fingerprint` is also the same after names were
changed consistently (type 2). What is edited besides (type 3) is for a similarity of tokens to find.
"""

from __future__ import annotations

import ast
import hashlib
import re
import textwrap
import warnings
import zlib
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from ibft.artifacts.rows import Conversation, TrainingPair

__all__ = [
    "MIN_TOKENS",
    "SHINGLE_TOKENS",
    "SIMILARITY",
    "Unit",
    "code_of",
    "code_tokens",
    "codes_of",
    "jaccard",
    "language_of",
    "parse_python",
    "prompt_text",
    "shingles",
    "units",
    "whole",
]

SHINGLE_TOKENS = 5
"""Tokens of a shingle, as for the near-duplicates of StarCoder's data (arXiv 2305.06161, section 3)."""

SIMILARITY = 0.7
"""Jaccard similarity of shingles from which on two pieces of code are near-duplicates, as for StarCoder (ibidem)."""
MIN_TOKENS = 20
"""Shorter code is equal by chance (`return self.name`)."""

_Language = Literal["python", "verilog", "other"]

_FENCED = re.compile(r"^[ \t]*(```+|~~~+)[^\n]*\n(.*?)(?:^[ \t]*\1[ \t]*$|\Z)", re.DOTALL | re.MULTILINE)
"""A fenced block of Markdown: group 2 is what stands inside."""
_STRING = r'"(?:\\.|[^"\\\n])*"'
_PYTHON = re.compile(
    r"\#[^\n]*|\\\n"
    r'|[rRbBuUfF]{0,2}(?:"""(?:\\.|[^\\])*?"""|\'\'\'(?:\\.|[^\\])*?\'\'\'|'
    rf"{_STRING}|'(?:\\.|[^'\\\n])*')"
    r"|[^\W\d]\w*|\.?\d[\w.]*|\S",
    re.DOTALL,
)
_C_LIKE = re.compile(
    rf"//[^\n]*|/\*.*?(?:\*/|\Z)|{_STRING}|[`$]?[^\W\d][\w$]*|\d*'[sS]?[bodhBODH][\w?]+|\.?\d[\w.]*|\S", re.DOTALL
)
_COMMENTS = {"python": ("#", "\\\n"), "verilog": ("//", "/*"), "other": ("//", "/*")}
_PYTHON_LINE = re.compile(r"^[ \t]*(?:async[ \t]+def|def|class|import|from)[ \t]", re.MULTILINE)
_VERILOG_KEYWORDS = """
    always always_comb always_ff always_latch and assign automatic begin bit buf byte case casex casez const default
    defparam disable edge else end endcase endfunction endgenerate endmodule endtask enum for forever function generate
    genvar if initial inout input int integer localparam logic longint macromodule module nand negedge nor not or output
    packed parameter posedge real reg repeat return shortint signed struct supply0 supply1 task time tri typedef union
    unique unsigned void wait wand while wire wor xnor xor
"""
_KEPT_WORDS = frozenset(_VERILOG_KEYWORDS.split())
_Function = (ast.FunctionDef, ast.AsyncFunctionDef)
# What a renaming tool would not touch (attributes, keyword arguments, imported names) stays as it is.
_KEPT_NAMES = frozenset({("Attribute", "attr"), ("keyword", "arg"), ("alias", "name"), ("ImportFrom", "module")})
_SKIPPED_FIELDS = frozenset({"ctx", "type_comment", "annotation", "returns", "type_ignores", "kind", "type_params"})


class Unit(NamedTuple):
    """One function, module or piece of code.

    `tokens` leave out comments, docstrings and white space; `fingerprint` (32 hex digits) is equal for units that are
    equal but for names, docstrings and annotations; `size` counts what the fingerprint is made of (nodes or tokens).
    """

    name: str
    text: str
    tokens: list[str]
    fingerprint: str
    size: int


def prompt_text(pair: TrainingPair) -> str:
    """Return the prompt as one text: the turns of a conversation one under the other, "" for text without a prompt."""
    if isinstance(pair, Conversation):
        return "\n".join(turn.content or "" for turn in pair.prompt)
    return pair.prompt or ""


def codes_of(pair: TrainingPair) -> tuple[str, ...]:
    """Return the code that an example teaches, in all answers that are trained."""
    if not isinstance(pair, Conversation):
        return code_of(pair.prompt or "", pair.completion)
    earlier = [pair.turns[place].content or "" for place in pair.trained[:-1]]
    codes = [code for answer in earlier if answer for code in code_of("", answer)]
    return (*codes, *code_of(prompt_text(pair), pair.completion))


def code_of(prompt: str, completion: str) -> tuple[str, ...]:
    """The code that an example teaches: its fenced blocks; else the completion, with the prompt where it continues it.

    It continues the prompt where the two together are Python, or where they are a Verilog module that the prompt began.
    Fences inside of Python (of a docstring) are none.
    """
    blocks = [match.group(2) for match in _FENCED.finditer(completion)]
    both = prompt + ("" if prompt.endswith("\n") or not prompt else "\n") + completion
    if not blocks and "endmodule" in completion:
        return (completion if re.search(r"\bmodule\b", completion) else both,)
    if _PYTHON_LINE.search(prompt) and parse_python(both) is not None:
        return (both,)
    return tuple(blocks) if blocks and parse_python(completion) is None else (completion,)


def units(code: str) -> list[Unit]:
    """The functions of Python code, methods too, and the modules of Verilog code; else the whole as one unit."""
    language = language_of(code)
    if language == "verilog":
        return list(_modules(code)) or [whole(code)]
    tree = parse_python(code) if language == "python" else None
    functions = list(_functions(tree)) if tree is not None else []
    if not functions:
        return [whole(code)]
    # Not splitlines(), which also splits at form feeds, where Python counts no line.
    lines = code.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    texts = ["\n".join(lines[node.lineno - 1 : node.end_lineno]) for node in functions]
    return [
        Unit(node.name, text, code_tokens(text, "python"), *_python_fingerprint(node))
        for node, text in zip(functions, texts, strict=True)
    ]


def whole(code: str) -> Unit:
    """All of the code as one unit."""
    language = language_of(code)
    tree = parse_python(code) if language == "python" else None
    if tree is None:
        return _by_tokens("", code, language)
    return Unit("", code, code_tokens(code, "python"), *_python_fingerprint(tree))


def code_tokens(code: str, language: _Language | None = None) -> list[str]:
    """The tokens of code in order, without comments, white space and (Python) docstrings; quotes are made alike."""
    language = language or language_of(code)
    tokens: list[str] = []
    for token in (_PYTHON if language == "python" else _C_LIKE).findall(code):
        if token.startswith(_COMMENTS[language]):
            continue
        if token.startswith(('"""', "'''")) and (not tokens or tokens[-1] == ":"):
            continue
        is_quoted = token[0] == "'" and len(token) > 1 and '"' not in token and language == "python"
        tokens.append(f'"{token[1:-1]}"' if is_quoted else token)
    return tokens


def shingles(tokens: Sequence[str], length: int = SHINGLE_TOKENS) -> set[int]:
    """A 32-bit hash of every run of `length` tokens, the same in every process; of all tokens where there are fewer."""
    if len(tokens) <= length:
        return {zlib.crc32("\0".join(tokens).encode(errors="replace"))} if tokens else set()
    encoded = [token.encode(errors="replace") for token in tokens]
    return {zlib.crc32(b"\0".join(encoded[start : start + length])) for start in range(len(encoded) - length + 1)}


def jaccard(a: set[int], b: set[int]) -> float:
    """What two sets share, over what they have together; 0 for two empty ones."""
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared) if shared else 0.0


def language_of(code: str) -> _Language:
    """What code is written in, by a look at it."""
    if "endmodule" in code:
        return "verilog"
    return "python" if _PYTHON_LINE.search(code) or parse_python(code) is not None else "other"


def parse_python(code: str) -> ast.Module | None:
    """The tree of Python code, also where all of it is indented; None where it is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in somebody's strings
        try:
            return ast.parse(code)
        except IndentationError:
            try:
                return ast.parse(textwrap.dedent(code))
            except (SyntaxError, ValueError, RecursionError, MemoryError):
                return None
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None


def _functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Functions and methods, also inside of `if` and `try`; not those inside of other functions."""
    pending: list[ast.AST] = [tree]
    while pending:
        for child in ast.iter_child_nodes(pending.pop()):
            if isinstance(child, _Function):
                yield child
            elif isinstance(child, ast.stmt):
                pending.append(child)


def _python_fingerprint(root: ast.AST) -> tuple[str, int]:
    """A hash of the tree in which names that it binds are numbered by their first appearance.

    Names from outside, such as a function that is called, keep theirs: with another callee it is another function.
    """
    bound = _bound_names(root)
    parts: list[str] = []
    numbers: dict[str, int] = {}
    pending: list[object] = [root]
    while pending:
        value = pending.pop()
        if isinstance(value, ast.AST):
            kind = type(value).__name__
            parts.append(kind)
            children: list[object] = []
            for field in value._fields:
                if field in _SKIPPED_FIELDS:
                    continue
                child = getattr(value, field, None)
                if kind == "Constant" or (isinstance(child, str) and (kind, field) in _KEPT_NAMES):
                    # Not all integers have decimal digits: Python refuses to write more than 4,300.
                    parts.append(hex(child) if type(child) is int else repr(child))
                elif child is not None:
                    children.append(child)
            pending.extend(reversed(children))
        elif isinstance(value, list):
            # Without docstrings, and other values that do nothing.
            items = [one for one in value if not (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant))]
            parts.append(str(len(items)))
            pending.extend(reversed(items))
        elif isinstance(value, str) and value in bound:
            parts.append(f"name {numbers.setdefault(value, len(numbers))}")
        else:
            parts.append(str(value))
    return _digest(parts), len(parts)


def _bound_names(root: ast.AST) -> set[str]:
    """Parameters, names assigned to, functions, classes, caught exceptions and imports, at any level."""
    names: set[str] = set()
    for node in ast.walk(root):
        if isinstance(node, ast.Name):
            if not isinstance(node.ctx, ast.Load):
                names.add(node.id)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.alias):
            names.add(node.asname or node.name)
        elif isinstance(node, (*_Function, ast.ClassDef, ast.ExceptHandler)) and node.name:
            names.add(node.name)
    return names


def _modules(code: str) -> Iterator[Unit]:
    """`module … endmodule`, each as one unit; what stands outside of them is left out."""
    start, name = None, ""
    for match in _C_LIKE.finditer(code):
        token = match.group()
        if token in ("module", "macromodule") and start is None:
            start, name = match.start(), ""
        elif start is not None and not name and token[0] not in "/`":
            name = token
        elif token == "endmodule":
            # Without a beginning, it belongs to a header that is missing: then the whole is what can be compared.
            text = code[start or 0 : match.end()]
            yield _by_tokens(name, text, "verilog")
            start = None


def _by_tokens(name: str, code: str, language: _Language) -> Unit:
    tokens = code_tokens(code, language)
    numbers: dict[str, int] = {}
    parts = [
        f"name {numbers.setdefault(token, len(numbers))}"
        if language == "verilog" and (token[0].isalpha() or token[0] == "_") and token not in _KEPT_WORDS
        else token
        for token in tokens
    ]
    return Unit(name, code, tokens, _digest(parts), len(parts))


def _digest(parts: Sequence[str]) -> str:
    return hashlib.blake2b("\0".join(parts).encode(errors="replace"), digest_size=16).hexdigest()
