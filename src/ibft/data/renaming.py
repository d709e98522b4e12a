"""Renamed variants of training pairs: the same program under names that a model cannot have seen with it. Pure.

How much worse a model predicts the variant than the original says how much of its prediction was recall and not
understanding. The text is edited where `ast` finds the names, so layout and comments stay. What could carry a name
out of the code's own sight is left as it is, and the result is only handed out if its tree differs in names alone.
"""

from __future__ import annotations

import ast
import io
import keyword
import random
import re
import tokenize
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from ibft.artifacts.rows import Pair
from ibft.data.name_pool import NamePool
from ibft.data.named_code import NamedCode, Offsets, Segment, parse, read_names, texts_of

__all__ = ["RENAMED_SUFFIX", "rename_identifiers"]

RENAMED_SUFFIX = "~renamed"
"""What a variant's id has behind its original's."""

# Names that are everyday words are not told from them in a docstring, unless they are marked as code there.
_ENGLISH = """
    a all an and any are as at be both but by can did do each else for from get had has have how i if in into is it its
    less may more most must no not now of off on one only or our out own per set so such than that the them then they
    this to too true two up use used want was we were what when who why will with you your
"""
_ENGLISH_WORDS = frozenset(_ENGLISH.split())
_WORD = re.compile(r"[^\W\d]\w*")
_IDENTIFIER = re.compile(r"[_\d]|[a-z][A-Z]")
_QUOTED = re.compile(r"`[^`\n]+`")
_ABBREVIATION = re.compile(r"['’-]|\.\w")
_Function = (ast.FunctionDef, ast.AsyncFunctionDef)


class _Edit(NamedTuple):
    start: int
    end: int
    new: str


def rename_identifiers(pair: Pair, pool: NamePool, seed: int) -> Pair | None:
    """The pair under other names, with the id `{id}~renamed`; None where there is no Python code with names of its own.

    Renamed, each name to the same new one everywhere: parameters, local and (where the text defines them) global
    variables, functions and classes. Kept: attributes and what a class body defines, keyword arguments, imported
    names, builtins, names from outside, `self`, `args` and the like, names with two underscores around; parameters
    that a decorator or a keyword of a call could address; and everything where the code looks at names at run time
    (`locals()`, `exec`, ...). String literals stay, docstrings and comments follow. In prose around the code a name is
    renamed where it is written as code: in backticks, before a bracket, or with an underscore, digit or capital inside.

    New names come from the pool, by `NamePool.draw`, and occur nowhere in the pair.

    Args:
        pair: the original.
        pool: names of the same data, so that the names of all variants together are like those of all originals.
        seed: the same pair, pool and seed give the same variant.
    """
    named = read_names(pair)
    if named is None:
        return None
    texts = texts_of(pair)
    names = _new_names(named, texts, pool, random.Random(f"{seed}:{pair.id}"))
    edits = [_Edit(use.start, use.start + len(use.name), names[use.name]) for use in named.uses]
    edits += _edits_in_comments(named.tree, named.code, names)
    if not _only_names_differ(named.tree, parse(_apply(named.code, edits)), names):
        return None
    changed = _rewrite(texts, named.segments, edits, names)
    if isinstance(pair.prompt, str):
        return Pair(id=pair.id + RENAMED_SUFFIX, prompt=changed[0], completion=changed[1])
    turns = zip(pair.prompt, changed, strict=False)
    return Pair(
        id=pair.id + RENAMED_SUFFIX,
        prompt=tuple(msgspec.structs.replace(turn, content=text) for turn, text in turns),
        completion=changed[-1],
    )


def _new_names(named: NamedCode, texts: Sequence[str], pool: NamePool, chance: random.Random) -> dict[str, str]:
    taken = {*_WORD.findall("\n".join(texts)), *keyword.kwlist}
    names: dict[str, str] = {}
    for name, role in named.roles.items():
        names[name] = pool.draw(name, role, taken, chance)
        taken.add(names[name])
    return names


