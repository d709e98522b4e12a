"""The recipe's `objective:` section: one frozen struct an objective, told apart by `name`.

Each default has its source in the docstring. The losses themselves are in `ibft.objectives` and `ibft.bottleneck`.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from ibft.errors import UserError

__all__ = [
    "NEEDS_BASE",
    "ASFTObjective",
    "Count",
    "DFTObjective",
    "EAFTObjective",
    "FTKLObjective",
    "FTObjective",
    "Fraction",
    "GEMObjective",
    "IBObjective",
    "LayerChoice",
    "NEFTuneObjective",
    "NonNegative",
    "Objective",
    "Positive",
    "STMObjective",
    "Section",
    "settings_of",
]

Count = Annotated[int, Meta(ge=1)]
Positive = Annotated[float, Meta(gt=0)]
NonNegative = Annotated[float, Meta(ge=0)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
Share = Annotated[float, Meta(gt=0, le=1)]

LayerChoice = int | float
"""A layer: an index of `hidden_states` (int), or a fraction of the depth (float between 0 and 1)."""


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all recipe sections share: immutable, keyword-only, strict about unknown keys."""


class FTObjective(Section, frozen=True, tag_field="name", tag="ft"):
    """Plain fine-tuning: cross-entropy on the completion. TRL's own loss."""

    arm: str = "ft"


class DFTObjective(Section, frozen=True, tag_field="name", tag="dft"):
    """Dynamic fine-tuning: each token's cross-entropy times its detached probability (arXiv 2508.05629). TRL's own."""

    arm: str = "dft"


class NEFTuneObjective(Section, frozen=True, tag_field="name", tag="neftune"):
    """Plain fine-tuning with uniform noise on the embeddings (arXiv 2310.05914). TRL's own.

    noise_alpha: the noise is uniform in ±noise_alpha / sqrt(T * H), T being the batch's padded length; the least of
        the paper's 5, 10 and 15.
    """

    arm: str = "neftune"
    noise_alpha: Positive = 5.0


class FTKLObjective(Section, frozen=True, tag_field="name", tag="ft_kl"):
    """Cross-entropy plus kl_weight * KL(base || model) on the response's next-token distributions.

    kl_weight: no single source; 0.05 as in ASFT, so that the two differ in the first term alone.
    """

    arm: str = "ft_kl"
    kl_weight: NonNegative = 0.05


class ASFTObjective(Section, frozen=True, tag_field="name", tag="asft"):
    """Anchored SFT: DFT plus kl_weight * KL(base || model) (arXiv 2509.23753).

    kl_weight: 0.05 in the authors' example (zhuchichi56/ASFT at 6f6f51c, README), whose code has 0.1 by default.
    """

    arm: str = "asft"
    kl_weight: NonNegative = 0.05


class EAFTObjective(Section, frozen=True, tag_field="name", tag="eaft"):
    """Entropy-adaptive: cross-entropy weighted by the normalized entropy of the top_k tokens (arXiv 2601.02151; 20)."""

    arm: str = "eaft"
    top_k: Annotated[int, Meta(ge=2)] = 20


class GEMObjective(Section, frozen=True, tag_field="name", tag="gem"):
    """Reverse KL with entropy regularization, by its game formulation (arXiv 2408.16673).

    beta: temperature of the sharpened distribution that probability is taken from; 0.7 in the authors' code
        (liziniu/GEM at e5b1430). 1 would be the cross-entropy; the lower, the more diversity is kept.
    """

    arm: str = "gem"
    beta: Annotated[float, Meta(gt=0, lt=1)] = 0.7


class STMObjective(Section, frozen=True, tag_field="name", tag="stm"):
    """Selective token masking: tokens that surprise the base model are left out of the loss (arXiv 2501.14315).

    max_perplexity: tokens whose perplexity under the base model, 1 / p, is above it are masked; 2.5 in the paper.
    """

    arm: str = "stm"
    max_perplexity: Annotated[float, Meta(gt=1)] = 2.5


