"""The examples of a scan: streamed, drawn, and cut into tokens with what else a score needs to know of them."""

from __future__ import annotations

import contextlib
import datetime
import functools
import hashlib
import itertools
import random
import zlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from ibft.artifacts.rows import Pair, Subset
from ibft.data.code import MIN_TOKENS, code_of, code_tokens, prompt_text
from ibft.data.name_pool import NamePool
from ibft.data.renaming import rename_identifiers
from ibft.data.tokens import NOT_UNICODE, is_unicode, reason_to_skip
from ibft.data.training import Example, stream_examples
from ibft.errors import UserError
from ibft.models.loading import limits_of
from ibft.run.recipe import RENAMED_CONTROL, Recipe
from ibft.scoring.syntax import forced_tokens
from ibft.text.encoding import EncodedExample, codec_of

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

__all__ = [
    "Encoder",
    "ScanExample",
    "Source",
    "fingerprint",
    "has_code",
    "naming",
    "origin",
    "text_of",
    "within_context",
]


NAMED_EXAMPLES = 10_000
"""The first training examples, whose names are those of `data.control: renamed`."""


class ScanExample(NamedTuple):
    """One example in tokens, (T,) of them.

    `start` is the first token that is scored, `prompt_length` the first of the response; `forced` says of each scored
    token whether syntax forces it, and is None for a tokenizer that does not tell where its tokens stand. `fingerprint`
    is that of the code.
    """

    input_ids: list[int]
    start: int
    prompt_length: int
    forced: list[bool] | None
    num_zlib_bytes: int
    fingerprint: str

    @property
    def response(self) -> slice:
        """Which of the scored tokens are the response's."""
        return slice(self.prompt_length - self.start, None)


