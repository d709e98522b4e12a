"""One layer's bottleneck terms: from its hidden state to the KL, the side cross-entropy and the gauges.

Shapes: B sequences, T positions, H hidden size, D bottleneck dimensions, N labelled positions, M <= N of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Head", "Posterior", "Scores", "TappedLayer", "Terms", "hidden_std", "penalty", "variational_terms"]

ACTIVE_NATS = 0.01
"""A dimension counts as active if its mean KL is above this (as in Burda et al., arXiv 1509.00519, of its mean)."""


class Posterior(NamedTuple):
    """q(z|h) = N(mean, diag(exp(logvar))), one Gaussian a position; both (..., D), float32."""

    mean: Tensor
    logvar: Tensor


class Head(Protocol):
    """The variational head of a layer: `ibft.training.head.VariationalHead`."""

    def encode(self, hidden: Tensor) -> Posterior:
        """The posterior of each position; hidden (..., H) of any float dtype."""

    def decode(self, posterior: Posterior, noise: Tensor) -> Tensor:
        """h_bar, (..., H) float32; noise is standard normal, (..., D)."""


class Scores(Protocol):
    """How well a decoded state predicts: `ibft.models.projection.TokenLosses`."""

    @property
    def loss(self) -> Tensor:
        """Cross-entropy of each token, nats, (M,)."""

    @property
    def is_top1(self) -> Tensor:
        """Whether no token is likelier than the target, bool, (M,)."""


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
        """The rows (N, X) of the positions that predict a labelled token."""

    def noise(self, kl_ND: Tensor) -> Tensor:
        """The code's noise, (N, D): drawn now, or before, where the forward has used it."""

    def draw(self, count: int) -> Tensor:
        """Indices of `count` of the N positions, at random."""

    def predict(self, decoded_MH: Tensor, chosen: slice | Tensor) -> Scores:
        """Score decoded states of the chosen positions through the final norm, where the form has it, and lm_head."""


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
    """The terms of a form with a head.

    Args:
        layer: the layer; draws the code's noise and the share of the tokens that is predicted.
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
    scores = layer.predict(layer.head.decode(part, noise_ND[chosen]), chosen)
    kl_D = kl_ND.detach().sum(dim=0) / max(1, num_tokens)
    return Terms(
        penalty=penalty,
        ce_sum=scores.loss.sum() * weight,
        kl_per_token=kl_D.sum(),
        active_units=(kl_D > ACTIVE_NATS).sum().float(),
        accuracy=scores.is_top1.float().sum() / max(1, len(scores.is_top1)),
        hidden_std=hidden_std(layer.hidden_BTH),
    )


def hidden_std(hidden_BTH: Tensor) -> Tensor:
    """Standard deviation of h over all its entries, without gradient."""
    return hidden_BTH.detach().float().std(correction=0)


def penalty(kl: Tensor, ce_bottleneck: Tensor, alpha: float, ce_weight: float) -> Tensor:
    """What is added to the cross-entropy: alpha * KL + ce_weight * CE through the bottleneck.

    Compress the hidden state, but keep what predicts the response. In the method's notation,
    alpha * (KL + beta * CE), `ce_weight` is alpha * beta, and stays so where a controller moves the KL's weight: if
    both moved together, their ratio, and with it the code that the head settles on, would not change.

    How the two are reduced is the form's business.

    Args:
        kl: nats.
        ce_bottleneck: nats per labelled token.
        alpha: current weight of the KL.
        ce_weight: weight of `ce_bottleneck`.
    """
    return alpha * kl + ce_weight * ce_bottleneck