NEEDS_BASE = (FTKLObjective, ASFTObjective, STMObjective)
"""Objectives that compare with the base model, which is the trained one with its adapter off."""


class IBObjective(Section, frozen=True, tag_field="name", tag="ib"):
    """Cross-entropy plus an information bottleneck on a hidden layer (arXiv 2510.16022, section 5).

    form:
        paper       CE + alpha * (KL + beta * CE through the bottleneck), reduced as the reference code does
                    (OPTML-Group/MemorizationBarrier at 160d19d, util/ModelWithIB.py).
        corrected   the same on response positions only, of h divided by its root mean square, with the model's
                    final norm before lm_head.
        controlled  as corrected; a PI controller moves the KL's weight so that the KL stays at `kl_target`.
        in_path     as corrected, and the decoded code replaces a share of h inside the forward (VIBERT, arXiv
                    2106.05469), a share that rises and falls back to 0, so that the exported model needs no head.
        entropy     CE + alpha * matrix-based Rényi entropy of h (order 2; Giraldo et al., arXiv 1211.2459): there
                    is no head, so none can take the penalty on itself.
    alpha: 0.1 in the paper, appendix A; 0.2 in the reference code. For `controlled`, where the KL's weight starts.
    beta: null is 0.01 (paper, appendix A: 0.01 or 0.02; reference code: 0.01), and 1 for `controlled`, whose KL needs
        no small weight beside it to stay open: alpha * beta is then the weight of the whole bottleneck.
    layer: an index of `hidden_states`, from 1 to num_hidden_layers - 1, a fraction of the depth (0.66), or a list
        of these, over which the bottleneck's terms are averaged. 20 of 30 to 32 layers in the paper.
    bottleneck_dim, logvar_min, logvar_max: 256, and log-variance clamped to [-4, 4] (reference code).
    kl_reduction: over the code's dimensions; `mean` is the reference code's. `sum` is the KL as the method defines
        it and as VIBERT has it: bottleneck_dim times as strong at the same alpha.
    free_bits: nats a dimension that cost nothing (Kingma et al., arXiv 1606.04934). None in the paper.
    warmup: share of all steps over which alpha or the replaced share rises from 0, or the set point moves from the
        first step's KL to `kl_target`; null is 0 for `paper`, whose reference code has none, 0.25 for `controlled`
        (measured: docs/method.md), and 0.1 for the others, as the learning rate's.
    predict_tokens: random share of the response tokens that the CE through the bottleneck is estimated from.
    kl_target: the set point of `controlled`, in nats a response token. An untrained head on normalized h has about
        0.26 nats a dimension, 66 in all, whatever the model: 30 asks for less than half.
    kl_gain_p, kl_gain_i: the controller's gains on log(KL / kl_target) (PI control after ControlVAE, arXiv
        2004.05988, in its velocity form, on log alpha). Measured: docs/method.md.
    replaced: largest share of h that `in_path` replaces. VIBERT replaces all of it, in a model it does not export.
    entropy_tokens: response positions, drawn at random, that the matrix of `entropy` is built from.
    adaptive: weigh each example's KL by its memorization score from the scan: from 0 for the least predictable to 2
        for the most, 1 on average (the paper's future work).
    """

    arm: str = "ib"
    form: Literal["paper", "corrected", "controlled", "in_path", "entropy"] = "paper"
    alpha: NonNegative = 0.1
    beta: NonNegative | None = None
    layer: LayerChoice | tuple[LayerChoice, ...] = 20
    bottleneck_dim: Count = 256
    logvar_min: float = -4.0
    logvar_max: float = 4.0
    kl_reduction: Literal["mean", "sum"] = "mean"
    free_bits: NonNegative = 0.0
    warmup: Fraction | None = None
    predict_tokens: Share = 1.0
    kl_target: Positive = 30.0
    kl_gain_p: NonNegative = 5.0
    kl_gain_i: NonNegative = 0.3
    replaced: Share = 0.5
    entropy_tokens: Annotated[int, Meta(ge=2)] = 256
    adaptive: bool = False

    def __post_init__(self) -> None:
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
        self._refuse_settings_of_other_forms()

    def _refuse_settings_of_other_forms(self) -> None:
        """A setting that does nothing would mislead."""
        defaults = type(self).__struct_defaults__
        default_of = dict(zip(self.__struct_fields__, defaults, strict=True))
        for name, forms in _FORMS_OF.items():
            if self.form not in forms and getattr(self, name) != default_of[name]:
                raise UserError(f"{name} has no effect with form: {self.form}; it belongs to {', '.join(forms)}.")

    @property
    def layers(self) -> tuple[LayerChoice, ...]:
        """The layers as a tuple, however they are written."""
        return self.layer if isinstance(self.layer, tuple) else (self.layer,)

    def layer_indices(self, num_layers: int) -> tuple[int, ...]:
        """The layers as indices of `hidden_states`, sorted; a fraction is rounded to the nearest.

        Raises:
            UserError: an index is out of the model's range, or two layers are the same.
        """
        indices = sorted(
            min(max(1, round(layer * num_layers)), num_layers - 1) if isinstance(layer, float) else layer
            for layer in self.layers
        )
        if indices[-1] >= num_layers:
            raise UserError(
                f"layer is {indices[-1]}: this model has {num_layers} layers, so layer must be from 1 to "
                f"{num_layers - 1}. The paper takes two thirds of the depth: {max(1, 2 * num_layers // 3)} here."
            )
        if len(set(indices)) < len(indices):
            raise UserError(f"layer is {list(self.layers)}: two of these are the same layer of {num_layers}.")
        return tuple(indices)

    @property
    def warmup_share(self) -> float:
        """`warmup`, or the form's own where it is null."""
        if self.warmup is not None:
            return self.warmup
        return {"paper": 0.0, "controlled": 0.25}.get(self.form, 0.1)

    @property
    def ce_share(self) -> float:
        """`beta`, or the form's own where it is null: the weight of the CE through the bottleneck, over alpha."""
        if self.beta is not None:
            return self.beta
        return 1.0 if self.form == "controlled" else 0.01


