"""Training pairs to tokens and mask; which of them cannot be used, and why."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence

from ibft.artifacts.json_lines import is_encodable
from ibft.artifacts.rows import Pair
from ibft.errors import UserError
from ibft.text.encoding import TextCodec
from ibft.text.limits import EmbeddingCheck, ModelLimits

__all__ = [
    "NOT_UNICODE",
    "TokenizedData",
    "TokenizedExample",
    "encode_pairs",
    "is_unicode",
    "reason_to_skip",
    "texts_of",
]

NOT_UNICODE = "text that is not valid Unicode"
"""Why a pair is skipped that no tokenizer can read."""


@dataclasses.dataclass(frozen=True)
class TokenizedExample:
    """One example: `input_ids` (T,) holds prompt, completion and end; what is trained begins at the token `border`.

    `place` is its number in the data, counted from 0 with those that are skipped.
    """

    id: str
    input_ids: list[int]
    border: int
    place: int = 0

    @property
    def labels(self) -> list[int]:
        """`input_ids` with what precedes the border replaced by -100, which every loss here ignores; shape (T,)."""
        return [-100] * self.border + self.input_ids[self.border :]


@dataclasses.dataclass(frozen=True)
class TokenizedData:
    """The examples that can be used, and why the others cannot.

    `skipped` maps a reason to the ids of the examples left out for it, so that nothing is dropped in silence.
    """

    examples: list[TokenizedExample]
    skipped: dict[str, list[str]]

    @property
    def num_skipped(self) -> dict[str, int]:
        """How many examples were left out, by reason."""
        return {reason: len(ids) for reason, ids in self.skipped.items()}


def texts_of(pair: Pair) -> list[str]:
    """Return the prompt, or the turns of a conversation, and the completion."""
    return [
        *([pair.prompt] if isinstance(pair.prompt, str) else [turn.content for turn in pair.prompt]),
        pair.completion,
    ]


def is_unicode(pair: Pair) -> bool:
    """Return whether texts and roles have no lone surrogates, which JSON can hold and no tokenizer reads."""
    roles = [] if isinstance(pair.prompt, str) else [turn.role for turn in pair.prompt]
    return is_encodable("".join([*texts_of(pair), *roles]))


def reason_to_skip(pair: Pair, num_prompt: int, num_tokens: int, max_tokens: float) -> str | None:
    """Return why a pair cannot be used; None if it can.

    Args:
        pair: prompt and completion.
        num_prompt: characters of the rendered prompt.
        num_tokens: tokens of prompt, completion and end together.
        max_tokens: the most that are allowed.
    """
    if not pair.completion.strip():
        return "empty completion"
    if not num_prompt:
        return "empty prompt"
    return f"longer than {max_tokens} tokens" if num_tokens > max_tokens else None


def encode_pairs(pairs: Iterable[Pair], codec: TextCodec, max_tokens: int, limits: ModelLimits) -> TokenizedData:
    """Return the pairs as tokens, each encoded as one text.

    Args:
        pairs: the examples.
        codec: the border between text and tokens.
        max_tokens: longer examples are left out, never cut.
        limits: the model's.

    Raises:
        UserError: no example is left, one has a token that the model does not know, or is longer than its context, or
            the template refuses one; names the example.
    """
    check = EmbeddingCheck(codec.tokenizer, limits.num_embeddings)
    examples: list[TokenizedExample] = []
    skipped: dict[str, list[str]] = {}
    for place, pair in enumerate(pairs):
        if not is_unicode(pair):
            skipped.setdefault(NOT_UNICODE, []).append(pair.id)
            continue
        encoded = codec.example(pair.prompt, pair.completion, pair.id)
        if reason := reason_to_skip(pair, encoded.completion[0], len(encoded.input_ids), max_tokens):
            skipped.setdefault(reason, []).append(pair.id)
        else:
            check.check(pair.id, "".join(texts_of(pair)), encoded.input_ids)
            examples.append(TokenizedExample(pair.id, encoded.input_ids, encoded.border, place))
    if not examples:
        reasons = Counter({reason: len(ids) for reason, ids in skipped.items()}).most_common()
        why = "; ".join(f"{count} {reason}" for reason, count in reasons) or "the data set is empty"
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
