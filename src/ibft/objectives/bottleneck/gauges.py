"""How the bottleneck's gauges are drawn."""

from __future__ import annotations

from ibft.objectives.base import Gauge
from ibft.objectives.bottleneck.alarms import COLLAPSE_RATIO, OVERLOAD_RATIO

__all__ = ["GAUGES"]

GAUGES = (
    Gauge(
        "ib/kl_per_token",
        "KL to the prior (nats per response token)",
        "What the code says about its input, at most. Good: it falls and stays above 0.1, below which the bottleneck "
        "is closed; with form: controlled it follows its set point, the thin line.",
        "wide",
        is_vital=True,
        target="ib/kl_target",
    ),
    Gauge(
        "ib/grad_ratio",
        "Gradient into the LoRA: bottleneck / CE",
        f"Good: between the dashed lines. Above {OVERLOAD_RATIO:g} the bottleneck is nearly the whole update, below "
        f"{COLLAPSE_RATIO:g} it does not act on the model.",
        "log",
        is_vital=True,
        limits=(OVERLOAD_RATIO, COLLAPSE_RATIO),
    ),
    Gauge(
        "ib/active_units",
        "Active units (dimensions)",
        "Dimensions of the code with more than 0.01 nats. Good: tens of them; none means that the head alone has "
        "closed the bottleneck.",
        is_vital=True,
    ),
    Gauge(
        "ib/accuracy",
        "Accuracy of the decoded code (%)",
        "How often the code alone predicts the next token. Good: it rises, so what is kept is what the task needs.",
        "percent",
        is_vital=True,
    ),
    Gauge(
        "ib/alpha",
        "Weight of the bottleneck (alpha)",
        "Constant after the warm-up, or what the controller set. Good: it levels off; a weight that keeps climbing or "
        "falling means that the set point cannot be held.",
        "wide",
    ),
    Gauge(
        "ib/hidden_std",
        "Scale of the hidden state",
        "Standard deviation of h. Good: it stays; a fall means that the penalty shrinks activations rather than "
        "choosing among them.",
        "wide",
    ),
    Gauge(
        "ib/replaced",
        "Share of h that is replaced (%)",
        "Good: back at 0 by the end, since the exported model has no head.",
        "percent",
    ),
    Gauge("ib/entropy", "Entropy of the hidden states (nats)", "Good: it falls without a rise of the cross-entropy."),
    Gauge("ib/kl", "KL as the loss has it (nats)", "Reduced over positions and dimensions as the form does.", "wide"),
    Gauge("ib/ce", "Cross-entropy through the bottleneck", "In nats per token. Good: it falls.", "wide"),
    Gauge("ib/penalty", "Penalty (nats per token)", "What the bottleneck adds to the loss in all.", "wide"),
)
"""Of the headed forms and `entropy`; one that no arm has logged is not drawn."""
