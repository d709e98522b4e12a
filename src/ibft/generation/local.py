"""Batched sampling with transformers: each prompt read once, finished rows dropped, randomness per sample.

`model.generate` computes finished rows until the slowest ends and reads a prompt once for each of its samples;
on a CPU that is most of the time. The loop here reads each distinct prompt once, copies its cache for its
samples, and drops rows from the batch as they end.

A prompt whose last characters were taken off (token healing, `ibft.text.healing`) is held to them first: until they
are written again, a row chooses among the tokens that agree with them.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch
    from transformers import Cache, PreTrainedModel

    from ibft.text.healing import Vocabulary

__all__ = ["Generated", "Request", "Sampling", "generate_batches", "sample_seed"]

_log = logging.getLogger(__name__)

# Both trade a few wasted tokens for not doing a costly thing (decoding and parsing, copying the cache) at each of them.
_TOKENS_BETWEEN_CHECKS = 8
_COMPACT_BELOW = 0.8  # of the rows


class Request(NamedTuple):
    """One sample to draw.

    key: what it is, for the caller.
    prompt_ids: the tokens it starts from.
    seed: random seed of the sample.
    healed: the prompt's last bytes, which are not in `prompt_ids`; the model writes them again, and nothing else.
    """

    key: tuple[str, int]
    prompt_ids: tuple[int, ...]
    seed: int
    healed: bytes = b""


class Generated(NamedTuple):
    """One answer.

    key: the request's.
    token_ids: what was generated behind `prompt_ids`, without the end token.
    finish_reason: `stop`, or `length` where a limit cut the answer.
    num_tokens: the tokens behind the prompt, the end token included; those that only repeat its end do not count.
    """

    key: tuple[str, int]
    token_ids: list[int]
    finish_reason: str
    num_tokens: int


class Sampling(NamedTuple):
    """How answers are drawn.

    max_new_tokens: cut an answer after this many tokens behind the prompt (`finish_reason` is then `length`).
    temperature: 0 is greedy decoding.
    top_p: keep the most likely tokens up to this cumulative probability.
    end_ids: tokens that end an answer.
    max_length: tokens that prompt and answer may have together; None is no limit.
    """

    max_new_tokens: int
    temperature: float
    top_p: float
    end_ids: frozenset[int]
    max_length: int | None = None


def sample_seed(seed: int, task_id: str, index: int) -> int:
    """Return a seed that depends only on the run's seed and on which sample it is: not on batches, not on resuming."""
    digest = hashlib.sha256(f"{seed}\0{task_id}\0{index}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1  # 63 bits: torch's seeds are signed


def generate_batches(
    model: PreTrainedModel,
    requests: Sequence[Request],
    sampling: Sampling,
    vocabulary: Vocabulary,
    *,
    batch_size: int,
    has_ended: Callable[[tuple[str, int], list[int]], bool],
) -> Iterator[list[Generated]]:
    """Answer the requests batch by batch, shortest prompts first.

    A sample's randomness depends on its own seed alone. In bfloat16 the same seed may still give another answer with
    another `batch_size`.

    Args:
        model: in evaluation mode.
        requests: what to draw; those with the same prompt share its computation within a batch.
        sampling: how.
        vocabulary: the tokens' bytes, for requests with `healed` bytes.
        batch_size: samples computed at once; halved where the GPU's memory does not suffice.
        has_ended: decides from the tokens so far whether the answer is complete; called every few tokens.
    """
    import torch

    pending = sorted(requests, key=lambda request: (len(request.prompt_ids), request.prompt_ids))
    while pending:
        batch, rest = pending[:batch_size], pending[batch_size:]
        try:
            with torch.inference_mode():
                answers = _Batch(model, batch, sampling, vocabulary, has_ended).run()
        except torch.OutOfMemoryError:
            if batch_size == 1:
                raise
            batch_size = (batch_size + 1) // 2
            _log.warning("Not enough GPU memory: continuing with generate.batch_size %d.", batch_size)
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
        sampling: Sampling,
        vocabulary: Vocabulary,
        has_ended: Callable[[tuple[str, int], list[int]], bool],
    ) -> None:
        import torch

        self.model, self.sampling = model, sampling
        self.vocabulary, self.has_ended = vocabulary, has_ended
        self.requests = list(requests)
        self.generators = [torch.Generator().manual_seed(request.seed) for request in self.requests]
        self.tokens: list[list[int]] = [[] for _ in self.requests]
        self.num_new = [0] * len(self.requests)
        self.to_heal = [request.healed for request in self.requests]  # what is left to be written of each prompt
        self.allowed: dict[bytes, torch.Tensor] = {}
        self.mask_BT: torch.Tensor
        self.reasons: list[str | None] = [None] * len(self.requests)
        self.rows = list(range(len(self.requests)))  # which request each row of the batch belongs to

    def run(self) -> list[Generated]:
        import torch

        logits_BV = self._read_prompts()
        while True:
            self._hold_to_prompts(logits_BV)
            chosen = self._choose(logits_BV)
            self._record(chosen)
            if all(self.reasons):
                break
            running = [place for place, row in enumerate(self.rows) if self.reasons[row] is None]
            if len(running) < _COMPACT_BELOW * len(self.rows):
                self.rows = [self.rows[place] for place in running]
                self._select(torch.tensor(running, device=self.model.device))
                chosen = [chosen[place] for place in running]
            self.mask_BT = torch.cat([self.mask_BT, self.mask_BT.new_ones(len(chosen), 1)], dim=1)
            logits_BV = self._call(torch.tensor(chosen, device=self.model.device)[:, None])
        return [
            Generated(
                request.key,
                [token for token in tokens if token not in self.sampling.end_ids],
                reason or "length",
                num_new,
            )
            for request, tokens, reason, num_new in zip(
                self.requests, self.tokens, self.reasons, self.num_new, strict=True
            )
        ]

    def _read_prompts(self) -> torch.Tensor:
        """Read each distinct prompt once; then give every row its prompt's cache."""
        import torch
        from transformers import DynamicCache

        prompts = list(dict.fromkeys(request.prompt_ids for request in self.requests))
        longest = max(map(len, prompts))
        ids_PT = torch.zeros(len(prompts), longest, dtype=torch.long)
        self.mask_BT = torch.zeros(len(prompts), longest, dtype=torch.long)
        for row, prompt in enumerate(prompts):
            # Padded on the left: the last position of each row is then its prompt's end.
            ids_PT[row, longest - len(prompt) :] = torch.tensor(prompt)
            self.mask_BT[row, longest - len(prompt) :] = 1
        self.mask_BT = self.mask_BT.to(self.model.device)
        self.cache: Cache = DynamicCache(config=self.model.config)
        logits_PV = self._call(ids_PT.to(self.model.device))
        place = {prompt: row for row, prompt in enumerate(prompts)}
        source = torch.tensor([place[request.prompt_ids] for request in self.requests], device=self.model.device)
        self._select(source)
        return logits_PV[source]

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

    def _hold_to_prompts(self, logits_BV: torch.Tensor) -> None:
        """Rule out, in place, every token that does not agree with what a row has left to write of its prompt."""
        places_of: dict[bytes, list[int]] = {}
        for place, row in enumerate(self.rows):
            if self.to_heal[row]:
                places_of.setdefault(self.to_heal[row], []).append(place)
        for rest, places in places_of.items():
            if rest not in self.allowed:
                self.allowed[rest] = self._allowed(rest, logits_BV)
            rows_HV = logits_BV[places]
            held_HV = rows_HV.new_full(rows_HV.shape, float("-inf"))
            held_HV[:, self.allowed[rest]] = rows_HV[:, self.allowed[rest]]
            logits_BV[places] = held_HV

    def _allowed(self, rest: bytes, logits_BV: torch.Tensor) -> torch.Tensor:
        import torch

        # Embeddings may have fewer rows than the vocabulary has tokens. With an end token allowed, an answer could end
        # inside of its prompt.
        tokens = [
            token
            for token in self.vocabulary.allowed(rest)
            if token < logits_BV.shape[1] and token not in self.sampling.end_ids
        ]
        assert tokens, f"no token writes {rest!r}"
        return torch.tensor(tokens, device=logits_BV.device)

    def _choose(self, logits_BV: torch.Tensor) -> list[int]:
        import torch

        if self.sampling.temperature == 0:
            return list(logits_BV.argmax(dim=-1).tolist())
        # Batch shapes change the last digits of the logits, and a token changes where the number drawn for it is next
        # to a border: in float32 within about 1e-6, in bfloat16 (8 bits) now and then.
        probs_BV = torch.softmax(logits_BV.double() / self.sampling.temperature, dim=-1)
        if self.sampling.top_p < 1:
            ordered_BV, order_BV = probs_BV.sort(dim=-1, descending=True, stable=True)
            # Keep a token if what is more likely than it has not reached top_p: the most likely one always stays.
            ordered_BV = ordered_BV * (ordered_BV.cumsum(dim=-1) - ordered_BV < self.sampling.top_p)
            probs_BV = torch.zeros_like(probs_BV).scatter(1, order_BV, ordered_BV)
        # Not `torch.multinomial`, which draws for the whole batch: a row's number must not depend on the other rows.
        uniform = [float(torch.rand(1, generator=self.generators[row], dtype=torch.float64)) for row in self.rows]
        cumulative_BV = probs_BV.cumsum(dim=-1)
        # Times the sum, which is not 1: rounding, and with top_p what is left out.
        threshold_B1 = torch.tensor(uniform, dtype=torch.float64, device=probs_BV.device)[:, None]
        chosen_B1 = torch.searchsorted(cumulative_BV, threshold_B1 * cumulative_BV[:, -1:], right=True)
        # Rounding can put the threshold on the last border, behind which there is no token.
        return list(chosen_B1.clamp(max=probs_BV.shape[1] - 1).squeeze(1).tolist())

    def _record(self, chosen: Sequence[int]) -> None:
        for row, token in zip(self.rows, chosen, strict=True):
            if self.reasons[row] is not None:
                continue
            self.tokens[row].append(token)
            self.num_new[row] += self._reaches_behind_prompt(row, token)
            looks = len(self.tokens[row]) % _TOKENS_BETWEEN_CHECKS == 0
            if token in self.sampling.end_ids or (looks and self.has_ended(self.requests[row].key, self.tokens[row])):
                self.reasons[row] = "stop"
            elif self._is_full(row):
                self.reasons[row] = "length"

    def _reaches_behind_prompt(self, row: int, token: int) -> bool:
        """Take what a token writes off what is left of the prompt; return whether it writes more than that."""
        rest = self.to_heal[row]
        if not rest:
            return True
        length = len(self.vocabulary.bytes_of(token) or b"")
        self.to_heal[row] = rest[length:]
        return length > len(rest)

    def _is_full(self, row: int) -> bool:
        length, limit = len(self.requests[row].prompt_ids) + len(self.tokens[row]), self.sampling.max_length
        return self.num_new[row] >= self.sampling.max_new_tokens or (limit is not None and length >= limit)

    def _select(self, rows: torch.Tensor) -> None:
        self.cache.batch_select_indices(rows)
        self.mask_BT = self.mask_BT[rows]
