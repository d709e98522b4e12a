"""Batched sampling with transformers: each prompt read once, finished rows dropped, randomness per sample.

`model.generate` computes finished rows until the slowest ends and reads a prompt once for each of its samples;
on a CPU that is most of the time. The loop here reads each distinct prompt once, copies its cache for its
samples, and drops rows from the batch as they end.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch
    from transformers import Cache, PreTrainedModel

__all__ = ["Generated", "Request", "generate_batches", "sample_seed"]

_log = logging.getLogger(__name__)

# How often (in tokens) a row's text is looked at for its end, and how empty a batch gets before it is compacted:
# both trade a little waste for not doing a costly thing at every token.
_TOKENS_BETWEEN_CHECKS = 8
_COMPACT_BELOW = 0.8


class Request(NamedTuple):
    """One sample to draw: what it is (for the caller), the prompt's tokens, and the seed of its randomness."""

    key: tuple[str, int]
    prompt_ids: tuple[int, ...]
    seed: int


class Generated(NamedTuple):
    """One answer: its tokens without the end token, why it ended, and how many tokens were generated."""

    key: tuple[str, int]
    token_ids: list[int]
    finish_reason: str
    num_tokens: int


def sample_seed(seed: int, task_id: str, index: int) -> int:
    """A seed that depends on nothing but the run's seed and which sample it is: not on batches, not on resuming."""
    digest = hashlib.sha256(f"{seed}\0{task_id}\0{index}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generate_batches(
    model: PreTrainedModel,
    requests: Sequence[Request],
    *,
    batch_size: int,
    max_new_tokens: int,
    temperature: float,
    top_p: float,
    end_ids: frozenset[int],
    has_ended: Callable[[tuple[str, int], list[int]], bool],
) -> Iterator[list[Generated]]:
    """Answer the requests batch by batch, shortest prompts first.

    A sample's tokens depend on its own seed alone: one uniform number a token, turned into a token by the
    inverse of the cumulative distribution. Batch shapes change the logits in their last digits, so a token can
    change where that number falls next to a border: hardly ever in float32 (within about 1e-6), now and then in
    bfloat16, whose 8 bits let the same seed give another answer with another `batch_size`.

    Args:
        model: in evaluation mode.
        requests: what to draw; those with the same prompt share its computation within a batch.
        batch_size: samples computed at once; halved where the GPU's memory does not suffice.
        max_new_tokens: cut an answer after so many tokens (`finish_reason` is then `length`).
        temperature: 0 is greedy decoding.
        top_p: keep the most likely tokens up to this cumulative probability.
        end_ids: tokens that end an answer.
        has_ended: told the tokens so far now and then, whether the answer is complete already.
    """
    import torch

    pending = sorted(requests, key=lambda request: (len(request.prompt_ids), request.prompt_ids))
    while pending:
        batch, rest = pending[:batch_size], pending[batch_size:]
        try:
            with torch.inference_mode():
                answers = _Batch(model, batch, temperature, top_p, end_ids, has_ended).run(max_new_tokens)
        except torch.OutOfMemoryError:
            if batch_size == 1:
                raise
            batch_size = (batch_size + 1) // 2
            _log.warning("Not enough GPU memory: going on with generate.batch_size %d.", batch_size)
            torch.cuda.empty_cache()
            continue
        yield answers
        pending = rest


