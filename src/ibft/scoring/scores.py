"""Memorization scores as pure functions of one example's tokens. Lower always means more strongly memorized.

The two shares of tokens that are written word for word (`extraction_strength`, `exact_memorization`) are not scores:
higher means more, as in their source.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "Match",
    "against_base",
    "exact_memorization",
    "example_scores",
    "extraction_strength",
    "ez_mia",
    "greedy_match",
    "min_k",
    "min_k_prob",
]

_LEAST_WRONG = 2
"""With fewer tokens in its error zone an example has no EZ-MIA, as in the release."""


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


def against_base(
    log_probs: NDArray[np.float64], base_log_probs: NDArray[np.float64], is_top1: NDArray[np.bool_]
) -> dict[str, float]:
    """Return the scores that compare a trained model with its base, in the order of `score_names.AGAINST_BASE`.

    `base_ratio`: the summed NLL over the base's, which makes up for what is easy anyway (the reference attack of
    Carlini et al., arXiv 2012.07805, section 5.2, with the base for the reference as in Mireshghallah et al.,
    arXiv 2203.03929). `ez_mia`: see there. A score that is not finite is left out.

    Args:
        log_probs: log-probabilities of the T tokens under the trained model, nats.
        base_log_probs: those under the base, (T,).
        is_top1: true for each token that no other was likelier than, under the trained model, (T,).
    """
    base_nll = float(-base_log_probs.sum())
    ratio = float(-log_probs.sum()) / base_nll if base_nll > 0 else math.nan
    scores = {"base_ratio": ratio, "ez_mia": ez_mia(log_probs, base_log_probs, is_top1)}
    return {name: value for name, value in scores.items() if math.isfinite(value)}


def ez_mia(log_probs: NDArray[np.float64], base_log_probs: NDArray[np.float64], is_top1: NDArray[np.bool_]) -> float:
    """Return EZ-MIA, which compares a trained model with its base (arXiv 2601.12104). Lower = more memorized.

    Over the tokens that the trained model gets wrong (its likeliest token is another one: the error zone), with the
    shifts d = log_probs - base_log_probs, let P be the sum of the positive ones and N that of the others' absolute
    values. The paper's score is P / N, higher for what was trained on. This is N / (P + N) = 1 / (1 + P / N): the same
    order with the sign of all scores here, between 0 and 1, also where N is 0.

    The release (github.com/JetBrains-Research/ez-mia, aa0b6b7) differs in three things. It takes the whole text but
    for the first token that is predicted, here it is the scored tokens. It calls an example with N = 0 a non-member,
    as certain as can be; here it is the other way round. It does so, too, with fewer than two wrong tokens; here such
    an example has no score. A token that is as likely as the likeliest one is right.

    Args:
        log_probs: log-probabilities of the T tokens under the trained model, nats.
        base_log_probs: those under the base, (T,).
        is_top1: true for each token that no other was likelier than, under the trained model, (T,).

    Returns:
        NaN with fewer than two wrong tokens, or where none of their probabilities has changed.
    """
    shifts = (log_probs - base_log_probs)[~is_top1]
    total = float(np.abs(shifts).sum())
    if len(shifts) < _LEAST_WRONG or total == 0:
        return math.nan
    return float(-shifts[shifts < 0].sum()) / total


def extraction_strength(is_top1: NDArray[np.bool_]) -> float:
    """Return 1 - k/T, with k tokens the shortest prefix after which greedy decoding writes the rest. Higher = more.

    Carlini et al. 2021 (arXiv 2012.07805) as OpenUnlearning has it (arXiv 2506.12618), but for its last step: there k
    is at most T - 1, so that an example whose last token is wrong has 1/T, and here it has 0.

    Args:
        is_top1: true for each of the response's T tokens that no other was likelier than.

    Returns:
        From 0 to 1; NaN without tokens.
    """
    wrong = np.flatnonzero(~is_top1)
    if not len(is_top1):
        return math.nan
    return 1 - (int(wrong[-1]) + 1) / len(is_top1) if len(wrong) else 1.0


def exact_memorization(is_top1: NDArray[np.bool_]) -> float:
    """Return the share of a response's tokens that are the model's likeliest (arXiv 2506.12618). Higher = more.

    Args:
        is_top1: true for each of the response's T tokens that no other was likelier than.

    Returns:
        From 0 to 1; NaN without tokens.
    """
    return float(is_top1.mean()) if len(is_top1) else math.nan
