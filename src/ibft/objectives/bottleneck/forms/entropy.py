"""`entropy`: penalizes how much a set of hidden states varies, without a trained head that could hide it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibft.objectives.bottleneck.form import Form
from ibft.objectives.bottleneck.terms import TappedLayer, Terms, hidden_std

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Entropy", "matrix_entropy"]


class Entropy(Form):
    """CE + alpha * the matrix-based entropy of at most `entropy_tokens` response positions; no second cross-entropy."""

    name = "entropy"
    place = 4
    reads = "as `corrected`, less its mean, length 1"
    compresses = "none: alpha × matrix-based Rényi entropy of at most `entropy_tokens` states"
    differs = "no head, so no head can take the penalty on itself"
    uses = frozenset({"entropy_tokens"})
    has_head = False
    applies_final_norm = False
    is_mean_of_forward = True
    overload_remedy = "a smaller alpha"
    closed_remedy = weak_remedy = "a larger alpha"

    def terms(self, layer: TappedLayer) -> Terms:
        """Compute the entropy; every other term is 0."""
        hidden_NH = layer.hidden_NH
        if len(hidden_NH) > self.settings.entropy_tokens:
            hidden_NH = hidden_NH[layer.draw(self.settings.entropy_tokens)]
        entropy = matrix_entropy(hidden_NH)
        zero = entropy.detach().new_zeros(())
        return Terms(entropy, zero, zero, zero, zero, hidden_std(layer.hidden_BTH))

    def loss_gauges(self, kl: Tensor, ce_bottleneck: Tensor) -> dict[str, Tensor]:
        """Return the entropy, in nats."""
        return {"ib/entropy": kl}

    def gauges(self, terms: Terms) -> dict[str, Tensor]:
        """Return the spread of h alone: the rest needs a head."""
        return {"ib/hidden_std": terms.hidden_std}


def matrix_entropy(hidden_NH: Tensor) -> Tensor:
    """Return the Rényi entropy of order 2 of the spread of N hidden states, in nats, from 0 to log(min(N - 1, H)).

    S_2 = -log sum_ij A_ij² with A = U U^T / N, the trace-normalized Gram matrix (Giraldo, Rao, Principe, IEEE
    Trans. Inf. Theory 61, 2015; arXiv 1211.2459) of the linear kernel; exp(S_2) is the effective number of
    directions. For a deterministic layer, S(H) estimates I(X; H): H has no entropy left once X is known.

    The rows of U are the states minus their mean, scaled to length 1.

    Args:
        hidden_NH: (N, H), any float dtype; computed in float32.

    Returns:
        a float32 scalar; 0 for N < 2, still connected to `hidden_NH`.
    """
    hidden_NH = hidden_NH.float()
    if len(hidden_NH) < 2:
        return hidden_NH.sum() * 0
    # All states of a transformer share a direction, which would hide the rest. The mean is a constant for the gradient.
    centered_NH = hidden_NH - hidden_NH.detach().mean(dim=0)
    # Unscaled, shrinking h would count as compression.
    unit_NH = centered_NH / centered_NH.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    # sum_ij A_ij² is the squared norm of the smaller of U U^T and U^T U.
    gram = unit_NH @ unit_NH.T if len(unit_NH) <= unit_NH.size(1) else unit_NH.T @ unit_NH
    purity: Tensor = gram.square().sum() / len(unit_NH) ** 2
    return -purity.log()
