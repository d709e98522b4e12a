"""`in_path`: as `corrected`, and the decoded code replaces a share of h inside the forward."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibft.objectives.bottleneck.form import NO_HEAD
from ibft.objectives.bottleneck.forms.corrected import Corrected
from ibft.objectives.bottleneck.losses import rms_normalize
from ibft.objectives.bottleneck.schedule import Schedule, ramp
from ibft.objectives.bottleneck.terms import Head

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["InPath", "replaced_share"]


def replaced_share(step: int, num_steps: int, largest: float, warmup: float) -> float:
    """Return the share of h that is replaced at a step: up over the warm-up, down to 0 over the second half."""
    # Down to 0, since the exported model has no bottleneck: training must end without one.
    return largest * ramp(step, num_steps, warmup) * min(1.0, 2 * (1 - (step + 1) / num_steps))


class InPathSchedule(Schedule):
    """With the replaced share."""

    @property
    def replaced(self) -> float:  # type: ignore[override]
        """The share of h that the next training forward replaces; 0 outside of training."""
        if self.num_steps == 0:
            return 0.0
        return replaced_share(self.step, self.num_steps, self.settings.replaced, self.settings.warmup_share)


class InPath(Corrected):
    """As `corrected`; the code replaces a share of h, which falls back to 0, so that the export needs no head.

    Deviation from VIBERT (arXiv 2106.05469), which replaces all of h, in a model that it does not export.
    """

    name = "in_path"
    place = 3
    reads = "as `corrected`"
    compresses = "as `corrected`"
    differs = (
        "the layers above read (1 - s) h + s rms(h) h_bar at response positions; s rises to `replaced`, and falls to 0 "
        "over the second half, so what is exported needs no head"
    )
    uses = Corrected.uses | {"replaced"}
    overload_remedy = "a smaller alpha"
    closed_remedy = f"free_bits, form: controlled with a kl_target, or {NO_HEAD}"
    weak_remedy = f"a larger alpha, or {NO_HEAD}"

    def schedule(self) -> Schedule:
        """Make the weights with the replaced share."""
        return InPathSchedule(self.settings)

    def replace(self, hidden_BTH: Tensor, predicts_BT: Tensor, head: Head, noise_ND: Tensor, share: float) -> Tensor:
        """Return (1 - share) * h + share * rms(h) * h_bar where a labelled token is predicted, h elsewhere."""
        hidden_NH = hidden_BTH[predicts_BT]
        decoded_NH = head.decode(head.encode(rms_normalize(hidden_NH)), noise_ND)
        # The scale passes around the bottleneck, as a constant: layers after it normalize their input.
        scale_N1 = hidden_NH.detach().float().square().mean(dim=-1, keepdim=True).sqrt()
        mixed_NH = hidden_NH.float().lerp(scale_N1 * decoded_NH, share)
        return hidden_BTH.masked_scatter(predicts_BT[..., None], mixed_NH.to(hidden_BTH.dtype))

    def schedule_gauges(self, schedule: Schedule, replaced: float) -> dict[str, float]:
        """Add `ib/replaced`, which is 0 in evaluation."""
        return super().schedule_gauges(schedule, replaced) | {"ib/replaced": replaced}
