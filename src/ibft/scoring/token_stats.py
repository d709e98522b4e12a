"""One forward pass over a batch: for each scored token, the numbers that every likelihood score is made of.

Shapes: B examples, T positions of the longest, H hidden size, V vocabulary, N scored tokens of the whole batch, n
positions of one chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ibft import progress
from ibft.models.projection import Projection, capped

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from transformers import PreTrainedModel

    from ibft.scoring.encoder import ScanExample

__all__ = ["PendingStats", "TokenStats", "batches_by_tokens", "begin_batch"]

CHUNK = 512
"""Positions projected onto the vocabulary at a time: 512 x 50,000 float32 logits are 100 MiB."""

CACHED = 32
"""How many of them a CPU reduces at a time, so that they stay in its caches."""

MIN_STD = 1e-4
"""The least standard deviation: where the model is certain, float32 cannot resolve a smaller one."""


class TokenStats(NamedTuple):
    """One value per scored token, each (N,).

    `log_prob` of the token, in nats; `mean` and `std` of the log-probability over the vocabulary under the model's own
    distribution (Min-K%++, arXiv 2404.02936); `is_top1` (bool): no token is likelier.
    """

    log_prob: NDArray[np.float64]
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    is_top1: NDArray[np.bool_]

    @property
    def z(self) -> NDArray[np.float64]:
        """(log_prob - mean) / std, of which Min-K%++ averages the lowest; (N,)."""
        z: NDArray[np.float64] = (self.log_prob - self.mean) / np.maximum(self.std, MIN_STD)
        return z


class PendingStats(NamedTuple):
    """Statistics of a batch that a GPU may still compute.

    `values` are the four of `TokenStats`, each (N,) over the whole batch; `ends` (B - 1,) are where the next example's
    values begin.
    """

    values: list[Tensor]
    ends: NDArray[np.int64]

    def collect(self) -> list[TokenStats]:
        """Wait for the device, and return the values of each of the B examples."""
        log_prob, mean, std, is_top1 = (np.split(values.cpu().numpy(), self.ends) for values in self.values)
        return [
            TokenStats(a.astype(np.float64), b.astype(np.float64), c.astype(np.float64), d)
            for a, b, c, d in zip(log_prob, mean, std, is_top1, strict=True)
        ]


def batches_by_tokens(examples: Sequence[ScanExample], batch_tokens: int) -> Iterator[list[ScanExample]]:
    """Split examples into batches of at most `batch_tokens` tokens, padding included; at least one example each.

    Sorted by length, longest first.
    """
    batch: list[ScanExample] = []
    # Neighbors of similar length need little padding; the longest first, so that what does not fit fails at the start.
    for example in sorted(examples, key=lambda example: -len(example.input_ids)):
        if batch and len(batch[0].input_ids) * (len(batch) + 1) > batch_tokens:
            yield batch
            batch = []
        batch.append(example)
    if batch:
        yield batch


def begin_batch(model: PreTrainedModel, batch: Sequence[ScanExample], pad_token_id: int) -> PendingStats:
    """Begin a batch's forward pass, in the model's dtype, and reduce its logits in float32 or wider.

    Only positions that predict a scored token reach `lm_head`, and one chunk of their logits is alive at a time.

    Args:
        model: a causal language model.
        batch: at least one example.
        pad_token_id: any token.

    Returns:
        The statistics of each example's scored tokens, which a GPU may still compute.
    """
    lengths = np.array([len(example.input_ids) for example in batch])
    starts = np.array([example.start for example in batch])
    columns = np.arange(lengths.max())
    attended_BT = columns < lengths[:, None]
    # On the right, where no token of a causal model attends to it: so no mask is needed, and an example's values do not
    # depend on its neighbors.
    ids_BT = np.full(attended_BT.shape, pad_token_id)
    ids_BT[attended_BT] = np.concatenate([example.input_ids for example in batch])
    # Found here and not on the device: this process would have to wait for it.
    places_N = np.flatnonzero(attended_BT & (columns >= starts[:, None]))
    targets_N = ids_BT.reshape(-1)[places_N]

    def placed(array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).to(model.device)

    reduced = _reduced_on_gpu if model.device.type == "cuda" else _reduced
    rows = CACHED if model.device.type == "cpu" else CHUNK
    with torch.inference_mode():
        output = model.base_model(input_ids=placed(ids_BT), use_cache=False)
        # Token t is predicted at position t - 1.
        hidden_NH = output.last_hidden_state.flatten(0, 1)[placed(places_N - 1)]
        projection = Projection.of(model)
        chunks = [
            reduced(raw_nV, targets_n, projection.scale, projection.softcap)
            for hidden_nH, of_chunk_n in zip(
                torch.split(hidden_NH, CHUNK), torch.split(placed(targets_N), CHUNK), strict=True
            )
            for raw_nV, targets_n in zip(
                torch.split(projection.raw(hidden_nH), rows), torch.split(of_chunk_n, rows), strict=True
            )
        ]
        values = [torch.cat(parts) for parts in zip(*chunks, strict=True)]
    return PendingStats(values, np.cumsum(lengths - starts)[:-1])


def _reduced(raw_nV: Tensor, targets_n: Tensor, scale: float, softcap: float | None) -> tuple[Tensor, ...]:
    """Return the four values of one chunk, each (n,), from what lm_head gives, which may be overwritten.

    With s = logits - max, log p = s - log total: the moments of s give those of log p.
    """
    logits_nV = capped(raw_nV, scale, softcap)
    # The largest s is 0, so where the model is certain nothing large cancels out.
    max_n1 = logits_nV.amax(dim=-1, keepdim=True)
    # In place, a CPU takes four fifths of the time; a compiled kernel would write what it need not.
    s_nV = logits_nV - max_n1 if torch.compiler.is_compiling() else logits_nV.sub_(max_n1)
    target_n = s_nV.gather(1, targets_n[:, None])[:, 0]
    # By softmax: on a CPU, `exp` alone takes longer.
    weights_nV = s_nV.softmax(dim=-1)
    log_total_n = -weights_nV.amax(dim=-1).log()  # where s is 0
    # Sums, not dot products: BLAS is off by 1e-5 for 50,000 float32 terms, and the variance is a difference.
    first_n = weights_nV.mul_(s_nV).sum(dim=-1)
    second_n = weights_nV.mul_(s_nV).sum(dim=-1)
    std_n = (second_n - first_n.square()).clamp_(min=0).sqrt()
    return target_n - log_total_n, first_n - log_total_n, std_n, target_n == 0


def _reduced_on_gpu(raw_nV: Tensor, targets_n: Tensor, scale: float, softcap: float | None) -> tuple[Tensor, ...]:
    """Return the same from one kernel or two, where torch.compile can make them: it needs Triton and a C compiler."""
    global _fused
    from torch import _dynamo as dynamo

    for tensor in (raw_nV, targets_n):
        dynamo.maybe_mark_dynamic(tensor, 0)  # one kernel for chunks of any size
    # Measured on an H200 with SmolLM2's shape: a tenth of the time, which was over a quarter of a scan in bfloat16.
    _fused = _fused or torch.compile(_reduced)
    try:
        return _fused(raw_nV, targets_n, scale, softcap)
    except torch.OutOfMemoryError:  # a smaller batch helps, not another kernel
        raise
    except Exception as error:  # whatever a compiler raises: the scan works without it
        reason = str(error).strip().partition("\n")[0]
        progress.warn("scan: torch.compile does not work here", f"{reason}. The scan continues without it, slower.")
        _fused = _reduced
        return _fused(raw_nV, targets_n, scale, softcap)


_fused: Callable[..., tuple[Tensor, ...]] | None = None
