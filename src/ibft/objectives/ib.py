"""The information bottleneck on a hidden layer (arXiv 2510.16022, section 5): the settings of all its forms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from msgspec import Meta

from ibft.artifacts.rows import TrainingLog
from ibft.artifacts.training import Alarm
from ibft.errors import UserError
from ibft.objectives.base import LayerChoice, Objective
from ibft.objectives.bottleneck.alarms import find_alarms
from ibft.objectives.bottleneck.form import Form
from ibft.objectives.bottleneck.forms import FORMS, forms_with
from ibft.objectives.bottleneck.gauges import GAUGES
from ibft.settings import Count, Fraction, NonNegative, Positive, Share

__all__ = ["IBObjective"]

if TYPE_CHECKING:
    FormName = str
else:
    FormName = Literal[tuple(FORMS)]


class IBObjective(Objective, frozen=True, tag_field="name", tag="ib"):
    """Cross-entropy plus an information bottleneck on a hidden layer (arXiv 2510.16022, section 5).

    form: how h is compressed; one file each in `bottleneck/forms`, whose docstrings have their sources.
    alpha: the KL's weight; for `controlled`, its first weight.
    beta: the weight of the CE through the bottleneck, over alpha; null is 0.01, and 1 for `controlled`: alpha * beta
        is then the weight of the whole bottleneck.
    layer: an index of `hidden_states`, from 1 to num_hidden_layers - 1, a fraction of the depth (0.66), or a list
        of these, over which the bottleneck's terms are averaged.
    bottleneck_dim: dimensions of the code.
    logvar_min, logvar_max: clamps of the code's log-variance.
    kl_reduction: over the code's dimensions. `sum` is the KL as the method defines it and as VIBERT has it:
        bottleneck_dim times as strong at the same alpha.
    free_bits: nats per dimension that cost nothing (Kingma et al., arXiv 1606.04934).
    warmup: share of all steps over which alpha or the replaced share rises from 0, or the set point moves from the
        first step's KL to `kl_target`; null is 0 for `paper`, 0.25 for `controlled` and 0.1 for the others.
    predict_tokens: random share of the response tokens that the CE through the bottleneck is estimated from.
    kl_target: the set point of `controlled`, in nats per response token.
    kl_gain_p, kl_gain_i: the controller's gains on log(KL / kl_target) (PI control after ControlVAE, arXiv
        2004.05988, in its velocity form, on log alpha).
    replaced: largest share of h that `in_path` replaces.
    entropy_tokens: response positions, drawn at random, that the matrix of `entropy` is built from.
    adaptive: weigh each example's KL by its memorization score from the scan: from 0 for the least predictable to 2
        for the most, 1 on average (the paper's future work).
    """

    formula = "-log p(y), and a penalty on the hidden state: [above](#the-bottleneck-and-its-five-forms)"
    source = "arXiv 2510.16022"
    cost = "a head; [measured](performance.md)"
    place = 1
    charts = GAUGES

    arm: str = "ib"
    form: FormName = "paper"
    alpha: NonNegative = 0.1  # paper, appendix A; the reference code has 0.2
    beta: NonNegative | None = None  # 0.01 or 0.02 in the paper's appendix A, 0.01 in the reference code
    layer: LayerChoice | tuple[LayerChoice, ...] = 20  # of 30 to 32 layers in the paper
    # The next four are the reference code's.
    bottleneck_dim: Count = 256
    logvar_min: float = -4.0
    logvar_max: float = 4.0
    kl_reduction: Literal["mean", "sum"] = "mean"
    free_bits: NonNegative = 0.0  # as in the paper
    warmup: Fraction | None = None
    predict_tokens: Share = 1.0
    # An untrained head on normalized h has 66, whatever the model: about 0.26 nats per dimension.
    kl_target: Positive = 30.0
    # Measured with benchmarks/controller.py: with 1 and 0.05 the KL never reached its set point (docs/method.md).
    kl_gain_p: NonNegative = 5.0
    kl_gain_i: NonNegative = 0.3
    replaced: Share = 0.5  # VIBERT replaces all of h, in a model that it does not export
    entropy_tokens: Annotated[int, Meta(ge=2)] = 256
    adaptive: bool = False

    def __post_init__(self) -> None:
        # The fields' own limits hold in a recipe, not where Python calls the constructor, and none refuses infinity.
        for name, value in (("alpha", self.alpha), ("beta", self.ce_share), ("kl_target", self.kl_target)):
            if not (math.isfinite(value) and value >= 0):
                raise UserError(
                    f"{name} is {value}: it must be a finite number from 0 up. The paper has alpha 0.1, beta 0.01."
                )
        if not self.logvar_min < self.logvar_max:
            raise UserError(
                f"logvar_min is {self.logvar_min} and logvar_max {self.logvar_max}: the lower clamp must be below "
                "the upper one. The reference code has -4 and 4."
            )
        for layer in self.layers:
            if (isinstance(layer, float) and not 0 < layer < 1) or (isinstance(layer, int) and layer < 1):
                raise UserError(
                    f"layer is {layer}: it must be an index from 1 up, or a fraction of the depth between 0 and 1. "
                    "The paper has layer 20."
                )
        if not self.layers:
            raise UserError("layer is an empty list: name at least one layer. The paper has layer 20.")
        # A setting that does nothing would mislead.
        for name, default in zip(self.__struct_fields__, self.__struct_defaults__, strict=True):
            forms = forms_with(name)
            if self.form not in forms and getattr(self, name) != default:
                raise UserError(f"{name} has no effect with form: {self.form}; it belongs to {', '.join(forms)}.")

    @property
    def bottleneck(self) -> Form:
        """The form, with these settings."""
        return FORMS[self.form](self)

    @property
    def weighs_examples(self) -> bool:
        """Whether `adaptive` is set."""
        return self.adaptive

    @property
    def layers(self) -> tuple[LayerChoice, ...]:
        """The layers as a tuple, however they are written."""
        return self.layer if isinstance(self.layer, tuple) else (self.layer,)

    @property
    def warmup_share(self) -> float:
        """`warmup`, or the form's default where it is null."""
        return FORMS[self.form].default_warmup if self.warmup is None else self.warmup

    @property
    def ce_share(self) -> float:
        """`beta`, or the form's default where it is null: the weight of the CE through the bottleneck, over alpha."""
        return FORMS[self.form].default_beta if self.beta is None else self.beta

    def settings(self) -> dict[str, Any]:
        """Return the settings that have an effect with this form."""
        resolved = {"beta": self.ce_share, "warmup": self.warmup_share}
        return {
            name: resolved.get(name, value)
            for name, value in super().settings().items()
            if self.form in forms_with(name)
        }

    def alarms(self, rows: Sequence[TrainingLog], num_steps: int) -> list[Alarm]:
        """Look for overload and collapse."""
        return find_alarms(
            rows,
            bottleneck_dim=self.bottleneck_dim,
            form=FORMS[self.form],
            warmup_steps=round(self.warmup_share * num_steps),
        )
