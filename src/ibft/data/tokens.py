"""Training examples to tokens and mask; which of them cannot be used, and why."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from ibft.artifacts.json_lines import is_encodable
from ibft.artifacts.rows import Conversation, TrainingPair
from ibft.data.skipped import SkippedRow, counted
from ibft.errors import PromptError, RowError, UserError
from ibft.text.encoding import TextCodec
from ibft.text.examples import encode_pair
from ibft.text.limits import EmbeddingCheck, ModelLimits

__all__ = [
    "NOT_UNICODE",
    "EncodedRow",
    "TokenizedData",
    "TokenizedExample",
    "beyond_context",
    "encode_each",
    "encode_pairs",
    "is_unicode",
    "nothing_left",
    "reason_to_skip",
    "texts_of",
    "unusable",
]

NOT_UNICODE = "text that is not valid Unicode"
"""Why a pair is skipped that no tokenizer can read."""


@dataclasses.dataclass(frozen=True)
class TokenizedExample:
    """One example: `input_ids` (T,) holds all that the model reads; the tokens in the ranges `trained` are learned.

    `place` is its number in the data, counted from 0 with those that are skipped.
    """

    id: str
    input_ids: list[int]
    trained: tuple[tuple[int, int], ...]
    place: int = 0

    @property
    def border(self) -> int:
        """The first token that is trained."""
        return self.trained[0][0]

    @property
    def labels(self) -> list[int]:
        """`input_ids` with what is not trained replaced by -100, which every loss here ignores; shape (T,)."""
        labels = [-100] * len(self.input_ids)
        for first, end in self.trained:
            labels[first:end] = self.input_ids[first:end]
        return labels


@dataclasses.dataclass(frozen=True)
class TokenizedData:
    """The examples that can be used, and those that cannot, so that nothing is dropped in silence."""

    examples: list[TokenizedExample]
    skipped: list[SkippedRow]


class EncodedRow(NamedTuple):
    """What becomes of one example: its tokens, or why it is left out.

    `num_tokens` is its whole length, also where it is left out for it; 0 where it could not be encoded.
    """

    tokenized: TokenizedExample | None
    skipped: SkippedRow | None
    num_tokens: int = 0


def texts_of(pair: TrainingPair) -> list[str]:
    """Return all texts of an example: prompt and completion, or what the turns and the tools hold."""
    if not isinstance(pair, Conversation):
        return [*([] if pair.prompt is None else [pair.prompt]), pair.completion]
    turns = [(turn.content, turn.fields) for turn in pair.turns]
    return list(_strings(([*turns], pair.tools)))


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from (str(key), *_strings(item))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)


def is_unicode(pair: TrainingPair) -> bool:
    """Decide whether texts and roles have no lone surrogates, which JSON can hold and no tokenizer reads."""
    roles = [turn.role for turn in pair.turns] if isinstance(pair, Conversation) else []
    return is_encodable("".join([*texts_of(pair), *roles]))


def unusable(pair: TrainingPair) -> str | None:
    """Return why an example cannot be used, whatever the model; None if it can."""
    if isinstance(pair, Conversation) and not pair.trained:
        return "no turn is trained"
    return None if is_unicode(pair) else NOT_UNICODE


def reason_to_skip(pair: TrainingPair, num_prompt: int, num_tokens: int, max_tokens: float) -> str | None:
    """Return why an example cannot be used; None if it can.

    Args:
        pair: the example.
        num_prompt: characters of the rendered prompt.
        num_tokens: tokens of prompt, completion and end together.
        max_tokens: the most that are allowed.
    """
    if not _has_answer(pair):
        return "empty completion"
    if not num_prompt and pair.prompt is not None:
        return "empty prompt"
    return f"longer than {max_tokens} tokens" if num_tokens > max_tokens else None


def _has_answer(pair: TrainingPair) -> bool:
    if not isinstance(pair, Conversation):
        return bool(pair.completion.strip())
    answers = [pair.turns[place] for place in pair.trained]
    return any((answer.content or "").strip() or any(answer.fields.values()) for answer in answers)


def encode_pairs(
    pairs: Iterable[TrainingPair],
    codec: TextCodec,
    max_tokens: int,
    limits: ModelLimits,
    *,
    skips_refused: bool = False,
    unreadable: Sequence[SkippedRow] = (),
) -> TokenizedData:
    """Return the examples as tokens, each encoded as one text.

    Args:
        pairs: the examples.
        codec: the border between text and tokens.
        max_tokens: longer examples are left out, never cut.
        limits: the model's.
        skips_refused: leave out what the template refuses, too.
        unreadable: the rows that could not be read, added while `pairs` are read; the error counts them, too.

    Raises:
        UserError: no example is left, one has a token that the model does not know, or is longer than its context, or
            the template refuses one; names the example.
    """
    examples: list[TokenizedExample] = []
    skipped: list[SkippedRow] = []
    for encoded in encode_each(pairs, codec, max_tokens, limits, skips_refused=skips_refused):
        if encoded.tokenized is not None:
            examples.append(encoded.tokenized)
        if encoded.skipped is not None:
            skipped.append(encoded.skipped)
    if not examples:
        raise nothing_left(counted([*unreadable, *skipped]))
    if longer := [example for example in examples if len(example.input_ids) > limits.num_positions]:
        raise beyond_context(longer[0].id, len(longer[0].input_ids), limits, len(longer), len(examples))
    return TokenizedData(examples, skipped)


def encode_each(
    pairs: Iterable[TrainingPair],
    codec: TextCodec,
    max_tokens: int,
    limits: ModelLimits,
    *,
    skips_refused: bool = False,
) -> Iterator[EncodedRow]:
    """Yield what becomes of each example, in their order and one at a time: the arguments are those of `encode_pairs`.

    Raises:
        UserError: as `encode_pairs`, except for what only all examples together show.
    """
    check = EmbeddingCheck(codec.tokenizer, limits.num_embeddings)
    for place, pair in enumerate(pairs):
        if reason := unusable(pair):
            yield EncodedRow(None, SkippedRow(pair.id, reason))
            continue
        num_tokens = 0
        try:
            encoded = encode_pair(codec, pair)
            num_tokens = len(encoded.input_ids)
            if reason := reason_to_skip(pair, encoded.completion[0], num_tokens, max_tokens):
                yield EncodedRow(None, SkippedRow(pair.id, reason), num_tokens)
                continue
            check.check(pair.id, "".join(texts_of(pair)), encoded.input_ids)
        except (PromptError, RowError) as error:
            if not skips_refused:
                raise
            yield EncodedRow(None, SkippedRow.of(pair.id, error), num_tokens)
            continue
        yield EncodedRow(TokenizedExample(pair.id, encoded.input_ids, encoded.trained, place), None, num_tokens)


def nothing_left(reasons: Sequence[tuple[str, int]]) -> UserError:
    """Return the error for data of which no example can be used, with the reasons and the number of their rows."""
    why = "; ".join(f"{count} {reason}" for reason, count in reasons) or "the data set is empty"
    return UserError(f"data: no example can be used ({why}). Raise data.max_tokens or check the data.")


def beyond_context(
    example_id: str, num_tokens: int, limits: ModelLimits, num_longer: int, num_examples: int
) -> UserError:
    """Return the error for data that the model's context is too short for.

    Args:
        example_id: the first example that is longer.
        num_tokens: its length.
        limits: the model's.
        num_longer: how many are longer.
        num_examples: of how many.
    """
    return UserError(
        f"data: the example {example_id} has {num_tokens} tokens, and the model's context is "
        f"{limits.num_positions}. Set data.max_tokens: {limits.num_positions}, which leaves out "
        f"{num_longer} of {num_examples} examples."
    )
