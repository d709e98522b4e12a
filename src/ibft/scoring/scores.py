"""Memorization scores as pure functions of one example's tokens. Lower always means more strongly memorized."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Match", "example_scores", "greedy_match", "min_k", "min_k_prob"]


class Match(NamedTuple):
    """How far greedy decoding from the true prefix gives the true suffix (`rows.Score` has the same fields)."""

    num_prefix_tokens: int
    num_suffix_tokens: int
    num_matched_tokens: int
    suffix_log_prob: float


def min_k_prob(log_probs: Sequence[float], k_percent: float = 20) -> float:
    """Min-K% Prob: the mean *negative* log-likelihood of the K% least likely tokens. Lower = more memorized.

    The sign is that of arXiv 2510.16022; the original (Shi et al., arXiv 2310.16789) averages the
    log-likelihood itself. As there, the number of tokens is rounded down; but at least one is taken, so that
    an example of fewer than 100/K tokens has a score too.

    Args:
        log_probs: natural-log probabilities of the T tokens, each <= 0.
        k_percent: K, in (0, 100].

    Returns:
        Nats a token, >= 0; NaN without tokens.

    Raises:
        ValueError: K is out of range.
    """
    return min_k(np.asarray(log_probs, dtype=np.float64), [k_percent])[0]


def min_k(values: NDArray[np.float64], k_percents: Sequence[float]) -> list[float]:
    """Minus the mean of the K% lowest values, for each K, with one sort; see `min_k_prob`.

    Of log-probabilities it is Min-K% Prob; of `TokenStats.z` it is Min-K%++ (arXiv 2404.02936), whose sign, too, is
    turned here. NaN without values.
    """
    if bad := [k for k in k_percents if not 0 < k <= 100]:
        raise ValueError(f"k_percent is {bad[0]}: it must be above 0 and at most 100")
    if not len(values):
        return [math.nan] * len(k_percents)
    sums = np.cumsum(np.sort(values))
    counts = [max(1, int(len(values) * k / 100)) for k in k_percents]
    return [float(-sums[count - 1] / count) for count in counts]


def example_scores(
    log_probs: NDArray[np.float64],
    z: NDArray[np.float64],
    k_percents: Sequence[float],
    num_zlib_bytes: int,
    reference_nll: float | None = None,
) -> dict[str, float]:
    """All likelihood scores of one example, in the order of `ScanConfig.score_names`; of no tokens, none.

    `mean_nll`: nats a token. `zlib_ratio`: that over the text's size as zlib compresses it (Carlini et al., arXiv
    2012.07805, section 5.2); it falls with the length, so compare it between texts of one length. `reference_ratio`:
    the summed NLL over a reference model's of the same text (ibidem; sums, since models cut it into other tokens).
    `min_k_prob_K`, `min_k_plus_plus_K`: `min_k`.

    Args:
        log_probs: of the scored tokens, (N,), nats.
        z: of the same, `TokenStats.z`.
        k_percents: the K.
        num_zlib_bytes: of the scored text, compressed.
        reference_nll: of the reference model, in nats, summed; None without one.
    """
    if not len(log_probs):
        return {}
    total = float(-log_probs.sum())
    scores = {"mean_nll": total / len(log_probs), "zlib_ratio": total / len(log_probs) / num_zlib_bytes}
    if reference_nll is not None:
        scores["reference_ratio"] = total / reference_nll if reference_nll > 0 else math.nan
    for kind, values in (("min_k_prob", log_probs), ("min_k_plus_plus", z)):
        scores |= {f"{kind}_{k:g}": value for k, value in zip(k_percents, min_k(values, k_percents), strict=True)}
    return {name: value for name, value in scores.items() if math.isfinite(value)}


def greedy_match(
    log_probs: NDArray[np.float64], is_top1: NDArray[np.bool_], num_prefix: int, num_suffix: int
) -> Match | None:
    """Discoverable extraction (arXiv 2202.07646) without generating: from the same forward pass as the scores.

    Greedy decoding writes the true token as long as that is the likeliest, and until it errs its context is the true
    one: so the matched length is the run of top-1 tokens behind the prefix. The suffix's probability p_z gives (n, p)
    extraction (arXiv 2410.19482): n samples at temperature 1 hold it at least once with probability 1 - (1 - p_z)^n.

    Args:
        log_probs: of the response's T tokens, nats.
        is_top1: whether no other token was likelier.
        num_prefix: tokens that the model is given.
        num_suffix: tokens that it should write.

    Returns:
        None for a response of fewer than `num_prefix + num_suffix` tokens.
    """
    end = num_prefix + num_suffix
    if len(log_probs) < end:
        return None
    wrong = np.flatnonzero(~is_top1[num_prefix:end])
    matched = int(wrong[0]) if len(wrong) else num_suffix
    return Match(num_prefix, num_suffix, matched, float(log_probs[num_prefix:end].sum()))
