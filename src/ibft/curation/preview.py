"""A look at data before it is trained on: examples as they are trained, counts, duplicates, problems in it.

One pass over each set holds one example at a time, besides the few that are shown, counts, 8 bytes of each text (about
70 in Python's set), and what near-duplicates are found with (`DuplicateFinder`: about 5 KB for each of the first
20,000 examples). Where a share is held out, the rows are grouped as for training (`Grouping`: 5 KB for each row).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from ibft import progress
from ibft.artifacts.preview import Preview, PreviewedExample, ShownRun
from ibft.artifacts.rows import Problem, TrainingPair
from ibft.curation.preview_counts import SetCounter, SpreadSample, encodable
from ibft.curation.preview_overlaps import OverlapFinder, RepeatFinder
from ibft.curation.split import Grouping, excess_sentence
from ibft.data.skipped import TakesSkipped
from ibft.data.tokens import TokenizedExample, beyond_context, encode_each, nothing_left
from ibft.data.training import Example
from ibft.errors import UserError
from ibft.text.encoding import TextCodec
from ibft.text.limits import ModelLimits
from ibft.text.pieces import token_pieces
from ibft.text.rendered import control_ids

__all__ = ["MAX_COMPARED", "ExampleSet", "preview_data", "show_example"]

MAX_COMPARED = 20_000
"""Examples that are compared by their code: near-duplicates and problems cost about 1.2 ms per example (1,753
functions of the standard library, one core), and near-duplicates 5 KB of memory."""
MAX_SHOWN_TOKENS = 600
"""Tokens of an example that are shown: three quarters from its beginning, the others from its end."""


class ExampleSet(NamedTuple):
    """Examples under a name.

    `read` begins a pass over them, and hands on the rows that cannot be read; `sources` are the names that its examples
    have as their `source`. `key` is the recipe's key that training names where it refuses the examples; "" where
    training does not read them.
    """

    name: str
    read: Callable[[TakesSkipped], Iterator[Example]]
    sources: Sequence[str]
    key: str = ""


def preview_data(
    sets: Sequence[ExampleSet],
    codec: TextCodec,
    limits: ModelLimits,
    max_tokens: int,
    *,
    problems: Mapping[str, Sequence[Problem]] | None = None,
    num_shown: int = 5,
    seed: int = 0,
    stops: bool = False,
    share: float | None = None,
    max_compared: int = MAX_COMPARED,
) -> Preview:
    """Look at sets of examples as they would be trained, by the tokens that training gets (`encode_each`).

    Args:
        sets: the training data, and others that are compared with it.
        codec: the border between text and tokens.
        limits: the model's.
        max_tokens: longer examples are left out.
        problems: the problems of each benchmark, by its name.
        num_shown: how many examples of the training data are shown: the first, and others spread over it.
        seed: random seed of the draw, and of that of the share.
        stops: training stops at the first row that cannot be read or that the template refuses (`on_bad_row`).
        share: of the training data, held out by training; above 0 and below 1.
        max_compared: how many examples of each set, the first ones, are compared by their code.

    Raises:
        UserError: a source cannot be read as a whole.
    """
    notes: list[str] = []
    repeats = RepeatFinder(max_compared, notes)
    overlap = OverlapFinder(problems or {}, max_compared)
    sample: SpreadSample[tuple[TokenizedExample, str]] = SpreadSample(num_shown, seed)
    division = _Division(share, seed)
    counters = [SetCounter(examples.sources, limits.num_positions) for examples in sets]
    for number, examples in enumerate([division.watched(sets[0]), *sets[1:]]):
        repeats.begin(examples.name)
        with progress.task(f"Reading {examples.name}", total=None) as task:
            for pair, source, tokenized in _counted(examples, counters[number], codec, limits, max_tokens):
                task.advance()
                if tokenized is None:
                    continue
                repeats.add(pair)
                if number == 0:
                    overlap.add(pair)
                    sample.add((tokenized, source))
                    division.usable.append(tokenized.place)
    undivided, excess = division.divide()
    return Preview(
        template=codec.template,
        max_tokens=max_tokens,
        context_tokens=None if math.isinf(limits.num_positions) else int(limits.num_positions),
        examples=[show_example(codec, example, source) for example, source in sample.items()],
        sets=[counter.result(examples.name, max_tokens) for examples, counter in zip(sets, counters, strict=True)],
        repeats=repeats.results(),
        problems=overlap.results(),
        notes=[*notes, *([excess] if excess else [])],
        refusal=next(_refusals(sets, counters, limits, undivided, stops=stops), None),
    )


def _counted(
    examples: ExampleSet, counter: SetCounter, codec: TextCodec, limits: ModelLimits, max_tokens: int
) -> Iterator[tuple[TrainingPair, str, TokenizedExample | None]]:
    """Count a set's rows, and yield its examples with their sources and tokens (None for those that are left out)."""
    last: list[Example] = []

    def pairs() -> Iterator[TrainingPair]:
        for example in examples.read(counter):
            last[:] = [example]
            yield example.pair

    for encoded in encode_each(pairs(), codec, max_tokens, limits, skips_refused=True):
        counter.add(last[0].source, encoded, max_tokens)
        yield last[0].pair, last[0].source, encoded.tokenized