_HEADED = ("paper", "corrected", "controlled", "in_path")
_CORRECTED = ("corrected", "controlled", "in_path")
_FORMS_OF: dict[str, tuple[str, ...]] = {
    "beta": _HEADED,
    "bottleneck_dim": _HEADED,
    "logvar_min": _HEADED,
    "logvar_max": _HEADED,
    "predict_tokens": _HEADED,
    "kl_reduction": _CORRECTED,
    "free_bits": _CORRECTED,
    "adaptive": _CORRECTED,
    "kl_target": ("controlled",),
    "kl_gain_p": ("controlled",),
    "kl_gain_i": ("controlled",),
    "replaced": ("in_path",),
    "entropy_tokens": ("entropy",),
}

Objective = (
    FTObjective
    | IBObjective
    | DFTObjective
    | FTKLObjective
    | ASFTObjective
    | EAFTObjective
    | GEMObjective
    | STMObjective
    | NEFTuneObjective
)


def settings_of(objective: Objective) -> dict[str, Any]:
    """The settings that have an effect on the objective, by their name in the recipe; null ones resolved."""
    settings = {name: getattr(objective, name) for name in objective.__struct_fields__ if name != "arm"}
    if not isinstance(objective, IBObjective):
        return settings
    resolved = {"beta": objective.ce_share, "warmup": objective.warmup_share}
    return {
        name: resolved.get(name, value)
        for name, value in settings.items()
        if name not in _FORMS_OF or objective.form in _FORMS_OF[name]
    }
