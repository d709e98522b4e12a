"""The names of memorization scores: those of the columns, and those that people read."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["AGAINST_BASE", "EZ_MIA", "score_axis", "score_label", "score_names"]

EZ_MIA = "ez_mia"

AGAINST_BASE = ("base_ratio", EZ_MIA)
"""The scores that compare an arm with its base (`scoring.scores.against_base`): only rescans have them."""

_LABELS = {
    "mean_nll": "Mean NLL",
    "zlib_ratio": "Zlib ratio",
    "reference_ratio": "Reference ratio",
    "base_ratio": "Ratio to the base",
    EZ_MIA: "EZ-MIA",
}
_UNITS = {
    "mean_nll": "nats per token",
    "zlib_ratio": "nats per token and compressed byte",
    "reference_ratio": "NLL over the reference model's",
    "min_k_prob": "nats per token",
    # Lower is more memorized for every score: the sign of the papers' Min-K% and Min-K%++ is the other.
    "min_k_plus_plus": "standard deviations, sign turned",
}


def score_names(k_percent: Sequence[float], *, has_reference: bool = False) -> tuple[str, ...]:
    """Return the columns of a table of scores in the order in which they are shown.

    Args:
        k_percent: the K of Min-K% and Min-K%++, each in (0, 100].
        has_reference: there is a reference model to take the ratio to.
    """
    names = ["mean_nll", "zlib_ratio", *(["reference_ratio"] if has_reference else [])]
    for kind in ("min_k_prob", "min_k_plus_plus"):
        names += [f"{kind}_{k:g}" for k in k_percent]
    return tuple(names)


def score_label(name: str) -> str:
    """Return the name for people: `min_k_prob_20` becomes `Min-20% Prob`; an unknown name stays as it is."""
    kind, _, k = name.rpartition("_")
    return {"min_k_prob": f"Min-{k}% Prob", "min_k_plus_plus": f"Min-{k}%++"}.get(kind, _LABELS.get(name, name))


def score_axis(name: str) -> str:
    """Return the label with its unit, for an axis."""
    unit = _UNITS.get(name) or _UNITS.get(name.rpartition("_")[0])
    return f"{score_label(name)} ({unit})" if unit else score_label(name)
