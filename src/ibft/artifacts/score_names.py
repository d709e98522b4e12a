"""Memorization scores under the names that people read."""

from __future__ import annotations

__all__ = ["score_axis", "score_label"]

_FREE = "_free"
_LABELS = {"mean_nll": "Mean NLL", "zlib_ratio": "Zlib ratio", "reference_ratio": "Reference ratio"}
_UNITS = {
    "mean_nll": "nats a token",
    "zlib_ratio": "nats a token and compressed byte",
    "reference_ratio": "NLL over the reference model's",
    "min_k_prob": "nats a token",
    "min_k_plus_plus": "standard deviations, sign turned",
}


def score_label(name: str) -> str:
    """`min_k_prob_20_free` becomes `Min-20% Prob, free tokens`; an unknown name stays as it is."""
    base = name.removesuffix(_FREE)
    kind, _, k = base.rpartition("_")
    label = {"min_k_prob": f"Min-{k}% Prob", "min_k_plus_plus": f"Min-{k}%++"}.get(kind, _LABELS.get(base, base))
    return label if base == name else f"{label}, free tokens"


def score_axis(name: str) -> str:
    """The label with its unit, for an axis."""
    base = name.removesuffix(_FREE)
    unit = _UNITS.get(base) or _UNITS.get(base.rpartition("_")[0])
    return f"{score_label(name)} ({unit})" if unit else score_label(name)
