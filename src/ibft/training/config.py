"""IBConfig: TRL's SFTConfig with the bottleneck's settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
from trl import SFTConfig

from ibft.errors import UserError
from ibft.objectives.base import LayerChoice
from ibft.objectives.bottleneck.forms import FORMS
from ibft.objectives.ib import IBObjective

__all__ = ["IBConfig", "ObjectiveConfig"]

_DEFAULT = IBObjective()


def _setting(name: str, text: str, **metadata: Any) -> Any:
    """Make a dataclass field with the objective's own default."""
    return field(default=getattr(_DEFAULT, name), metadata={"help": text, **metadata})


@dataclass
class ObjectiveConfig(SFTConfig):  # type: ignore[misc]
    """TRL's arguments with an objective's settings beside them, for what reads a run's configuration (W&B)."""

    objective_settings: dict[str, Any] = field(default_factory=dict)


@dataclass
class IBConfig(SFTConfig):  # type: ignore[misc]
    """Arguments of `IBTrainer`: everything `trl.SFTConfig` takes, and the settings of an `IBObjective`.

    Names, defaults and sources are those of `ibft.objectives.ib.IBObjective`, the frozen struct that `objective`
    is; here they are flat, as TRL's parsers and users expect. `alpha=0` trains exactly as `SFTTrainer` and still
    logs the gauges. `layer` may also be a string, such as `"0.5,20"`.

    Raises:
        UserError: a value is out of range, or does nothing with this `form`.
    """

    form: str = _setting("form", "Which bottleneck: see docs/training.md.", choices=list(FORMS))
    alpha: float = _setting("alpha", "Weight of the bottleneck's loss; 0 is plain SFT.")
    beta: float | None = _setting("beta", "Weight of the cross-entropy through the bottleneck.")
    layer: int | float | str | list[LayerChoice] | tuple[LayerChoice, ...] = _setting(
        "layer", "Index of hidden_states, fraction of the depth, or several of these."
    )
    bottleneck_dim: int = _setting("bottleneck_dim", "Dimensions of the bottleneck's code.")
    logvar_min: float = _setting("logvar_min", "Lower clamp of the code's log-variance.")
    logvar_max: float = _setting("logvar_max", "Upper clamp of the code's log-variance.")
    kl_reduction: str = _setting("kl_reduction", "The KL over the code's dimensions: mean or sum.")
    free_bits: float = _setting("free_bits", "Nats per dimension that cost nothing.")
    warmup: float | None = _setting("warmup", "Share of all steps over which the bottleneck rises to full strength.")
    predict_tokens: float = _setting("predict_tokens", "Share of tokens for the CE through the bottleneck.")
    kl_target: float = _setting("kl_target", "Set point of the KL, nats per token (controlled).")
    kl_gain_p: float = _setting("kl_gain_p", "Proportional gain of the controller (controlled).")
    kl_gain_i: float = _setting("kl_gain_i", "Integral gain of the controller (controlled).")
    replaced: float = _setting("replaced", "Largest share of h that is replaced (in_path).")
    entropy_tokens: int = _setting("entropy_tokens", "Tokens in the entropy's matrix (entropy).")
    adaptive: bool = _setting("adaptive", "Weigh each example's KL by the column `compression_weight`.")

    def __post_init__(self) -> None:
        """Check the bottleneck's settings, then do what TRL does."""
        if self.form not in FORMS:
            raise UserError(f"form is {self.form!r}: known forms are {', '.join(FORMS)}.")
        settings = {name: getattr(self, name) for name in IBObjective.__struct_fields__ if name != "arm"}
        settings["layer"] = _layers(self.layer)
        try:
            # Through `convert`, which checks ranges, where the struct's own constructor does not.
            self.objective = msgspec.convert({"name": "ib", **settings}, IBObjective)
        except msgspec.ValidationError as error:
            what, _, where = str(error).partition(" - at `$.")
            name = where.split("[")[0].rstrip("`")
            raise UserError(f"{name} is {settings[name]!r}: {what}." if name else what) from None
        if self.label_smoothing_factor > 0:
            raise UserError(
                f"label_smoothing_factor is {self.label_smoothing_factor}: TRL then computes the loss in a forward of "
                "its own, which the bottleneck does not see. Set it to 0."
            )
        super().__post_init__()


def _layers(layer: int | float | str | list[LayerChoice] | tuple[LayerChoice, ...]) -> LayerChoice | list[LayerChoice]:
    """Return the layer or layers as the objective takes them."""
    if isinstance(layer, str):
        try:
            return _layers([float(text) for text in layer.split(",")])
        except ValueError:
            raise UserError(
                f"layer is {layer!r}: give an index (20), a fraction of the depth (0.66), or both."
            ) from None
    if isinstance(layer, (list, tuple)):
        return [_index_or_fraction(choice) for choice in layer]
    return _index_or_fraction(layer)


def _index_or_fraction(layer: LayerChoice) -> LayerChoice:
    # A command line's parser makes every number a float.
    return int(layer) if layer >= 1 and layer == int(layer) else layer
