"""Training examples to tokens and mask; which of them cannot be used, and why."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ibft.artifacts.json_lines import is_encodable
from ibft.artifacts.rows import Conversation, TrainingPair
from ibft.data.skipped import SkippedRow, counted
from ibft.errors import PromptError, RowError, UserError
from ibft.text.encoding import TextCodec
from ibft.text.examples import encode_pair
from ibft.text.limits import EmbeddingCheck, ModelLimits

__all__ = [
    "NOT_UNICODE",
    "TokenizedData",
    "TokenizedExample",
    "encode_pairs",
    "is_unicode",
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
) -> TokenizedData:
    """Return the examples as tokens, each encoded as one text.

    Args:
        pairs: the examples.
        codec: the border between text and tokens.
        max_tokens: longer examples are left out, never cut.
        limits: the model's.
        skips_refused: leave out what the template refuses, too.

    Raises:
        UserError: no example is left, one has a token that the model does not know, or is longer than its context, or
            the template refuses one; names the example.
    """
    check = EmbeddingCheck(codec.tokenizer, limits.num_embeddings)
    examples: list[TokenizedExample] = []
    skipped: list[SkippedRow] = []
    for place, pair in enumerate(pairs):
        if reason := unusable(pair):
            skipped.append(SkippedRow(pair.id, reason))
            continue
        try:
            encoded = encode_pair(codec, pair)
            if reason := reason_to_skip(pair, encoded.completion[0], len(encoded.input_ids), max_tokens):
                skipped.append(SkippedRow(pair.id, reason))
                continue
            check.check(pair.id, "".join(texts_of(pair)), encoded.input_ids)
        except (PromptError, RowError) as error:
            if not skips_refused:
                raise
            skipped.append(SkippedRow.of(pair.id, error))
            continue
        examples.append(TokenizedExample(pair.id, encoded.input_ids, encoded.trained, place))
    if not examples:
        why = "; ".join(f"{count} {reason}" for reason, count in counted(skipped)) or "the data set is empty"
        raise UserError(f"data: no example can be used ({why}). Raise data.max_tokens or check the data.")
    _check_context(examples, limits)
    return TokenizedData(examples, skipped)


def _check_context(examples: Sequence[TokenizedExample], limits: ModelLimits) -> None:
    longer = [example for example in examples if len(example.input_ids) > limits.num_positions]
    if longer:
        raise UserError(
            f"data: the example {longer[0].id} has {len(longer[0].input_ids)} tokens, and the model's context is "
            f"{limits.num_positions}. Set data.max_tokens: {limits.num_positions}, which leaves out "
            f"{len(longer)} of {len(examples)} examples."
        )
