"""One layer's bottleneck terms: from its hidden state and the labels to the KL, the side cross-entropy, the gauges.

Shapes: B sequences, T positions, H hidden size, D bottleneck dimensions, N labelled positions, M <= N of them.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ibft.bottleneck.entropy import matrix_entropy
from ibft.bottleneck.losses import kl_to_standard_normal, rms_normalize, with_free_bits
from ibft.bottleneck.module import Posterior, VariationalHead
from ibft.models.projection import Projection, labelled_positions, token_losses
from ibft.run.objectives import IBObjective

__all__ = ["Terms", "average_terms", "entropy_terms", "replacement", "variational_terms"]

ACTIVE_NATS = 0.01
"""A dimension counts as active if its mean KL is above this (as in Burda et al., arXiv 1509.00519, of its mean)."""


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
    hidden_BTH: Tensor,
    labels_BT: Tensor,
    head: VariationalHead,
    projection: Projection,
    final_norm: nn.Module,
    settings: IBObjective,
    generator: torch.Generator,
    noise_ND: Tensor | None = None,
    weights_BT: Tensor | None = None,
) -> Terms:
    """The terms of a variational form (every form but `entropy`).

    Args:
        hidden_BTH: the layer's hidden state h.
        labels_BT: token ids, not shifted; -100 outside the loss.
        head: the variational head.
        projection: the model's vocabulary projection.
        final_norm: the model's norm before it; `paper` leaves it out, as the reference code does.
        settings: the objective.
        generator: draws the code's noise and the predicted share of tokens, on h's device.
        noise_ND: noise that was drawn already (`in_path`, whose forward used it).
        weights_BT: weight of each token's KL, at the token's own place; None is 1.
    """
    hidden_NH, targets_N = labelled_positions(hidden_BTH, labels_BT)
    if settings.form == "paper":
        posterior_BTD = head.encode(hidden_BTH)
        penalty = kl_to_standard_normal(*posterior_BTD).mean()
        # Only labelled positions are decoded: the others' noise and reconstruction would reach no loss.
        mean_ND, logvar_ND = (labelled_positions(part, labels_BT)[0] for part in posterior_BTD)
        posterior = Posterior(mean_ND, logvar_ND)
        kl_ND = kl_to_standard_normal(*posterior)
    else:
        posterior = head.encode(rms_normalize(hidden_NH))
        kl_ND = kl_to_standard_normal(*posterior)
        penalty = _penalty(kl_ND, settings, _of_labelled(weights_BT, labels_BT))
    if noise_ND is None:
        noise_ND = torch.randn(kl_ND.shape, generator=generator, device=kl_ND.device)
    chosen, weight = _chosen(len(targets_N), settings.predict_tokens, generator)
    decoded_MH = head.decode(Posterior(posterior.mean[chosen], posterior.logvar[chosen]), noise_ND[chosen])
    if settings.form != "paper":
        decoded_MH = final_norm(decoded_MH.to(_dtype_of(final_norm, decoded_MH)))
    losses = token_losses(decoded_MH, targets_N[chosen], projection)
    kl_D = kl_ND.detach().sum(dim=0) / max(1, len(kl_ND))
    return Terms(
        penalty=penalty,
        ce_sum=losses.loss.sum() * weight,
        kl_per_token=kl_D.sum(),
        active_units=(kl_D > ACTIVE_NATS).sum().float(),
        accuracy=losses.is_top1.float().sum() / max(1, len(losses.is_top1)),
        hidden_std=_std(hidden_BTH),
    )


def entropy_terms(hidden_BTH: Tensor, labels_BT: Tensor, settings: IBObjective, generator: torch.Generator) -> Terms:
    """The terms of `entropy`: the matrix-based entropy of at most `entropy_tokens` labelled positions."""
    hidden_NH, _ = labelled_positions(hidden_BTH, labels_BT)
    if len(hidden_NH) > settings.entropy_tokens:
        order = torch.randperm(len(hidden_NH), generator=generator, device=hidden_NH.device)
        hidden_NH = hidden_NH[order[: settings.entropy_tokens]]
    zero = torch.zeros((), device=hidden_NH.device)
    return Terms(matrix_entropy(hidden_NH), zero, zero, zero, zero, _std(hidden_BTH))


def replacement(
    hidden_BTH: Tensor, predicts_BT: Tensor, head: VariationalHead, noise_ND: Tensor, share: float
) -> Tensor:
    """`in_path`: h with a share of it replaced by the decoded code where a labelled token is predicted.

    h' = (1 - share) * h + share * rms(h) * h_bar at these positions, h elsewhere. The scale rms(h) passes around
    the bottleneck, as a constant: layers after it normalize their input.

    Args:
        hidden_BTH: the layer's hidden state.
        predicts_BT: whether the position predicts a labelled token.
        head: the variational head.
        noise_ND: the code's noise, one row for each such position.
        share: from 0 (h as it is) to 1.
    """
    hidden_NH = hidden_BTH[predicts_BT]
    decoded_NH = head.decode(head.encode(rms_normalize(hidden_NH)), noise_ND)
    scale_N1 = hidden_NH.detach().float().square().mean(dim=-1, keepdim=True).sqrt()
    mixed_NH = torch.lerp(hidden_NH.float(), scale_N1 * decoded_NH, share)
    return hidden_BTH.masked_scatter(predicts_BT[..., None], mixed_NH.to(hidden_BTH.dtype))


def average_terms(terms: list[Terms]) -> Terms:
    """The mean over several layers, each term for itself."""
    return Terms(*(torch.stack(values).mean(dim=0) for values in zip(*terms, strict=True)))


def _penalty(kl_ND: Tensor, settings: IBObjective, weights_N: Tensor | None) -> Tensor:
    """The KL summed over tokens, and summed or averaged over dimensions as `kl_reduction` says."""
    if weights_N is not None:
        kl_ND = kl_ND * weights_N[:, None]
    total = with_free_bits(kl_ND, settings.free_bits)
    return total / kl_ND.size(1) if settings.kl_reduction == "mean" else total


def _of_labelled(values_BT: Tensor | None, labels_BT: Tensor) -> Tensor | None:
    """The values of the labelled tokens, in the order of `labelled_positions`."""
    if values_BT is None:
        return None
    return values_BT[:, 1:][labels_BT[:, 1:] != -100]


def _chosen(num_tokens: int, share: float, generator: torch.Generator) -> tuple[slice | Tensor, float]:
    """A random share of the tokens, and the weight that keeps the sum over them unbiased."""
    if share == 1 or num_tokens == 0:
        return slice(None), 1.0
    count = max(1, round(share * num_tokens))
    order = torch.randperm(num_tokens, generator=generator, device=generator.device)
    return order[:count], num_tokens / count


def _dtype_of(module: nn.Module, default: Tensor) -> torch.dtype:
    return next((parameter.dtype for parameter in module.parameters()), default.dtype)


def _std(hidden: Tensor) -> Tensor:
    return hidden.detach().float().std(correction=0)
