"""What a form of the bottleneck is: how h is compressed, how its terms are weighed, its gauges and its remedies."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ibft.objectives.bottleneck.schedule import Schedule
from ibft.objectives.bottleneck.terms import Head, TappedLayer, Terms

if TYPE_CHECKING:
    from torch import Tensor

    from ibft.objectives.ib import IBObjective

__all__ = ["NO_HEAD", "Form"]

NO_HEAD = "form: entropy, which has no head"
"""The last remedy where a head closes the bottleneck."""


class Form:
    """One form of the bottleneck, as a subclass. Its class variables have its row in the table of docs/training.md.

    name: `form:` in the recipe.
    place: in lists; new ones follow those of this package.
    reads, compresses, differs: what h is, how the KL is reduced, and what is different, for the table.
    uses: the settings of `IBObjective` that this form has and some forms have not.
    default_beta, default_warmup: used where the recipe has null.
    has_head: a variational head is trained beside the model.
    applies_final_norm: the decoded state passes the model's final norm before `lm_head`.
    clips_head_apart: the head's gradient is clipped apart, so that it takes no share of the model's norm.
    is_mean_of_forward: what alpha multiplies is a mean over one forward, averaged over accumulated forwards and
        processes; otherwise a sum over labelled tokens, divided by those of the whole optimizer step, as TRL's loss.
    overload_remedy, closed_remedy, weak_remedy: what to do where the bottleneck is the whole update, where the head
        has closed it, and where its weight is too small.

    Args:
        settings: the objective.
    """

    name: ClassVar[str]
    place: ClassVar[int] = 99
    reads: ClassVar[str]
    compresses: ClassVar[str]
    differs: ClassVar[str]
    uses: ClassVar[frozenset[str]]
    default_beta: ClassVar[float] = 0.01  # the paper's and the reference code's
    default_warmup: ClassVar[float] = 0.1  # as the learning rate's
    has_head: ClassVar[bool] = True
    applies_final_norm: ClassVar[bool] = True
    clips_head_apart: ClassVar[bool] = True
    is_mean_of_forward: ClassVar[bool] = False
    overload_remedy: ClassVar[str]
    closed_remedy: ClassVar[str]
    weak_remedy: ClassVar[str]

    def __init__(self, settings: IBObjective) -> None:
        self.settings = settings

    def terms(self, layer: TappedLayer) -> Terms:
        """Compute one layer's terms of one forward."""
        raise NotImplementedError

    def schedule(self) -> Schedule:
        """Make the weights over a training run, at its start."""
        return Schedule(self.settings)

    def replace(self, hidden_BTH: Tensor, predicts_BT: Tensor, head: Head, noise_ND: Tensor, share: float) -> Tensor:
        """Return what the layers above read in place of h: the same each time, since checkpointing runs it again.

        Args:
            hidden_BTH: the layer's hidden state.
            predicts_BT: True where the position predicts a labelled token.
            head: the variational head.
            noise_ND: the code's noise, one row per such position.
            share: from 0 (h as it is) to 1.
        """
        raise NotImplementedError(f"form: {self.name} replaces no hidden state")

    def loss_gauges(self, kl: Tensor, ce_bottleneck: Tensor) -> dict[str, Tensor]:
        """Return the gauges on the scale of the loss.

        Args:
            kl: what alpha multiplies, in the loss.
            ce_bottleneck: the cross-entropy through the bottleneck, in the loss.
        """
        return {"ib/kl": kl, "ib/ce": ce_bottleneck}

    def gauges(self, terms: Terms) -> dict[str, Tensor]:
        """Return the gauges of one forward."""
        return {
            "ib/hidden_std": terms.hidden_std,
            "ib/kl_per_token": terms.kl_per_token,
            "ib/kl_per_dim": terms.kl_per_token / self.settings.bottleneck_dim,
            "ib/active_units": terms.active_units,
            "ib/accuracy": terms.accuracy,
        }

    def schedule_gauges(self, schedule: Schedule, replaced: float) -> dict[str, float]:
        """Return the gauges of the weights at this step.

        Args:
            schedule: the weights.
            replaced: the share of h that this forward has replaced.
        """
        return {"ib/alpha": schedule.alpha}