class _Batch:
    """The state of one batch. Shapes: B rows still running, T cached positions, V vocabulary."""

    def __init__(
        self,
        model: PreTrainedModel,
        requests: Sequence[Request],
        temperature: float,
        top_p: float,
        end_ids: frozenset[int],
        has_ended: Callable[[tuple[str, int], list[int]], bool],
    ) -> None:
        import torch

        self.model, self.temperature, self.top_p = model, temperature, top_p
        self.end_ids, self.has_ended = end_ids, has_ended
        self.requests = list(requests)
        self.generators = [torch.Generator().manual_seed(request.seed) for request in self.requests]
        self.tokens: list[list[int]] = [[] for _ in self.requests]
        self.reasons: list[str | None] = [None] * len(self.requests)
        self.rows = list(range(len(self.requests)))  # which request each row of the batch belongs to

    def run(self, max_new_tokens: int) -> list[Generated]:
        import torch

        logits_BV = self._read_prompts()
        for step in range(1, max_new_tokens + 1):
            chosen = self._choose(logits_BV)
            self._record(chosen, step)
            if all(self.reasons):
                break
            running = [place for place, row in enumerate(self.rows) if self.reasons[row] is None]
            if len(running) < _COMPACT_BELOW * len(self.rows):
                self._keep(running)
                chosen = [chosen[place] for place in running]
            if step < max_new_tokens:
                logits_BV = self._forward(torch.tensor(chosen, device=self.model.device)[:, None])
        return [
            Generated(
                request.key,
                [token for token in tokens if token not in self.end_ids],
                reason or "length",
                len(tokens),
            )
            for request, tokens, reason in zip(self.requests, self.tokens, self.reasons, strict=True)
        ]

    def _read_prompts(self) -> torch.Tensor:
        """Read each distinct prompt once, padded on the left; then give every row its prompt's cache."""
        import torch
        from transformers import DynamicCache

        prompts = list(dict.fromkeys(request.prompt_ids for request in self.requests))
        longest = max(map(len, prompts))
        ids_PT = torch.zeros(len(prompts), longest, dtype=torch.long)
        self.mask_BT = torch.zeros(len(prompts), longest, dtype=torch.long)
        for row, prompt in enumerate(prompts):
            ids_PT[row, longest - len(prompt) :] = torch.tensor(prompt)
            self.mask_BT[row, longest - len(prompt) :] = 1
        self.mask_BT = self.mask_BT.to(self.model.device)
        self.cache: Cache = DynamicCache(config=self.model.config)
        logits_PV = self._call(ids_PT.to(self.model.device))
        place = {prompt: row for row, prompt in enumerate(prompts)}
        source = torch.tensor([place[request.prompt_ids] for request in self.requests], device=self.model.device)
        self._select(source)
        return logits_PV[source]

    def _forward(self, ids_B1: torch.Tensor) -> torch.Tensor:
        import torch

        self.mask_BT = torch.cat([self.mask_BT, self.mask_BT.new_ones(len(ids_B1), 1)], dim=1)
        return self._call(ids_B1)

    def _call(self, ids_BT: torch.Tensor) -> torch.Tensor:
        """Run the model on the newest tokens; return the last position's logits (B, V)."""
        positions_BT = (self.mask_BT.cumsum(dim=1) - 1).clamp(min=0)[:, -ids_BT.shape[1] :]
        logits_BTV: torch.Tensor = self.model(
            input_ids=ids_BT,
            attention_mask=self.mask_BT,
            position_ids=positions_BT,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits
        return logits_BTV[:, -1]

    def _choose(self, logits_BV: torch.Tensor) -> list[int]:
        import torch

        if self.temperature == 0:
            return list(logits_BV.argmax(dim=-1).tolist())
        probs_BV = torch.softmax(logits_BV.double() / self.temperature, dim=-1)
        if self.top_p < 1:
            ordered_BV, order_BV = probs_BV.sort(dim=-1, descending=True, stable=True)
            # Keep a token if what is more likely than it has not reached top_p: the most likely one always stays.
            ordered_BV = ordered_BV * (ordered_BV.cumsum(dim=-1) - ordered_BV < self.top_p)
            probs_BV = torch.zeros_like(probs_BV).scatter(1, order_BV, ordered_BV)
        uniform = [float(torch.rand(1, generator=self.generators[row], dtype=torch.float64)) for row in self.rows]
        cumulative_BV = probs_BV.cumsum(dim=-1)
        threshold_B1 = torch.tensor(uniform, dtype=torch.float64, device=probs_BV.device)[:, None]
        chosen_B1 = torch.searchsorted(cumulative_BV, threshold_B1 * cumulative_BV[:, -1:], right=True)
        return list(chosen_B1.clamp(max=probs_BV.shape[1] - 1).squeeze(1).tolist())

    def _record(self, chosen: Sequence[int], step: int) -> None:
        for row, token in zip(self.rows, chosen, strict=True):
            if self.reasons[row] is not None:
                continue
            self.tokens[row].append(token)
            looks = step % _TOKENS_BETWEEN_CHECKS == 0
            if token in self.end_ids or (looks and self.has_ended(self.requests[row].key, self.tokens[row])):
                self.reasons[row] = "stop"

    def _keep(self, places: Sequence[int]) -> None:
        import torch

        self.rows = [self.rows[place] for place in places]
        self._select(torch.tensor(places, device=self.model.device))

    def _select(self, rows: torch.Tensor) -> None:
        self.cache.batch_select_indices(rows)
        self.mask_BT = self.mask_BT[rows]
