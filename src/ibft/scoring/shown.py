"""One example token by token, for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ibft.artifacts.rows import ShownExample, Subset
from ibft.data.training import Example
from ibft.scoring.encoder import ScanExample
from ibft.scoring.engine import Scorer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["show_tokens"]


def show_tokens(scorer: Scorer, subset: Subset, index: int, example: Example, score: float) -> ShownExample:
    """Return the pieces of text, the response's log-probabilities, and how much of it is repeated.

    Args:
        scorer: of the model.
        subset: of the example.
        index: of the example.
        example: one that has scores.
        score: its headline score.
    """
    encoded = scorer.encoder.encode(subset, index, example)
    assert isinstance(encoded, ScanExample), "only scored examples are shown"
    [(_, pending)] = scorer.forward.begin([encoded])
    [stats] = pending.collect()
    match = scorer.match(encoded, stats)
    return ShownExample(
        id=encoded.row.id,
        subset=subset,
        score=score,
        file=encoded.row.file,
        tokens=_pieces(scorer.encoder.tokenizer, encoded.input_ids),
        num_prompt_tokens=encoded.prompt_length,
        # JSON has no infinity.
        log_probs=[round(max(value, -1e4), 4) for value in stats.log_prob[encoded.response].tolist()],
        matched=match.num_matched_tokens if match else None,
    )


def _pieces(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[str]:
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
