"""One example token by token, for people."""

from __future__ import annotations

from ibft.artifacts.rows import ShownExample, Subset
from ibft.data.training import Example
from ibft.scoring.encoder import ScanExample
from ibft.scoring.engine import Scorer
from ibft.text.pieces import token_pieces

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
        tokens=token_pieces(scorer.encoder.tokenizer, encoded.input_ids),
        num_prompt_tokens=encoded.prompt_length,
        # JSON has no infinity.
        log_probs=[round(max(value, -1e4), 4) for value in stats.log_prob[encoded.response].tolist()],
        matched=match.num_matched_tokens if match else None,
    )
