"""Renamed variants of training pairs: the same program under names that a model cannot have seen with it. Pure.

How much worse a model predicts the variant than the original says how much of its prediction was recall and not
understanding. The text is edited where `ast` finds the names, so layout and comments stay. What could carry a name
out of the code's own sight is left as it is, and the result is only handed out if its tree differs in names alone.
"""

from __future__ import annotations

import ast
import builtins
import io
import itertools
import keyword
import random
import re
import tokenize
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from ibft.data.names import free_names
from ibft.rows import Pair

__all__ = ["FENCED", "RENAMED_SUFFIX", "rename_identifiers"]

RENAMED_SUFFIX = "~renamed"
"""What a variant's id has behind its original's."""

FENCED = re.compile(r"^[ \t]*(```+|~~~+)[^\n]*\n(.*?)(?:^[ \t]*\1[ \t]*$|\Z)", re.DOTALL | re.MULTILINE)
"""A fenced block of Markdown: group 2 is what stands inside; its info string lies between the groups."""

_SEES_NAMES = frozenset({"locals", "globals", "vars", "eval", "exec"})
_KEPT = frozenset({"self", "cls", "args", "kwargs", "kw", "_"})
_SMALL_WORDS = "by for from get has in is max min new no not num of old on set to with"
# Names that are everyday words are not told from them in a docstring, unless they are marked as code there.
_ENGLISH = """
    a all an and any are as at be both but by can did do each else for from get had has have how i if in into is it its
    less may more most must no not now of off on one only or our out own per set so such than that the them then they
    this to too true two up use used want was we were what when who why will with you your
"""
_NOUNS = """
    db fd fn fp ip op tb vm
    gap lot row tag pin cap rim hub bay key bit map log arc sum top
    mode tile part slot rank note unit band cell edge flag gate item kind lane mark node path seed span step tree view
    block chunk count depth field frame group label layer level limit order panel piece point queue range route scope
    shape share shift stage start state style table token total trace value width
    anchor bucket buffer column cursor detail domain factor filter format handle header holder marker member method
    metric module number object offset origin output packet parcel record region result sample sector
    segment section setting channel content context counter element feature message mapping pattern profile program
    quantifier register response schedule sequence snapshot standard template variable argument
    candidate component container direction extension parameter partition predicate processor reference selection
    structure transform annotation assignment collection comparison definition descriptor identifier occurrence
    permission resolution arrangement calculation combination composition coordinate declaration destination
    distribution organization registration representation configuration
"""
_KEPT_WORDS = frozenset(_SMALL_WORDS.split())
_ENGLISH_WORDS = frozenset(_ENGLISH.split())
_LETTERS = "abcdefghjkmnpqrstuvwxyz"
_WORDS = _NOUNS.split()
_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|_+|.", re.DOTALL)
_WORD = re.compile(r"[^\W\d]\w*")
_IDENTIFIER = re.compile(r"[_\d]|[a-z][A-Z]")
_QUOTED = re.compile(r"`[^`\n]+`")
_ABBREVIATION = re.compile(r"['’-]|\.\w")
_WITHOUT_PLACE = frozenset({"MatchAs", "MatchStar", "MatchMapping", "TypeVar", "ParamSpec", "TypeVarTuple"})
_Function = (ast.FunctionDef, ast.AsyncFunctionDef)


class _Segment(NamedTuple):
    """Code inside of a text: `texts[text][start:end]`, which begins at `at` of the joined code."""

    text: int
    start: int
    end: int
    at: int


class _Use(NamedTuple):
    name: str
    start: int


class _Edit(NamedTuple):
    start: int
    end: int
    new: str


def rename_identifiers(pair: Pair, seed: int) -> Pair | None:
    """The pair under other names, with the id `{id}~renamed`; None where there is no Python code with names of its own.

    Renamed, each name to the same new one everywhere: parameters, local and (where the text defines them) global
    variables, functions and classes. Kept: attributes and what a class body defines, keyword arguments, imported
    names, builtins, names from outside, `self`, `args` and the like, names with two underscores around; parameters
    that a decorator or a keyword of a call could address; and everything where the code looks at names at run time
    (`locals()`, `exec`, ...). String literals stay, docstrings and comments follow. In prose around the code a name is
    renamed where it is written as code: in backticks, before a bracket, or with an underscore, digit or capital inside.

    The code is prompt and completion together where they are Python, else the completion, else its fenced Python
    blocks and those of the prompt. New names keep the style (snake_case, camelCase, capitals, leading underscores, one
    letter), stay close in length, and occur nowhere in the pair. The same pair and seed give the same variant.
    """
    prompts = [pair.prompt] if isinstance(pair.prompt, str) else [turn.content for turn in pair.prompt]
    texts = [*prompts, pair.completion]
    for separator, segments in _ways_to_read(texts, isinstance(pair.prompt, str)):
        code = separator.join(texts[one.text][one.start : one.end] for one in segments)
        tree = _parse(code)
        if tree is not None:
            break
    else:
        return None
    uses = _uses_to_rename(tree, code)
    if not uses:
        return None
    chance = random.Random(f"{seed}:{pair.id}")
    names = _new_names(dict.fromkeys(use.name for use in uses), "\n".join(texts), chance)
    edits = [_Edit(use.start, use.start + len(use.name), names[use.name]) for use in uses]
    edits += _edits_in_comments(tree, code, names)
    if not _only_names_differ(tree, _parse(_apply(code, edits)), names):
        return None
    changed = _rewrite(texts, segments, edits, names)
    if isinstance(pair.prompt, str):
        return Pair(id=pair.id + RENAMED_SUFFIX, prompt=changed[0], completion=changed[1])
    turns = zip(pair.prompt, changed, strict=False)
    return Pair(
        id=pair.id + RENAMED_SUFFIX,
        prompt=tuple(msgspec.structs.replace(turn, content=text) for turn, text in turns),
        completion=changed[-1],
    )


