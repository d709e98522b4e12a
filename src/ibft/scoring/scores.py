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
    """How much of the true suffix greedy decoding writes after the true prefix (`rows.Score` has the same fields)."""

    num_prefix_tokens: int
    num_suffix_tokens: int
    num_matched_tokens: int
    suffix_log_prob: float


def min_k_prob(log_probs: Sequence[float], k_percent: float = 20) -> float:
    """Return Min-K% Prob: the mean *negative* log-likelihood of the K% least likely tokens. Lower = more memorized.

    The sign is that of arXiv 2510.16022; the original (Shi et al., arXiv 2310.16789) averages the
    log-likelihood itself.

    Args:
        log_probs: natural-log probabilities of the T tokens, each <= 0.
        k_percent: K, in (0, 100].

    Returns:
        Nats per token, >= 0; NaN without tokens.

    Raises:
        ValueError: K is out of range.
    """
    return min_k(np.asarray(log_probs, dtype=np.float64), [k_percent])[0]


def min_k(values: NDArray[np.float64], k_percents: Sequence[float]) -> list[float]:
    """Return minus the mean of the K% lowest values, for each K; see `min_k_prob`. NaN without values.

    For log-probabilities this is Min-K% Prob; for `TokenStats.z` it is Min-K%++ (arXiv 2404.02936), whose sign is
    turned here too.
    """
    if bad := [k for k in k_percents if not 0 < k <= 100]:
        raise ValueError(f"k_percent is {bad[0]}: it must be above 0 and at most 100")
    if not len(values):
        return [math.nan] * len(k_percents)
    sums = np.cumsum(np.sort(values))
    # Rounded down as by Shi et al.; but at least one, so that an example of fewer than 100/K tokens has a score too.
    counts = [max(1, int(len(values) * k / 100)) for k in k_percents]
    return [float(-sums[count - 1] / count) for count in counts]


def example_scores(
    log_probs: NDArray[np.float64],
    z: NDArray[np.float64],
    k_percents: Sequence[float],
    num_zlib_bytes: int,
    reference_nll: float | None = None,
) -> dict[str, float]:
    """Return all likelihood scores of one example, in the order of `ScanConfig.score_names`; none without tokens.

    `mean_nll`: nats per token. `zlib_ratio`: `mean_nll` over the text's size as zlib compresses it (Carlini et al.,
    arXiv 2012.07805, section 5.2); it falls with the length, so compare it between texts of one length.
    `reference_ratio`: the summed NLL over a reference model's of the same text (ibidem). `min_k_prob_K` and
    `min_k_plus_plus_K`: see `min_k`. A score that is not finite is left out.

    Args:
        log_probs: log-probabilities of the scored tokens, (N,), nats.
        z: `TokenStats.z` of the same tokens.
        k_percents: each K.
        num_zlib_bytes: size of the scored text, compressed.
        reference_nll: the reference model's NLL, nats, summed; None without a reference model.
    """
    if not len(log_probs):
        return {}
    total = float(-log_probs.sum())
    scores = {"mean_nll": total / len(log_probs), "zlib_ratio": total / len(log_probs) / num_zlib_bytes}
    if reference_nll is not None:  # of sums, since the models cut the text into other tokens
        scores["reference_ratio"] = total / reference_nll if reference_nll > 0 else math.nan
    for kind, values in (("min_k_prob", log_probs), ("min_k_plus_plus", z)):
        scores |= {f"{kind}_{k:g}": value for k, value in zip(k_percents, min_k(values, k_percents), strict=True)}
    return {name: value for name, value in scores.items() if math.isfinite(value)}


def greedy_match(
    log_probs: NDArray[np.float64], is_top1: NDArray[np.bool_], num_prefix: int, num_suffix: int
) -> Match | None:
    """Measure discoverable extraction (arXiv 2202.07646) from the same forward pass as the scores.

    The suffix's probability p_z gives (n, p)-extraction (arXiv 2410.19482): n samples at temperature 1 contain it at
    least once with probability 1 - (1 - p_z)^n.

    Args:
        log_probs: log-probabilities of the response's T tokens, nats.
        is_top1: true for each token that no other was likelier than.
        num_prefix: how many tokens the model is given.
        num_suffix: how many it should write.

    Returns:
        None for a response of fewer than `num_prefix + num_suffix` tokens.
    """
    end = num_prefix + num_suffix
    if len(log_probs) < end:
        return None
    # Nothing is generated: greedy decoding writes the true token as long as that is the likeliest, and until it errs,
    # its context is the true one.
    wrong = np.flatnonzero(~is_top1[num_prefix:end])
    matched = int(wrong[0]) if len(wrong) else num_suffix
    return Match(num_prefix, num_suffix, matched, float(log_probs[num_prefix:end].sum()))
