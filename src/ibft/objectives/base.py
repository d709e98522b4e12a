"""What an objective is: a frozen section of the recipe that knows its loss, its gauges and its words."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from ibft.artifacts.rows import TrainingLog
from ibft.artifacts.training import Alarm
from ibft.errors import UserError
from ibft.settings import Section

if TYPE_CHECKING:
    from torch import Tensor

    from ibft.objectives.bottleneck.form import Form

__all__ = ["Gauge", "LayerChoice", "Need", "Objective", "Tokens"]

LayerChoice = int | float
"""A layer: an index of `hidden_states` (int), or a fraction of the depth (float between 0 and 1)."""

Need = Literal["logits", "base_logits"]

Axis = Literal["plain", "wide", "log", "percent"]
"""`wide` turns logarithmic where the values span more than two decades."""


class Gauge(NamedTuple):
    """How one of the metrics that an objective logs is drawn in the report.

    name: the metric, as in `log.jsonl`.
    title, caption: of its chart.
    is_vital: it shows whether the objective works, and is drawn before the others.
    target: the metric that is drawn behind it as a thin line.
    limits: dashed lines.
    """

    name: str
    title: str
    caption: str
    axis: Axis = "plain"
    is_vital: bool = False
    target: str = ""
    limits: tuple[float, ...] = ()


class Tokens:
    """Some labelled tokens, one row each, from which a loss is made. A token's loss may depend on its own row alone.

    Args:
        logits_nV: (n, V), float32.
        targets_n: token ids, (n,).
        base_logits_nV: the base model's logits, (n, V), without gradient; None unless the objective needs them.
    """

    def __init__(self, logits_nV: Tensor, targets_n: Tensor, base_logits_nV: Tensor | None = None) -> None:
        self.logits_nV, self.targets_n, self._base_logits_nV = logits_nV, targets_n, base_logits_nV

    @classmethod
    def scored(cls, cross_entropy_n: Tensor) -> Tokens:
        """Return tokens of which only the cross-entropy is known, nats, (n,)."""
        tokens = cls.__new__(cls)
        # Assigned, the cached property is not computed from the logits that are missing here.
        tokens.cross_entropy_n = cross_entropy_n
        return tokens

    @cached_property
    def log_probs_nV(self) -> Tensor:
        """Log-probabilities of the whole vocabulary, nats."""
        return self.logits_nV.log_softmax(dim=-1)

    @cached_property
    def cross_entropy_n(self) -> Tensor:
        """Minus the target's log-probability, nats."""
        return -self.log_probs_nV.gather(1, self.targets_n[:, None])[:, 0]

    @property
    def base_logits_nV(self) -> Tensor:
        """The base model's logits, without gradient."""
        assert self._base_logits_nV is not None, "the objective has no 'base_logits' among its needs"
        return self._base_logits_nV.detach()

    @property
    def kl_from_base_n(self) -> Tensor:
        """KL(p_base || p) over the whole vocabulary, nats; its gradient at the logits is p - p_base."""
        base_probs_nV = self.base_logits_nV.softmax(dim=-1)
        return (base_probs_nV.xlogy(base_probs_nV) - base_probs_nV * self.log_probs_nV).sum(dim=-1)


class Objective(Section, frozen=True):
    """One entry of the recipe's `objective:`, distinguished by `name`, the struct's tag. Its arm is trained with it.

    A subclass is the whole objective: its settings are its fields, the first line of its docstring is what the model
    card says of it, and the first three class variables are its row in the table of docs/training.md.

    formula, source: of the loss of a response token.
    cost: of a step, compared with plain fine-tuning.
    place: in lists; new ones follow those of this package, in alphabetical order.
    needs: what `loss` reads beside the cross-entropy. `base_logits` are those of the trained model with its adapter
        off, which costs a forward.
    charts: the metrics that it logs beside TRL's and `ce`.
    """

    formula: ClassVar[str]
    source: ClassVar[str]
    cost: ClassVar[str] = "as `ft`"
    place: ClassVar[int] = 99
    needs: ClassVar[tuple[Need, ...]] = ()
    charts: ClassVar[tuple[Gauge, ...]] = ()

    arm: str

    @property
    def name(self) -> str:
        """What the recipe calls the objective."""
        return str(type(self).__struct_config__.tag)

    @property
    def is_cross_entropy(self) -> bool:
        """Whether a token's loss is its cross-entropy; a penalty may be added to their sum."""
        return type(self).loss is Objective.loss

    @property
    def is_plain(self) -> bool:
        """Whether the whole loss is the cross-entropy."""
        return self.is_cross_entropy and self.bottleneck is None

    @property
    def needs_base(self) -> bool:
        """Whether it compares with the base model, which is the trained one with its adapter off."""
        return "base_logits" in self.needs

    @property
    def weighs_examples(self) -> bool:
        """Whether each training example has its own weight, made from the scan's scores."""
        return False

    @property
    def bottleneck(self) -> Form | None:
        """The bottleneck whose penalty is added to the loss; None for none."""
        return None

    @property
    def layers(self) -> tuple[LayerChoice, ...]:
        """The layers whose hidden states are read."""
        return ()

    def layer_indices(self, num_layers: int) -> tuple[int, ...]:
        """Return the layers as indices of `hidden_states`, sorted; a fraction is rounded to the nearest.

        Raises:
            UserError: an index is out of the model's range, or two layers are the same.
        """
        indices = sorted(
            min(max(1, round(layer * num_layers)), num_layers - 1) if isinstance(layer, float) else layer
            for layer in self.layers
        )
        if indices and indices[-1] >= num_layers:
            raise UserError(
                f"layer is {indices[-1]}: this model has {num_layers} layers, so layer must be from 1 to "
                f"{num_layers - 1}. The paper takes two thirds of the depth: {max(1, 2 * num_layers // 3)} here."
            )
        if len(set(indices)) < len(indices):
            raise UserError(f"layer is {list(self.layers)}: two of these are the same layer of {num_layers}.")
        return tuple(indices)

    def settings(self) -> dict[str, Any]:
        """Return the settings that have an effect, by their name in the recipe, with null ones resolved."""
        return {name: getattr(self, name) for name in self.__struct_fields__ if name != "arm"}

    def trl_arguments(self, rows_per_batch: int) -> dict[str, Any]:
        """Return arguments of `SFTConfig`, for what TRL does itself.

        Args:
            rows_per_batch: how many examples are packed into one row; 1 where none are.
        """
        return {}

    def loss(self, tokens: Tokens) -> Tensor:
        """Return each token's loss in nats, (n,), before it is summed and divided by the step's labelled tokens."""
        return tokens.cross_entropy_n

    def sums(self, loss_N: Tensor, cross_entropy_N: Tensor) -> dict[str, Tensor]:
        """Return what is logged beside the loss, summed over the labelled tokens; the log has their means.

        Args:
            loss_N: the loss of each token, without gradient.
            cross_entropy_N: its cross-entropy.
        """
        return {}

    def alarms(self, rows: Sequence[TrainingLog], num_steps: int) -> list[Alarm]:
        """Return what is wrong with an arm's training by its log so far.

        Args:
            rows: the log.
            num_steps: optimizer steps of the whole training, of which a warm-up is a share.
        """
        return []
