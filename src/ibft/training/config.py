"""IBConfig: TRL's SFTConfig with the bottleneck's settings."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from trl import SFTConfig

from ibft.errors import UserError

__all__ = ["IBConfig"]

FORMS = ("paper",)


@dataclass
class IBConfig(SFTConfig):  # type: ignore[misc]
    """Arguments of `IBTrainer`: everything `trl.SFTConfig` takes, and the bottleneck's settings.

    Defaults of alpha, beta and layer: arXiv 2510.16022, appendix A. Of the others: the reference code
    (OPTML-Group/MemorizationBarrier at 160d19d), whose alpha is 0.2.

    Args:
        alpha: weight of the bottleneck's loss; 0 trains exactly as `SFTTrainer` and still logs the gauges.
        beta: weight of the cross-entropy through the bottleneck, inside the bottleneck's loss.
        layer: index of `hidden_states`, from 1 to `num_hidden_layers` - 1 (0 would be the embeddings).
        bottleneck_dim: dimensions of the code z.
        logvar_min: lower clamp of the code's log-variance.
        logvar_max: upper clamp of the code's log-variance.
        form: how the terms are reduced; `paper` is the reference code's loss (see `ibft.objectives.ib`).

    Raises:
        UserError: a value is out of range.
    """

    alpha: float = field(default=0.1, metadata={"help": "Weight of the bottleneck's loss; 0 is plain SFT."})
    beta: float = field(default=0.01, metadata={"help": "Weight of the cross-entropy through the bottleneck."})
    layer: int = field(default=20, metadata={"help": "Index of hidden_states: 1 to num_hidden_layers - 1."})
    bottleneck_dim: int = field(default=256, metadata={"help": "Dimensions of the bottleneck's code."})
    logvar_min: float = field(default=-4.0, metadata={"help": "Lower clamp of the code's log-variance."})
    logvar_max: float = field(default=4.0, metadata={"help": "Upper clamp of the code's log-variance."})
    form: str = field(default="paper", metadata={"help": "How the terms are reduced.", "choices": list(FORMS)})

    def __post_init__(self) -> None:
        """Check the bottleneck's settings, then do what TRL does."""
        for name, value in (("alpha", self.alpha), ("beta", self.beta)):
            if not (math.isfinite(value) and value >= 0):
                raise UserError(
                    f"{name} is {value}: a weight is a finite number from 0 up. The paper has 0.1 and 0.01."
                )
        for name, count in (("layer", self.layer), ("bottleneck_dim", self.bottleneck_dim)):
            if count < 1:
                raise UserError(f"{name} is {count}: it must be at least 1. The paper has layer 20, 256 dimensions.")
        if not self.logvar_min < self.logvar_max:
            raise UserError(
                f"logvar_min is {self.logvar_min} and logvar_max {self.logvar_max}: the lower clamp must be below "
                "the upper one. The reference code has -4 and 4."
            )
        if self.form not in FORMS:
            raise UserError(f"form is {self.form!r}: known forms are {', '.join(FORMS)}.")
        if self.label_smoothing_factor > 0:
            raise UserError(
                f"label_smoothing_factor is {self.label_smoothing_factor}: TRL then computes the loss in a forward of "
                "its own, which the bottleneck does not see. Set it to 0."
            )
        super().__post_init__()