class Source:
    """One subset's examples, drawn and numbered: each pass over them gives the same ones, and holds one at a time.

    Args:
        recipe: `data` and `scan.max_examples` say which.
        subset: the training data or the control set.
        tokenizer: with `scan.max_examples`, the draw is among the examples that can be scored, so that there are as
            many; that takes a pass over the tokens of all, after which `num_skipped` has the reasons of the others.
    """

    def __init__(self, recipe: Recipe, subset: Subset, tokenizer: PreTrainedTokenizerBase) -> None:
        self._data, self._seed, self.subset = recipe.data, recipe.seed, subset
        self.num_skipped: Counter[str] = Counter()
        self._drawn: Collection[int] | None = None
        with naming(subset):
            self._count = self._draw(recipe, tokenizer)

    def _draw(self, recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> int:
        """Choose the examples; how many there are."""
        limit = recipe.scan.max_examples
        if limit is None:
            return sum(1 for _ in self._all())
        usable = []
        encoder = Encoder(recipe, tokenizer)
        for index, example in enumerate(self._all()):
            reason = encoder.encode(example.pair, with_mask=False)[1]
            if reason is None:
                usable.append(index)
            else:
                self.num_skipped[reason] += 1
        self._drawn = set(random.Random(recipe.seed).sample(usable, min(limit, len(usable))))
        return len(self._drawn)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[tuple[int, Example]]:
        """The drawn examples with their places in the whole data."""
        for index, example in enumerate(self._all()):
            if self._drawn is None or index in self._drawn:
                yield index, example

    def _all(self) -> Iterator[Example]:
        data = self._data
        if self.subset == "train":
            return self._originals()
        assert data.control is not None
        if data.control == RENAMED_CONTROL:
            return itertools.islice(self._renamed(), data.max_control_examples)
        if data.control_after is None:
            return stream_examples(data.control, data.control_split, data.max_control_examples)
        dated = _after(stream_examples(data.control, data.control_split), data.control_after)
        return itertools.islice(dated, data.max_control_examples)

    def _originals(self) -> Iterator[Example]:
        return stream_examples(self._data.train, self._data.split, self._data.max_examples)

    def _renamed(self) -> Iterator[Example]:
        for example in self._originals():
            if (pair := rename_identifiers(example.pair, self._pool, self._seed)) is not None:
                yield Example(pair, example.row)

    @functools.cached_property
    def _pool(self) -> NamePool:
        return NamePool(example.pair for example in itertools.islice(self._originals(), NAMED_EXAMPLES))


@contextlib.contextmanager
def naming(subset: Subset) -> Iterator[None]:
    """Errors name the recipe's key."""
    try:
        yield
    except UserError as error:
        raise UserError(f"data.{subset}: {str(error).removeprefix('data: ')}") from None


def within_context(recipe: Recipe, config: PretrainedConfig) -> Recipe:
    """The recipe with no more `data.max_tokens` than a model of this configuration can attend to, where it says so."""
    positions = limits_of(config).num_positions
    if positions >= recipe.data.max_tokens:
        return recipe
    return msgspec.structs.replace(recipe, data=msgspec.structs.replace(recipe.data, max_tokens=int(positions)))


def _after(examples: Iterator[Example], day: datetime.date) -> Iterator[Example]:
    for example in examples:
        value = example.row.get("date") if isinstance(example.row, Mapping) else None
        if value is None:
            raise UserError(
                f"control_after is {day}, and the example {example.pair.id} has no field `date`. Give each row "
                "one, or leave control_after out."
            )
        try:
            date = datetime.date.fromisoformat(str(value)[:10])
        except ValueError:
            raise UserError(f"the date of {example.pair.id} is {value!r}: expected a day such as 2025-01-31.") from None
        if date > day:
            yield example


class Encoder:
    """Cuts examples into the tokens that training has, and finds out what else a score needs to know of them.

    The response is the tokens that lie wholly in it: one that spans the border with the prompt counts to the prompt.
    The end token is not scored: it is the recipe's and not the data's.

    Args:
        recipe: prompt, region, `data.max_tokens`.
        tokenizer: the model's. Of one that does not tell where its tokens stand, nothing is marked as forced.
    """

    def __init__(self, recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> None:
        # Where there is no end token, none is missed: it is not scored.
        has_end = recipe.prompt.end_of_text and tokenizer.eos_token_id is not None
        self._codec = codec_of(msgspec.structs.replace(recipe.prompt, end_of_text=has_end), tokenizer)
        self._max_tokens, self._is_whole = recipe.data.max_tokens, recipe.scan.region == "all"

    def encode(self, pair: Pair, *, with_mask: bool = True) -> tuple[ScanExample | None, str | None]:
        """Return the example in tokens, or the reason why it has no scores.

        Args:
            pair: prompt and response.
            with_mask: find out what syntax forces, and the fingerprint.

        Raises:
            UserError: the template refuses the prompt; names the example.
        """
        if not is_unicode(pair):
            return None, NOT_UNICODE
        encoded = self._codec.example(pair.prompt, pair.completion, pair.id)
        begin, end = encoded.completion
        first, last = encoded.response.start, encoded.response.stop
        if reason := reason_to_skip(pair, begin, len(encoded.input_ids), self._max_tokens):
            return None, reason
        if last - first < 2:
            return None, "response of one token"
        start = 1 if self._is_whole else first  # nothing predicts the very first token
        text = encoded.text[0 if self._is_whole else begin : end]
        return ScanExample(
            encoded.input_ids[:last],
            start,
            first,
            self._forced(encoded) if with_mask else None,
            len(zlib.compress(text.encode())),
            fingerprint(pair) if with_mask else "",
        ), None

    def _forced(self, encoded: EncodedExample) -> list[bool] | None:
        if encoded.offsets is None:
            return None
        begin, end = encoded.completion
        prompt, completion = encoded.text[:begin], encoded.text[begin:end]
        places = [(first - begin, last - begin) for first, last in encoded.offsets[encoded.response]]
        forced = forced_tokens(completion, places, context=prompt)
        if not self._is_whole:
            return forced
        return forced_tokens(prompt, encoded.offsets[: encoded.response.start])[1:] + forced


def fingerprint(pair: Pair) -> str:
    """Equal for examples whose code is equal but for layout and comments; 64 bits in hexadecimal digits.

    Code of fewer than 20 tokens is nobody's copy: then equal for equal prompts and completions.
    """
    tokens = [token for code in code_of(prompt_text(pair), pair.completion) for token in code_tokens(code)]
    parts = tokens if len(tokens) >= MIN_TOKENS else [prompt_text(pair).strip(), pair.completion.strip()]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def has_code(pair: Pair, known: str) -> bool:
    """Whether the fingerprint is this example's."""
    return is_unicode(pair) and fingerprint(pair) == known


def origin(example: Example) -> tuple[str | None, tuple[str, ...]]:
    """The file that an example is from, and its tags, where the source says so.

    Fields `file` or `path`, and `tags`, `category` or `source`; functions of installed code have their file in the id.
    """
    row: Mapping[str, Any] = example.row if isinstance(example.row, Mapping) else {}
    file = row.get("file") or row.get("path")
    if file is None and example.pair.id.count(":") >= 2 and ".py:" in example.pair.id:
        file = example.pair.id.partition(":")[0]
    tags = row.get("tags") or [row[name] for name in ("category", "source") if row.get(name)]
    return (None if file is None else str(file)), tuple(map(str, tags if isinstance(tags, list | tuple) else [tags]))


def text_of(pair: Pair, region: str) -> str:
    """What a classifier that never sees the model reads: the text that the model was scored on."""
    return pair.completion if region == "response" else f"{prompt_text(pair)}\n{pair.completion}"