class _Division:
    """Whether a share can be held out: groups the rows as training does, and draws by its seed; None holds out none."""

    def __init__(self, share: float | None, seed: int) -> None:
        self._share, self._seed = share, seed
        self._grouping = Grouping()
        self.usable: list[int] = []
        """The places of the rows that can be trained."""

    def watched(self, examples: ExampleSet) -> ExampleSet:
        """Return the examples so that they are grouped as they are read."""
        if self._share is None:
            return examples
        return examples._replace(read=lambda skipped: self._grouping.watch(examples.read(skipped)))

    def divide(self) -> tuple[str | None, str | None]:
        """Return what training ends with and what it warns of; None for neither."""
        if self._share is None or not self.usable:
            return None, None
        try:
            split = self._grouping.split(self._share, self.usable, self._seed)
        except UserError as error:
            return str(error), None
        return None, excess_sentence(self._share, len(split.held_out), len(self.usable))


def _refusals(
    sets: Sequence[ExampleSet],
    counters: Sequence[SetCounter],
    limits: ModelLimits,
    undivided: str | None,
    *,
    stops: bool,
) -> Iterator[str]:
    """Yield what training ends with, in its order: the training data, their share (`undivided`), validation data."""
    for number, (examples, counter) in enumerate(zip(sets, counters, strict=True)):
        is_trained = number == 0
        if (is_trained or examples.key) and (refusal := _refusal(counter, limits, examples.key or "data", stops=stops)):
            yield refusal
        if is_trained and undivided:
            yield undivided


def _refusal(counter: SetCounter, limits: ModelLimits, key: str, *, stops: bool) -> str | None:
    """Return what training ends with on this data, under its key; None where it starts."""
    sentence = None
    if stops and counter.first_error is not None:
        sentence = str(counter.first_error.message)
    elif not counter.num_examples:
        sentence = str(nothing_left(counter.reasons))
    elif (first := counter.first_beyond_context) is not None:
        num_longer = counter.num_beyond_context
        sentence = str(beyond_context(first.id, first.num_tokens, limits, num_longer, counter.num_examples))
    if sentence is None:
        return None
    return encodable(sentence if key == "data" else f"{key}: {sentence.removeprefix('data: ')}")


def show_example(
    codec: TextCodec, example: TokenizedExample, source: str = "", max_tokens: int = MAX_SHOWN_TOKENS
) -> PreviewedExample:
    """Return an example token by token.

    Args:
        codec: what it was encoded with.
        example: its tokens, and which of them are trained.
        source: where it is from.
        max_tokens: of a longer one, the middle is hidden.
    """
    num_tokens = len(example.input_ids)
    num_last = 0 if num_tokens <= max_tokens else max_tokens // 4
    num_first = num_tokens if num_tokens <= max_tokens else max_tokens - num_last
    controls = control_ids(codec.tokenizer)
    return PreviewedExample(
        id=encodable(example.id),
        place=example.place,
        source=source,
        num_tokens=num_tokens,
        num_trained=sum(end - first for first, end in example.trained),
        runs=_runs(codec, example, 0, num_first, controls),
        num_hidden=num_tokens - num_first - num_last,
        last_runs=_runs(codec, example, num_tokens - num_last, num_tokens, controls),
    )


def _runs(
    codec: TextCodec, example: TokenizedExample, start: int, end: int, controls: frozenset[int]
) -> list[ShownRun]:
    before = min(start, 1)  # a first piece may lose its space
    pieces = token_pieces(codec.tokenizer, example.input_ids[start - before : end])[before:]
    runs: list[ShownRun] = []
    labels = example.labels
    for place, piece in zip(range(start, end), pieces, strict=True):
        token = example.input_ids[place]
        is_trained, is_special = labels[place] != -100, token in controls
        if not runs or (runs[-1].is_trained, runs[-1].is_special) != (is_trained, is_special):
            runs.append(ShownRun(is_trained=is_trained, is_special=is_special, ids=[], pieces=[]))
        runs[-1].ids.append(token)
        runs[-1].pieces.append(piece)
    return runs
