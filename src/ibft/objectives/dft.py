"""Dynamic fine-tuning: the cross-entropy times the target's own probability."""

from __future__ import annotations

from torch import Tensor

__all__ = ["dft"]


def dft(ce_n: Tensor) -> Tensor:
    """sg(p(y)) * -log p(y), where sg stops the gradient: its gradient is that of -p(y) (arXiv 2508.05629).

    The arm `dft` itself is TRL's `loss_type="dft"`, the same formula; this is the first term of ASFT.

    Args:
        ce_n: cross-entropy of each token in nats, (n,).
    """
    return (-ce_n).exp().detach() * ce_n