def _edits_in_comments(tree: ast.Module, code: str, names: Mapping[str, str]) -> Iterator[_Edit]:
    """The names where docstrings and comments mention them."""
    offset = Offsets(code)
    for node in _docstrings(tree):
        start, end = offset(node.lineno, node.col_offset), offset(node.end_lineno, node.end_col_offset)
        yield from _mentions(code, start, end, names, is_prose=False)
    try:
        for token in tokenize.generate_tokens(io.StringIO(code).readline):
            if token.type == tokenize.COMMENT:
                start = offset(token.start[0], 0) + token.start[1]
                yield from _mentions(code, start, start + len(token.string), names, is_prose=False)
    except (tokenize.TokenError, SyntaxError):
        return


def _docstrings(tree: ast.Module) -> Iterator[ast.Constant]:
    for node in ast.walk(tree):
        if isinstance(node, (*_Function, ast.ClassDef, ast.Module)) and node.body:
            first = node.body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                yield first.value


def _mentions(text: str, start: int, end: int, names: Mapping[str, str], is_prose: bool) -> Iterator[_Edit]:
    """The names as whole words; in prose, only those that are written as code."""
    quoted = [match.span() for match in _QUOTED.finditer(text, start, end)] if is_prose else []
    for match in _WORD.finditer(text, start, end):
        word, before, after = (
            match.group(),
            text[match.start() - 1 : match.start()],
            text[match.end() : match.end() + 2],
        )
        if word not in names or before == ".":
            continue
        if not (before == "`" or after[:1] in ("(", "`") or _IDENTIFIER.search(word)):
            if is_prose and not any(left < match.start() < right for left, right in quoted):
                continue
            # "a", "it's", "e.g." and "s-expression" are no mentions of variables.
            if word in _ENGLISH_WORDS or (len(word) == 1 and (before in ("'", "’", "-") or _ABBREVIATION.match(after))):
                continue
        yield _Edit(*match.span(), names[word])


def _rewrite(
    texts: list[str], segments: Sequence[Segment], edits: Sequence[_Edit], names: Mapping[str, str]
) -> list[str]:
    """The texts with the edits of their code, and with the mentions outside of it."""
    per_text: list[list[_Edit]] = [[] for _ in texts]
    for one in segments:
        shift = one.start - one.at
        within = (edit for edit in edits if one.at <= edit.start < one.at + one.end - one.start)
        per_text[one.text] += [_Edit(edit.start + shift, edit.end + shift, edit.new) for edit in within]
    for number, text in enumerate(texts):
        position = 0
        for start, end in [*((one.start, one.end) for one in segments if one.text == number), (len(text), len(text))]:
            per_text[number] += _mentions(text, position, start, names, is_prose=True)
            position = end
    return [_apply(text, found) for text, found in zip(texts, per_text, strict=True)]


def _apply(text: str, edits: Sequence[_Edit]) -> str:
    pieces, position = [], 0
    for edit in sorted(edits):
        pieces += [text[position : edit.start], edit.new]
        position = edit.end
    return "".join([*pieces, text[position:]])


def _only_names_differ(old: ast.Module, new: ast.Module | None, names: Mapping[str, str]) -> bool:
    """Whether the old tree is the new one once its names are changed (which is done in place)."""
    if new is None:
        return False
    for node in ast.walk(old):
        for field in () if isinstance(node, (ast.keyword, ast.alias)) else ("id", "arg", "name"):
            name = getattr(node, field, None)
            if isinstance(name, str):
                setattr(node, field, names.get(name, name))
        if isinstance(node, ast.Nonlocal):
            node.names = [names.get(name, name) for name in node.names]
    for docstring in (*_docstrings(old), *_docstrings(new)):
        docstring.value = ""
    try:
        return ast.dump(old) == ast.dump(new)
    except ValueError:  # a hexadecimal number that is too long to be written in decimal digits
        return False
