"""From examples to rows of scores: one model, one forward pass per example, all scores."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import msgspec
import numpy as np

from ibft.artifacts.rows import Pair, Score, TrainingPair
from ibft.artifacts.score_names import score_names
from ibft.artifacts.score_table import score_table
from ibft.data.training import Example
from ibft.models.loading import limits_of
from ibft.scoring.encoder import Block, Encoder, Region, ScanExample, encode_blocks
from ibft.scoring.forward import Forward
from ibft.scoring.scores import (
    Match,
    against_base,
    exact_memorization,
    example_scores,
    extraction_strength,
    greedy_match,
)
from ibft.scoring.token_stats import TokenStats
from ibft.text.encoding import TextCodec
from ibft.text.limits import ModelLimits

if TYPE_CHECKING:
    import pyarrow
    from numpy.typing import NDArray
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["ScoredRows", "Scorer", "one_ahead", "score"]

Item = TypeVar("Item")


def score(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Iterable[TrainingPair | tuple[str, str]],
    *,
    template: str = "plain",
    region: Region = "response",
    max_tokens: int | None = None,
    k_percent: Sequence[float] = (10, 20, 30, 50),
    prefix_tokens: int = 50,
    suffix_tokens: int = 50,
    batch_tokens: int | None = None,
    reference: tuple[PreTrainedModel, PreTrainedTokenizerBase] | None = None,
) -> pyarrow.Table:
    """Return how predictable each example is to a model: the scan's table, without a recipe or a folder.

    Every score is lower for a more predictable, so more strongly memorized, example (`scores.example_scores` has
    formulas and sources): `mean_nll` and `min_k_prob_K` in nats per token, `zlib_ratio` in nats per token and
    compressed byte, `min_k_plus_plus_K` in standard deviations, `reference_ratio` without a unit. Scores say nothing
    on their own: compare them with those of examples that the model cannot have seen.

    Args:
        model: a causal language model.
        tokenizer: the model's.
        examples: N pairs, or N tuples `(prompt, completion)`, whose ids are then their numbers.
        template: how prompt and completion become one text: `plain`, `instruction` or `chat`.
        region: score the tokens of the completion (`response`), or those of the prompt as well (`all`).
        max_tokens: longer examples have no scores; None is the model's context.
        k_percent: each K of Min-K% Prob and Min-K%++, in (0, 100].
        prefix_tokens: tokens of the completion that discoverable extraction gives to the model.
        suffix_tokens: tokens that it should then write.
        batch_tokens: tokens of one forward pass, padding included; None chooses by device and width.
        reference: another model and its tokenizer, for `reference_ratio`.

    Returns:
        N rows in the order of the examples, with the columns of `scan/scores.parquet` (docs/audit.md): `id`, one
        float64 column per score, counts of tokens, extraction, and `reason` where an example has no scores.

    Raises:
        UserError: the template refuses a prompt, the model has no embedding for a token, or pyarrow is not installed.
        ValueError: a K is out of range.
    """
    other = None if reference is None else Encoder(*_text_side(*reference, template), region=region)
    scorer = Scorer(
        Forward(model, tokenizer, batch_tokens),
        Encoder(*_text_side(model, tokenizer, template), max_tokens=max_tokens, region=region, reference=other),
        k_percent=k_percent,
        prefix_tokens=prefix_tokens,
        suffix_tokens=suffix_tokens,
        reference=None if reference is None else Forward(*reference, batch_tokens),
    )
    pairs = [Pair(str(n), *pair) if isinstance(pair, tuple) else pair for n, pair in enumerate(examples)]
    block = Block("train", 0, [(n, Example(pair, None)) for n, pair in enumerate(pairs)])
    rows = sorted((row for scored in scorer.score([block]) for row in scored.rows), key=lambda row: row.index)
    names = score_names(k_percent, has_reference=reference is not None)
    return score_table(rows, names, headline=names[0])


def _text_side(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, template: str
) -> tuple[TextCodec, ModelLimits]:
    """Return what an encoder needs to know about a model."""
    return TextCodec(tokenizer, template, has_end=tokenizer.eos_token_id is not None), limits_of(model.config)


class ScoredRows(NamedTuple):
    """Rows of some examples of a block; those of a whole block come in several, in no order."""

    subset: str
    number: int
    rows: list[Score]


class Scorer:
    """Scores examples under one model, beside a reference model where there is one.

    Args:
        forward: the model whose memorization is measured.
        encoder: cuts examples into its tokens.
        k_percent: each K of Min-K% Prob and Min-K%++.
        prefix_tokens: tokens of the response that discoverable extraction gives to the model.
        suffix_tokens: tokens that it should then write.
        reference: the reference model, whose encoder `encoder` must have.
        base: log-probabilities of each example's scored tokens under the model before it was trained, by subset and
            number; None: no scores that compare the two.
        keeps_tokens: rows hold the log-probabilities of the scored tokens.
        num_workers: processes that cut examples into tokens while the device computes.
    """

    def __init__(
        self,
        forward: Forward,
        encoder: Encoder,
        *,
        k_percent: Sequence[float],
        prefix_tokens: int,
        suffix_tokens: int,
        reference: Forward | None = None,
        base: Mapping[tuple[str, int], NDArray[np.float64]] | None = None,
        keeps_tokens: bool = False,
        num_workers: int = 0,
    ) -> None:
        self.forward, self.encoder = forward, encoder
        self._k_percent, self._prefix_tokens, self._suffix_tokens = k_percent, prefix_tokens, suffix_tokens
        self._reference, self._num_workers = reference, num_workers
        self._base, self._keeps_tokens = base or {}, keeps_tokens

    def score(self, blocks: Iterable[Block]) -> Iterator[ScoredRows]:
        """Yield the rows of all examples, block by block and a batch at a time.

        Raises:
            UserError: as `Encoder.encode` and `Forward.begin`.
        """
        begun = (
            (block, batch, pending)
            for block in encode_blocks(blocks, self.encoder, self._num_workers)
            for batch, pending in (self.forward.begin(block.examples) if block.examples else [([], None)])
        )
        # A GPU has the next batch, also of the next block, before the rows of this one are made, or it would wait.
        for block, batch, pending in one_ahead(begun) if self.forward.runs_beside else begun:
            rows = block.unscored.copy()
            block.unscored.clear()  # they go with the block's first batch, and not again with its others
            nlls = self._reference_nlls(batch)
            for example, stats in zip(batch, pending.collect() if pending else [], strict=True):
                row, log_prob = example.row, stats.log_prob
                if not np.isfinite(log_prob).all():
                    reason = "without finite probabilities"
                    rows.append(Score(id=row.id, subset=row.subset, index=row.index, reason=reason))
                    continue
                rows.append(self._scored(example, stats, nlls.get(row.index)))
            yield ScoredRows(block.subset, block.number, rows)

    def _scored(self, example: ScanExample, stats: TokenStats, reference_nll: float | None) -> Score:
        row, log_probs, is_top1 = example.row, stats.log_prob, stats.is_top1
        scores = example_scores(log_probs, stats.z, self._k_percent, example.num_zlib_bytes, reference_nll)
        base = self._base.get((row.subset, row.index))
        if base is not None:
            scores |= against_base(log_probs, base, is_top1)
        match = self.match(example, stats)
        return msgspec.structs.replace(
            row,
            num_tokens=len(log_probs),
            scores=scores,
            extraction_strength=extraction_strength(is_top1[example.response]),
            exact_memorization=exact_memorization(is_top1[example.response]),
            log_probs=log_probs.tolist() if self._keeps_tokens else None,
            **(match._asdict() if match else {}),
        )

    def match(self, example: ScanExample, stats: TokenStats) -> Match | None:
        """Return how far greedy decoding repeats the response; None where the response is too short."""
        response = example.response
        return greedy_match(stats.log_prob[response], stats.is_top1[response], self._prefix_tokens, self._suffix_tokens)

    def _reference_nlls(self, batch: Sequence[ScanExample]) -> dict[int, float]:
        """Return the summed NLL, in nats, of each text under the reference model, by the row's index."""
        if self._reference is None:
            return {}
        nlls = {}
        texts = [example.reference for example in batch if example.reference is not None]
        for others, pending in self._reference.begin(texts):
            for example, stats in zip(others, pending.collect(), strict=True):
                nlls[example.row.index] = float(-stats.log_prob.sum())
        return nlls


def one_ahead(items: Iterable[Item]) -> Iterator[Item]:
    """Yield the same items, each after the next one has been made."""
    waiting: list[Item] = []
    for item in items:
        yield from waiting
        waiting = [item]
    yield from waiting
