"""Overlap of training data with benchmark problems: which problems an example contains, by three signs. Pure.

`words`: the share of a text's 10-word sequences (of a problem's description, prompt or reference solution) that the
example has too.
`code`: a function or module equal to the reference's except for names, comments, docstrings, annotations and layout.
`near`: one whose 5-token shingles have a Jaccard similarity of 0.7 or more with the reference's, as for near-duplicates
within data (arXiv 2305.06161).
"""

from __future__ import annotations

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec

from ibft.artifacts.rows import Problem, TrainingPair
from ibft.data.code import (
    MIN_TOKENS,
    SIMILARITY,
    Unit,
    code_of,
    codes_of,
    parse_python,
    prompt_text,
    shingles,
    units,
    whole,
)

__all__ = ["NUM_WORDS", "OVERLAP", "Leak", "LeakKind", "ProblemIndex"]

LeakKind = Literal["words", "code", "near"]

# Data for DeepSeek-Coder (arXiv 2401.14196) and Qwen2.5-Coder (arXiv 2409.12186) was cleaned of whatever shares one
# 10-gram with a test; the 13 of GPT-3 (arXiv 2005.14165, appendix C) are too many for descriptions of one sentence.
NUM_WORDS = 10
# Half of a text's sequences, since one alone is often an idiom of code.
OVERLAP = 0.5
"""Share of a text's word sequences from which it counts as contained."""
MIN_SEQUENCES = 3
"""A text with fewer word sequences, that is, with fewer than 12 words, says too little."""
MIN_SIZE = 25
"""Smaller references (`return a + b`, 21) are equal to other people's functions by chance; in nodes, see `code.Unit`.

Of 16,544 functions in installed packages three are equal to a solution of HumanEval or MBPP: of 20, 21 and 23 nodes.
"""
# Word sequences of more problems of a benchmark than this are its boilerplate, and left out.
_MAX_PROBLEMS = 2

_WORD = re.compile(r"\w+")
_EXAMPLES = re.compile(r"^[ \t]*(?:>>>|for example|examples?\b)", re.IGNORECASE | re.MULTILINE)


class Leak(msgspec.Struct, frozen=True, kw_only=True):
    """An example of the training data that contains a problem, or a part of it.

    `part`: description, prompt or solution. `similarity`: the share of its word sequences (`words`), the Jaccard
    similarity (`near`), or 1 (`code`). `text`: what matches, as it stands in the example; the longest piece of it.
    """

    id: str
    source: str
    task_id: str
    kind: LeakKind
    part: str
    similarity: float
    text: str


class _Text(NamedTuple):
    """A part of a problem as words: how many sequences it has that are not boilerplate."""

    source: str
    task_id: str
    part: str
    num_sequences: int


class _Reference(NamedTuple):
    """A problem's reference solution as code."""

    source: str
    task_id: str
    num_shingles: int


