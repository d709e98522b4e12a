"""Check what a tokenizer makes against what a model can take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from ibft.errors import RowError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["EmbeddingCheck", "ModelLimits"]


class ModelLimits(NamedTuple):
    """The limits of a model: ids below `num_embeddings`, and at most `num_positions` tokens (inf: no limit known)."""

    num_embeddings: int
    num_positions: float


class EmbeddingCheck:
    """Finds examples with tokens that the model has no embedding for.

    Args:
        tokenizer: the model's.
        num_embeddings: the rows of its embedding.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, num_embeddings: int) -> None:
        self._tokenizer, self._num_embeddings = tokenizer, num_embeddings
        added = tokenizer.added_tokens_decoder.items()
        self._missing = {token.content: place for place, token in added if place >= num_embeddings}
        self._is_needed = len(tokenizer) > num_embeddings

    def check(self, example_id: str, text: str, input_ids: Sequence[int]) -> None:
        """Check one example; a control token that the model lacks is refused as text, too.

        Args:
            example_id: names it in the error.
            text: its texts together.
            input_ids: its tokens.

        Raises:
            RowError: it has such a token; names both.
        """
        if not self._is_needed:
            return
        # As text, too: whoever wrote it meant the token, and another program would make it of this text.
        missing = {place: content for content, place in self._missing.items() if content in text}
        beyond = [token for token in input_ids if token >= self._num_embeddings]
        missing |= {token: self._tokenizer.convert_ids_to_tokens(token) for token in beyond}
        if missing:
            token, content = min(missing.items())
            raise RowError(
                f"data: the example {example_id} has the token {content!r} (id {token}), and the model has embeddings "
                f"for ids below {self._num_embeddings}. Take it out of the row, or give a model and tokenizer that "
                "belong together (`model.resize_token_embeddings(len(tokenizer))` adds rows).",
                "a token without an embedding",
            )
