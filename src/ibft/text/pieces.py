"""Tokens as the pieces of text that they are, for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["token_pieces"]


def token_pieces(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[str]:
    """Return the text that each token adds; one that ends inside a character adds it with the token that completes it.

    Decoded with the piece before it, since a first token may lose its space.
    """

    def decoded(begin: int, end: int) -> str:
        return str(tokenizer.decode(ids[begin:end], clean_up_tokenization_spaces=False))

    pieces = []
    begin, given = 0, 0  # of the piece before
    for end in range(1, len(ids) + 1):
        text = decoded(begin, end)
        if text.endswith("\ufffd") and end < len(ids):
            pieces.append("")
            continue
        pieces.append(text[len(decoded(begin, given)) :])
        begin, given = given, end
    return pieces
