"""Pairs to tokens: the same tokens and the same mask for training and for the scan."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ibft.data.named_code import texts_of
from ibft.data.prompts import render_prompt
from ibft.errors import UserError
from ibft.recipe import PromptConfig
from ibft.rows import Message, Pair, is_encodable

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "NOT_UNICODE",
    "TokenizedData",
    "TokenizedExample",
    "is_unicode",
    "reason_to_skip",
    "tokenize_pairs",
    "tokenize_prompt",
]


@dataclasses.dataclass(frozen=True)
class TokenizedExample:
    """One example: `input_ids` (T,) holds prompt, completion and end token; the loss is on what follows the prompt.

    `place` is its number in the data, counted from 0 with those that are skipped.
    """

    id: str
    input_ids: list[int]
    prompt_length: int
    place: int = 0

    @property
    def labels(self) -> list[int]:
        """`input_ids` with the prompt replaced by -100, which every loss here ignores; shape (T,)."""
        return [-100] * self.prompt_length + self.input_ids[self.prompt_length :]


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


def tokenize_prompt(
    prompt: str | tuple[Message, ...],
    tokenizer: PreTrainedTokenizerBase,
    config: PromptConfig,
    example_id: str | None = None,
) -> list[int]:
    """The prompt's tokens, without special tokens beyond those its template writes out; errors name the example."""
    text = render_prompt(prompt, config.template, tokenizer, example_id)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


NOT_UNICODE = "text that is not valid Unicode"
"""Why a pair is skipped that no tokenizer can read."""


def is_unicode(pair: Pair) -> bool:
    """Whether texts and roles have no lone surrogates, which JSON can hold and no tokenizer reads."""
    roles = [] if isinstance(pair.prompt, str) else [turn.role for turn in pair.prompt]
    return is_encodable("".join([*texts_of(pair), *roles]))


def reason_to_skip(pair: Pair, num_prompt: int, num_tokens: int, max_tokens: int) -> str | None:
    """Why a pair of so many tokens (of the prompt; of all, the end token included) cannot be used; None if it can."""
    if not pair.completion.strip():
        return "empty completion"
    if not num_prompt:
        return "empty prompt"
    return f"longer than {max_tokens} tokens" if num_tokens > max_tokens else None


def tokenize_pairs(
    pairs: Iterable[Pair], tokenizer: PreTrainedTokenizerBase, config: PromptConfig, max_tokens: int
) -> TokenizedData:
    """Tokenize prompt and completion apart, so that generation continues exactly what training showed.

    (Tokenized as one text, a token could span the border, and the model would be asked to continue from a
    prefix that it never saw in training.)

    Args:
        pairs: the examples.
        tokenizer: the model's.
        config: template, and whether the end token follows the completion.
        max_tokens: longer examples are left out, never cut.

    Raises:
        UserError: the tokenizer has no end token though `prompt.end_of_text` asks for one, or no example is left.
    """
    if config.end_of_text and tokenizer.eos_token_id is None:
        raise UserError("prompt.end_of_text is true: this tokenizer has no end token. Set prompt.end_of_text: false.")
    end = [tokenizer.eos_token_id] if config.end_of_text else []
    examples: list[TokenizedExample] = []
    skipped: dict[str, list[str]] = {}
    for place, pair in enumerate(pairs):
        if not is_unicode(pair):
            skipped.setdefault(NOT_UNICODE, []).append(pair.id)
            continue
        prompt_ids = tokenize_prompt(pair.prompt, tokenizer, config, pair.id)
        completion_ids = list(tokenizer(pair.completion, add_special_tokens=False)["input_ids"])
        input_ids = prompt_ids + completion_ids + end
        if reason := reason_to_skip(pair, len(prompt_ids), len(input_ids), max_tokens):
            skipped.setdefault(reason, []).append(pair.id)
        else:
            examples.append(TokenizedExample(pair.id, input_ids, len(prompt_ids), place))
    if not examples:
        reasons = Counter({reason: len(ids) for reason, ids in skipped.items()}).most_common()
        why = "; ".join(f"{count} {reason}" for reason, count in reasons) or "the data set is empty"
        raise UserError(f"data: no example can be used ({why}). Raise data.max_tokens or check the data.")
    return TokenizedData(examples, skipped)