def _ways_to_read(texts: list[str], is_continued: bool) -> Iterator[tuple[str, list[_Segment]]]:
    """Which parts of the texts may be the code, and what to join them with; the first that parses counts."""
    last = len(texts) - 1
    whole = [(number, 0, len(text)) for number, text in enumerate(texts)]
    if is_continued:
        yield "", _joined(whole, 0)
        yield "\n", _joined(whole, 1)
    yield "", _joined(whole[last:], 0)
    # Last, since a docstring may hold a fence, but Markdown with a fence is no Python.
    fenced = [
        (number, match.start(2), match.end(2))
        for number, text in enumerate(texts)
        for match in FENCED.finditer(text)
        if _parse(match.group(2)) is not None
    ]
    if any(number == last for number, _, _ in fenced):
        yield "\n", _joined(fenced, 1)


def _joined(places: list[tuple[int, int, int]], separator_length: int) -> list[_Segment]:
    ends = itertools.accumulate((end - start + separator_length for _, start, end in places), initial=0)
    return [_Segment(*place, at) for place, at in zip(places, ends, strict=False)]


def _parse(code: str) -> ast.Module | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in somebody's strings
        try:
            return ast.parse(code)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None


def _uses_to_rename(tree: ast.Module, code: str) -> list[_Use]:
    """Every place where a name stands that may be renamed, in no order; empty where nothing may."""
    try:
        free = free_names(code)
    except (SyntaxError, ValueError, RecursionError):
        return []
    if free & _SEES_NAMES:
        return []
    uses = list(_uses(tree, code))
    imported = {_bound_by(node) for node in ast.walk(tree) if isinstance(node, ast.alias)}
    kept = free | imported | _KEPT | _addressed_names(tree, free | imported)
    # Python below 3.12 gets some positions inside of f-strings wrong.
    times = Counter(use.start for use in uses)
    kept |= {use.name for use in uses if times[use.start] > 1 or not code.startswith(use.name, use.start)}
    return [use for use in uses if use.name not in kept and not use.name.startswith("__")]


def _uses(tree: ast.Module, code: str) -> Iterator[_Use]:
    """The places of all names that are no attributes, keywords or imports."""
    offset = _Offsets(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield _Use(node.id, offset(node.lineno, node.col_offset))
        elif isinstance(node, ast.arg):
            yield _Use(node.arg, offset(node.lineno, node.col_offset))
        elif isinstance(node, (*_Function, ast.ClassDef)):
            start = offset(node.lineno, node.col_offset)
            yield _Use(node.name, _find(rf"(?:def|class)\s+({node.name})\b", code, start))
        elif isinstance(node, ast.ExceptHandler) and node.name and node.type:
            start = offset(node.type.end_lineno, node.type.end_col_offset)
            yield _Use(node.name, _find(rf"\bas\s+({node.name})\b", code, start))
        elif isinstance(node, ast.Nonlocal):
            start = offset(node.lineno, node.col_offset)
            yield from (_Use(name, _find(rf"[\s,]({name})\b", code, start)) for name in node.names)


def _find(pattern: str, code: str, start: int) -> int:
    match = re.compile(pattern).search(code, start)
    return match.start(1) if match else len(code)


class _Offsets:
    """Index into the code from a line (from 1) and a column in bytes of UTF-8, as nodes of `ast` have them."""

    def __init__(self, code: str) -> None:
        # Not splitlines(), which also splits at form feeds, where Python counts no line.
        self._starts = [0, *(match.end() for match in re.finditer(r"\r\n|\r|\n", code))]
        self._code = code
        self._is_ascii = code.isascii()

    def __call__(self, line: int | None, column: int | None) -> int:
        assert line is not None
        assert column is not None
        start = self._starts[line - 1]
        if self._is_ascii:
            return start + column
        return start + len(self._code[start : start + column].encode()[:column].decode(errors="ignore"))


def _bound_by(alias: ast.alias) -> str:
    return (alias.asname or alias.name).partition(".")[0]


def _addressed_names(tree: ast.Module, outside: set[str]) -> set[str]:
    """Names that something other than a plain use of them refers to, so that they must stay."""
    names: set[str] = set()
    functions: dict[str, set[str]] = {}
    classes: set[str] = set()
    parameters: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, (*_Function, ast.Lambda)):
            own = {arg.arg for arg in ast.walk(node.args) if isinstance(arg, ast.arg)}
            parameters |= own
            if not isinstance(node, ast.Lambda):
                functions.setdefault(node.name, set()).update(own)
                names |= own if node.decorator_list else set()
        elif isinstance(node, ast.ClassDef):
            classes.add(node.name)
            names |= _bound_in_class(node)
        elif isinstance(node, ast.Global):
            names |= set(node.names)
        elif type(node).__name__ in _WITHOUT_PLACE:
            names |= {getattr(node, "name", None) or "", getattr(node, "rest", None) or ""}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in functions.keys() | classes:
            names.add(node.value)
        elif isinstance(node, ast.Call):
            names |= _addressed_by_call(node, functions, classes, outside) & parameters
    return names