class ProblemIndex:
    """Finds in an example whatever problems it contains.

    Args:
        problems: the problems of each benchmark, by its name.
        overlap: share of word sequences from which a text counts as contained, in (0, 1].
        similarity: Jaccard similarity from which code counts as nearly equal, in (0, 1].

    Attributes:
        short: for each benchmark, the problems whose reference solution is missing, or too short to be distinguished
            from other code once its names are changed (`code`).
        short_descriptions: the problems whose description has too few word sequences that no other problem has
            (`words`).
    """

    def __init__(
        self, problems: Mapping[str, Sequence[Problem]], overlap: float = OVERLAP, similarity: float = SIMILARITY
    ) -> None:
        self.overlap, self.similarity = overlap, similarity
        self.short: dict[str, list[str]] = {}
        self.short_descriptions: dict[str, list[str]] = {}
        self._texts: list[_Text] = []
        self._texts_of: dict[str, list[int]] = defaultdict(list)
        self._by_fingerprint: dict[str, list[tuple[str, str]]] = defaultdict(list)
        # The problems are few, so an inverted index of their shingles gives the similarity exactly.
        self._references: list[_Reference] = []
        self._references_of: dict[int, list[int]] = defaultdict(list)
        for source, of_source in problems.items():
            self.short_descriptions[source] = self._add_texts(source, of_source)
            self.short[source] = [problem.task_id for problem in of_source if not self._add_code(source, problem)]

    def leaks(self, pair: TrainingPair) -> list[Leak]:
        """Return what the example contains: at most one leak for each problem and kind, the strongest one."""
        prompt = prompt_text(pair)
        strongest: dict[tuple[str, str, LeakKind], Leak] = {}
        for leak in (*self._by_words(pair.id, f"{prompt}\n{pair.completion}"), *self._by_code(pair)):
            key = (leak.source, leak.task_id, leak.kind)
            if key not in strongest or strongest[key].similarity < leak.similarity:
                strongest[key] = leak
        # Equal code is nearly equal as well: that is said once.
        return [
            leak
            for (source, task_id, kind), leak in strongest.items()
            if kind != "near" or (source, task_id, "code") not in strongest
        ]

    def _add_texts(self, source: str, problems: Sequence[Problem]) -> list[str]:
        """Add the problems' texts, and return the problems whose descriptions are too short to be found."""
        parts = [
            (problem.task_id, part, _sequences(text)) for problem in problems for part, text in _texts(problem).items()
        ]
        problems_of: dict[str, set[str]] = defaultdict(set)
        for task_id, _, sequences in parts:
            for sequence in sequences:
                problems_of[sequence].add(task_id)
        short = []
        for task_id, part, sequences in parts:
            rare = {sequence for sequence in sequences if len(problems_of[sequence]) <= _MAX_PROBLEMS}
            if len(rare) >= MIN_SEQUENCES:
                for sequence in rare:
                    self._texts_of[sequence].append(len(self._texts))
                self._texts.append(_Text(source, task_id, part, len(rare)))
            elif part == "description":
                short.append(task_id)
        return short

    def _add_code(self, source: str, problem: Problem) -> bool:
        """Add the reference solution, and decide whether it is long enough to be recognized by its structure."""
        is_long_enough = False
        for unit in _references(problem):
            if unit.size >= MIN_SIZE:
                is_long_enough = True
                self._by_fingerprint[unit.fingerprint].append((source, problem.task_id))
            if len(unit.tokens) >= MIN_TOKENS:
                pieces = shingles(unit.tokens)
                for shingle in pieces:
                    self._references_of[shingle].append(len(self._references))
                self._references.append(_Reference(source, problem.task_id, len(pieces)))
        return is_long_enough

    def _by_words(self, identity: str, text: str) -> Iterator[Leak]:
        known = (sequence for sequence in _sequences(text) if sequence in self._texts_of)  # few of them are
        hits = Counter(number for sequence in known for number in self._texts_of[sequence])
        for number, count in hits.items():
            part = self._texts[number]
            if (share := count / part.num_sequences) >= self.overlap:
                yield Leak(
                    id=identity,
                    source=part.source,
                    task_id=part.task_id,
                    kind="words",
                    part=part.part,
                    similarity=share,
                    text=self._longest_match(text, number),
                )

    def _by_code(self, pair: TrainingPair) -> Iterator[Leak]:
        for unit in (unit for code in codes_of(pair) for unit in _with_whole(code)):
            for source, task_id in self._by_fingerprint.get(unit.fingerprint, ()):
                yield _code_leak(pair.id, source, task_id, "code", 1.0, unit)
            pieces = shingles(unit.tokens)
            known = (shingle for shingle in pieces if shingle in self._references_of)
            hits = Counter(number for shingle in known for number in self._references_of[shingle])
            for number, count in hits.items():
                source, task_id, num_shingles = self._references[number]
                similarity = count / (len(pieces) + num_shingles - count)
                if similarity >= self.similarity:
                    yield _code_leak(pair.id, source, task_id, "near", similarity, unit)

    def _longest_match(self, text: str, number: int) -> str:
        """Return the longest run of the example's words whose every sequence belongs to the part."""
        spans = [match.span() for match in _WORD.finditer(text)]
        words = [text[start:end].lower() for start, end in spans]
        best_start = best_length = start = 0
        for position in range(len(words) - NUM_WORDS + 1):
            if number not in self._texts_of.get(" ".join(words[position : position + NUM_WORDS]), ()):
                start = position + 1
            elif position + 1 - start > best_length:
                best_start, best_length = start, position + 1 - start
        return text[spans[best_start][0] : spans[best_start + best_length + NUM_WORDS - 2][1]]


def _code_leak(identity: str, source: str, task_id: str, kind: LeakKind, similarity: float, unit: Unit) -> Leak:
    return Leak(
        id=identity, source=source, task_id=task_id, kind=kind, part="solution", similarity=similarity, text=unit.text
    )


def _sequences(text: str) -> set[str]:
    words = _WORD.findall(text.lower())
    return {" ".join(words[start : start + NUM_WORDS]) for start in range(len(words) - NUM_WORDS + 1)}


def _texts(problem: Problem) -> dict[str, str]:
    """Return what the words of a problem are: its description without examples, its prompt, its solution."""
    description = problem.description or _docstring(problem)
    return {
        "description": _EXAMPLES.split(description, maxsplit=1)[0],
        "prompt": problem.prompt,
        "solution": problem.canonical_solution or "",
    }


def _docstring(problem: Problem) -> str:
    """Return the docstring of the function that a Python prompt ends with; the prompt itself where it has none."""
    tree = parse_python(problem.prompt)
    if tree is None:
        return problem.prompt
    functions = [node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    return (ast.get_docstring(functions[-1]) if functions else None) or problem.prompt


def _with_whole(code: str) -> list[Unit]:
    """Return the units of code, and the whole of it where there are several."""
    parts = units(code)
    return [*parts, whole(code)] if len(parts) > 1 else parts


def _references(problem: Problem) -> list[Unit]:
    """Return the reference solution as code, in the forms that an example may have it in."""
    if not problem.canonical_solution:
        return []
    [code] = code_of(problem.prompt, problem.canonical_solution)[:1]
    # The whole as well, since functions that call one another can be renamed together.
    parts = _with_whole(code)
    asked_for = [unit for unit in parts if unit.name in (problem.entry_point, "")] or parts
    # What continues the prompt, where that is not itself a function or module.
    continued = [unit for unit in units(problem.canonical_solution) if not unit.name]
    return [unit for unit in {unit.fingerprint: unit for unit in (*asked_for, *continued)}.values() if unit.tokens]
