"""One layer's bottleneck terms: from its hidden state to the KL, the side cross-entropy and the gauges.

Shapes: B sequences, T positions, H hidden size, D bottleneck dimensions, N labelled positions, M <= N of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Head", "Posterior", "TappedLayer", "Terms", "hidden_std", "variational_terms"]

ACTIVE_NATS = 0.01
"""A dimension counts as active if its mean KL is above this (as in Burda et al., arXiv 1509.00519, of its mean)."""


class Posterior(NamedTuple):
    """q(z|h) = N(mean, diag(exp(logvar))), one Gaussian per position; both (..., D), float32."""

    mean: Tensor
    logvar: Tensor


class Head(Protocol):
    """The variational head of a layer: `ibft.training.head.VariationalHead`."""

    def encode(self, hidden: Tensor) -> Posterior:
        """Return the posterior of each position; hidden (..., H) of any float dtype."""

    def decode(self, posterior: Posterior, noise: Tensor) -> Tensor:
        """Return h_bar, (..., H) float32; noise is standard normal, (..., D)."""


class TappedLayer(Protocol):
    """What a form sees of one layer in one forward: `ibft.training.bottleneck.TappedLayer`."""

    @property
    def hidden_BTH(self) -> Tensor:
        """The layer's hidden state h: the raw residual stream."""

    @property
    def hidden_NH(self) -> Tensor:
        """h of the positions that predict a labelled token."""

    @property
    def weights_N(self) -> Tensor | None:
        """Weight of each token's KL; None is 1."""

    @property
    def head(self) -> Head:
        """The layer's variational head; forms without one must not ask."""

    def labelled(self, values_BTX: Tensor) -> Tensor:
        """Return the rows (N, X) of the positions that predict a labelled token."""

    def noise(self, kl_ND: Tensor) -> Tensor:
        """Return the code's noise, (N, D): that which the forward has used, or new."""

    def draw(self, count: int) -> Tensor:
        """Draw indices of `count` of the N positions."""

    def predict(self, decoded_MH: Tensor, chosen: slice | Tensor) -> tuple[Tensor, Tensor]:
        """Score decoded states of the chosen positions through the final norm, where the form has it, and lm_head.

        Returns:
            the cross-entropy of each token in nats, and whether no token is likelier than the target; both (M,).
        """


class Terms(NamedTuple):
    """What one forward adds to the loss, and its gauges; float32 scalars, the gauges without gradient.

    penalty: what alpha multiplies. `paper`: the KL, a mean over positions and dimensions. Its other forms: the KL
        summed over the N labelled tokens. `entropy`: the entropy in nats.
    ce_sum: cross-entropy through the bottleneck summed over N tokens (estimated from M of them); 0 for `entropy`.
    kl_per_token: mean over the N tokens of the KL summed over dimensions, in nats, unweighted.
    active_units: dimensions whose mean KL over the N tokens is above 0.01 nats.
    accuracy: share of the M tokens that the decoded code predicts best.
    hidden_std: standard deviation of h over all its entries.
    """

    penalty: Tensor
    ce_sum: Tensor
    kl_per_token: Tensor
    active_units: Tensor
    accuracy: Tensor
    hidden_std: Tensor


def variational_terms(
    layer: TappedLayer, posterior: Posterior, kl_ND: Tensor, penalty: Tensor, predict_tokens: float
) -> Terms:
    """Compute the terms of a form with a head.

    Args:
        layer: the layer; draws the code's noise, and which tokens are predicted.
        posterior: of the labelled positions, (N, D).
        kl_ND: its KL.
        penalty: what alpha multiplies: the KL as the form reduces it.
        predict_tokens: share of the tokens that the cross-entropy is estimated from.
    """
    noise_ND, num_tokens = layer.noise(kl_ND), len(kl_ND)
    chosen: slice | Tensor = slice(None)
    weight = 1.0  # keeps the sum over the chosen tokens unbiased
    if predict_tokens < 1 and num_tokens > 0:
        count = max(1, round(predict_tokens * num_tokens))
        chosen, weight = layer.draw(count), num_tokens / count
    part = Posterior(posterior.mean[chosen], posterior.logvar[chosen])
    ce_M, is_top1_M = layer.predict(layer.head.decode(part, noise_ND[chosen]), chosen)
    kl_D = kl_ND.detach().sum(dim=0) / max(1, num_tokens)
    return Terms(
        penalty=penalty,
        ce_sum=ce_M.sum() * weight,
        kl_per_token=kl_D.sum(),
        active_units=(kl_D > ACTIVE_NATS).sum().float(),
        accuracy=is_top1_M.float().sum() / max(1, len(is_top1_M)),
        hidden_std=hidden_std(layer.hidden_BTH),
    )


def hidden_std(hidden_BTH: Tensor) -> Tensor:
    """Return the standard deviation of h over all its entries, without gradient."""
    return hidden_BTH.detach().float().std(correction=0)