def _bound_in_class(node: ast.ClassDef) -> set[str]:
    """Names that a class body binds, which are attributes outside of it."""
    names: set[str] = set()
    pending: list[ast.AST] = [*node.body]
    while pending:
        one = pending.pop()
        if isinstance(one, (*_Function, ast.ClassDef)):
            names.add(one.name)
            continue
        if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store):
            names.add(one.id)
        pending.extend(ast.iter_child_nodes(one))
    return names


def _addressed_by_call(
    call: ast.Call, functions: Mapping[str, set[str]], classes: set[str], outside: set[str]
) -> set[str]:
    """Keywords of a call that could be parameters of a function in the text, since what is called may be that."""
    keywords = {one.arg for one in call.keywords if one.arg}
    callee = call.func
    name = callee.id if isinstance(callee, ast.Name) else callee.attr if isinstance(callee, ast.Attribute) else None
    if any(one.arg is None for one in call.keywords) and name is not None:
        keywords |= functions.get("__init__" if name in classes else name, set())
    is_handed_on = any(isinstance(one, ast.Name) and one.id in functions for one in call.args)  # functools.partial
    is_outside = name in outside if isinstance(callee, ast.Name) else name is not None and name not in functions
    return set() if is_outside and not is_handed_on else keywords


def _new_names(names: Mapping[str, None], text: str, chance: random.Random) -> dict[str, str]:
    """A new name for each, of its style, that does not occur in the text; equal words become equal words."""
    taken = {*_WORD.findall(text), *dir(builtins), *keyword.kwlist, *keyword.softkwlist}
    words: dict[str, str] = {}
    chosen: dict[str, str] = {}
    for name in names:
        new = _name_like(name, words, chance)
        for attempt in itertools.count():
            if new not in taken:
                break
            new = _name_like(name, {}, chance) + (str(attempt - 49) if attempt > 49 else "")
        taken.add(new)
        chosen[name] = new
    return chosen


def _name_like(name: str, words: dict[str, str], chance: random.Random) -> str:
    parts = _PARTS.findall(name)
    last = max((number for number, part in enumerate(parts) if part.isalpha()), default=-1)
    for number, part in enumerate(parts):
        if part.isalpha() and part.isascii() and (number == last or part.lower() not in _KEPT_WORDS):
            new = _word_like(part.lower(), words, chance)
            parts[number] = new.upper() if part.isupper() else new.capitalize() if part[0].isupper() else new
    return "".join(parts)


def _word_like(word: str, words: dict[str, str], chance: random.Random) -> str:
    if len(word) > 3 and word.endswith("s") and not word.endswith("ss"):
        return _word_like(word[:-1], words, chance) + "s"
    if word not in words:
        length = min(len(word), max(map(len, _WORDS)))
        choices = list(_LETTERS) if length == 1 else [one for one in _WORDS if abs(len(one) - length) <= (length > 8)]
        words[word] = chance.choice([one for one in choices if one != word])
    return words[word]


def _edits_in_comments(tree: ast.Module, code: str, names: Mapping[str, str]) -> Iterator[_Edit]:
    """The names where docstrings and comments mention them."""
    offset = _Offsets(code)
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
    texts: list[str], segments: Sequence[_Segment], edits: Sequence[_Edit], names: Mapping[str, str]
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
    return ast.dump(old) == ast.dump(new)
