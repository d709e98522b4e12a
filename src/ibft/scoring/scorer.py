"""From examples to rows: one model, one forward pass an example, all scores."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np
import torch

from ibft import progress
from ibft.artifacts.rows import Pair, Score, ShownExample, Subset
from ibft.data.named_code import texts_of
from ibft.data.training import Example
from ibft.errors import UserError
from ibft.models.loading import limits_of, load_model, load_tokenizer
from ibft.run.processes import num_processes
from ibft.run.provenance import usable_cores
from ibft.run.recipe import Recipe
from ibft.scoring.blocks import Batch
from ibft.scoring.examples import Encoder, ScanExample, origin, within_context
from ibft.scoring.preparation import Preparation, Prepared
from ibft.scoring.scores import Match, example_scores, greedy_match
from ibft.scoring.token_stats import TokenStats, batches_by_tokens, begin_batch
from ibft.text.limits import EmbeddingCheck

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["Scorer"]


class _Nll(NamedTuple):
    """Negative log-likelihoods in nats: of all scored tokens, and of the free ones (NaN: not known)."""

    all: float
    free: float


class Scorer:
    """Scores examples under one model, beside a reference model where the recipe names one.

    Args:
        recipe: prompt, limits and scores.
        model: whose memorization is measured.
        tokenizer: its own.

    Attributes:
        batch_tokens: of a forward pass, padding included; less where the GPU's memory did not suffice.
        is_ahead: whether the device computes a batch while this process makes the rows of the one before.
    """

    def __init__(self, recipe: Recipe, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self._recipe, self._tokenizer = recipe, tokenizer
        # Inside of an adapter that is not merged (over quantized weights): the same model, with the adapter's layers.
        self._model: PreTrainedModel = getattr(model, "get_base_model", lambda: model)()
        self._encoder = Encoder(recipe, tokenizer)
        num_embeddings = limits_of(self._model.config).num_embeddings
        self._embedding = EmbeddingCheck(tokenizer, num_embeddings)
        self._pad_id = min(tokenizer.pad_token_id, num_embeddings - 1)  # some have no embedding for padding
        self.batch_tokens = recipe.scan.batch_tokens or _batch_tokens(self._model)
        self.is_ahead = _runs_beside(self._model.device)
        # Tokens and masks of an example take one core 1 to 3 ms.
        helpers = max(1, min(8, usable_cores() // num_processes() - 1)) if self.is_ahead else 0
        self._preparation = Preparation(recipe, tokenizer, helpers)
        self._reference: Scorer | None = None
        if recipe.scan.reference is not None:
            own = msgspec.structs.replace(
                recipe,
                model=recipe.scan.reference,
                data=msgspec.structs.replace(recipe.data, max_tokens=2**31),
                scan=msgspec.structs.replace(recipe.scan, reference=None, score="mean_nll"),
            )
            reference = load_model(own.model)
            own = within_context(own, reference.config)
            self._reference = Scorer(own, reference, load_tokenizer(own.model))

    def start(self, items: Sequence[tuple[int, Example]]) -> Prepared:
        """Begin with examples that `batches` will be given."""
        return self._preparation.start(items)

    def close(self) -> None:
        """End what runs beside."""
        self._preparation.close()

    def batches(self, subset: Subset, prepared: Prepared) -> list[Batch]:
        """Return what is to be computed, in portions; the first has the examples without scores too.

        Raises:
            UserError: an example has a token that the model has no embedding for.
        """
        examples: dict[int, ScanExample] = {}
        pairs = dict(prepared.items)
        unscored: list[Score] = []
        for (index, example), (tokenized, reason) in zip(prepared.items, prepared.tokenized(), strict=True):
            if tokenized is None:
                unscored.append(Score(id=example.pair.id, subset=subset, index=index, reason=reason))
            else:
                self._check(example.pair, tokenized)
                examples[index] = tokenized
        places = {id(example): index for index, example in examples.items()}

        def begin(batch: list[ScanExample], others: list[Score]) -> Callable[[], list[Score]]:
            indices = [places[id(example)] for example in batch]
            stats = self._begin(batch)

            def rows() -> list[Score]:
                nlls = self._reference_nlls([pairs[index].pair for index in indices])
                return others + [
                    self._row(subset, index, pairs[index], example, found, nll)
                    for index, example, found, nll in zip(indices, batch, stats(), nlls, strict=True)
                ]

            return rows

        if not examples:
            return [lambda: lambda: unscored]
        first, *more = batches_by_tokens(list(examples.values()), self.batch_tokens)
        return [functools.partial(begin, first, unscored), *(functools.partial(begin, batch, []) for batch in more)]

    def _begin(self, batch: Sequence[ScanExample]) -> Callable[[], list[TokenStats]]:
        """Of a batch that the GPU's memory does not suffice for, one half after the other; so of those that follow."""
        try:
            return begin_batch(self._model, batch, self._pad_id)
        except torch.OutOfMemoryError:
            longest = max(len(example.input_ids) for example in batch)
            if len(batch) == 1:
                raise UserError(
                    f"scan: the GPU's memory does not suffice for one example of {longest} tokens. Lower "
                    "data.max_tokens, or set model.quantization."
                ) from None
        # Not in the handler, whose traceback holds what the batch had taken.
        torch.cuda.empty_cache()
        half = len(batch) // 2
        self.batch_tokens = min(self.batch_tokens, longest * (len(batch) - half))
        progress.warn(
            "scan: the GPU's memory does not suffice", f"It goes on with scan.batch_tokens: {self.batch_tokens}."
        )
        halves = [self._begin(batch[:half]), self._begin(batch[half:])]
        return lambda: [stats for values in halves for stats in values()]

    def _check(self, pair: Pair, tokenized: ScanExample) -> None:
        self._embedding.check(pair.id, "".join(texts_of(pair)), tokenized.input_ids)

    def shown(self, subset: Subset, example: Example, score: float) -> ShownExample:
        """One example token by token."""
        tokenized, _ = self._encoder.encode(example.pair)
        assert tokenized is not None, "only scored examples are shown"
        (stats,) = self._begin([tokenized])()
        log_probs = stats.log_prob[tokenized.response]
        forced = tokenized.forced[tokenized.response] if tokenized.forced else [False] * len(log_probs)
        match = self._match(tokenized, stats)
        return ShownExample(
            id=example.pair.id,
            subset=subset,
            score=score,
            file=origin(example)[0],
            tokens=_pieces(self._tokenizer, tokenized.input_ids),
            num_prompt_tokens=tokenized.prompt_length,
            # JSON has no infinity.
            log_probs=[round(max(value, -1e4), 4) for value in log_probs.tolist()],
            forced=forced,
            matched=match.num_matched_tokens if match else None,
        )

    def _row(
        self, subset: Subset, index: int, example: Example, tokenized: ScanExample, stats: TokenStats, nll: _Nll | None
    ) -> Score:
        scan = self._recipe.scan
        if not np.isfinite(stats.log_prob).all():
            return Score(id=example.pair.id, subset=subset, index=index, reason="without finite probabilities")
        num_tokens = len(stats.log_prob)
        z = stats.z
        scores = example_scores(
            stats.log_prob, z, scan.k_percent, tokenized.num_zlib_bytes, None if nll is None else nll.all
        )
        num_free = 0
        if tokenized.forced is not None:
            is_free = ~np.asarray(tokenized.forced)
            num_free = int(is_free.sum())
            free = example_scores(
                stats.log_prob[is_free],
                z[is_free],
                scan.k_percent,
                tokenized.num_zlib_bytes,
                None if nll is None else nll.free,
            )
            scores |= {f"{name}_free": value for name, value in free.items()}
        match = self._match(tokenized, stats)
        file, tags = origin(example)
        return Score(
            id=example.pair.id,
            subset=subset,
            index=index,
            num_tokens=num_tokens,
            num_free_tokens=num_free,
            scores=scores,
            file=file,
            tags=tags,
            fingerprint=tokenized.fingerprint,
            **(match._asdict() if match else {}),
        )

    def _match(self, tokenized: ScanExample, stats: TokenStats) -> Match | None:
        scan, response = self._recipe.scan, tokenized.response
        return greedy_match(stats.log_prob[response], stats.is_top1[response], scan.prefix_tokens, scan.suffix_tokens)

    def _reference_nlls(self, pairs: Sequence[Pair]) -> list[_Nll | None]:
        return [None] * len(pairs) if self._reference is None else self._reference._nlls(pairs)

    def _nlls(self, pairs: Sequence[Pair]) -> list[_Nll | None]:
        """Summed over all scored tokens, and over the free ones; None for a text without a score of its own."""
        examples = [self._encoder.encode(pair)[0] for pair in pairs]
        for pair, example in zip(pairs, examples, strict=True):
            if example is not None:
                self._check(pair, example)
        usable = [example for example in examples if example is not None]
        found: dict[int, _Nll] = {}
        for batch in batches_by_tokens(usable, self.batch_tokens):
            for example, stats in zip(batch, self._begin(batch)(), strict=True):
                free = math.nan
                if example.forced is not None:
                    free = float(-stats.log_prob[~np.asarray(example.forced)].sum())
                found[id(example)] = _Nll(float(-stats.log_prob.sum()), free)
        return [None if example is None else found[id(example)] for example in examples]


def _batch_tokens(model: PreTrainedModel) -> int:
    """As many as keep the device busy: 2^26 activations a layer are 16,384 tokens of a 7B model's.

    A CPU is busy with 1,024, whose activations stay near its caches.
    """
    if model.device.type == "cpu":
        return 1024
    return min(max(2**26 // int(model.config.get_text_config().hidden_size), 4096), 65_536)


def _runs_beside(device: torch.device) -> bool:
    """Whether the device computes while this process does something else."""
    return device.type != "cpu"


def _pieces(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[str]:
    """The text that each token adds; one that ends inside of a character adds it with the token that completes it.

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
