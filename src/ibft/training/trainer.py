"""The trainer of every objective: TRL's SFTTrainer with another loss in the model's forward (docs/training.md)."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from peft import PeftModel
from torch import Tensor, nn, stack
from transformers import PreTrainedModel

from ibft.errors import UserError
from ibft.models.projection import Projection
from ibft.objectives.base import Objective
from ibft.objectives.bottleneck.terms import Terms
from ibft.objectives.registry import OBJECTIVES
from ibft.training.bottleneck import HEAD_NAME, Bottleneck
from ibft.training.compression import COLUMN, collate_weighted
from ibft.training.config import IBConfig
from ibft.training.forward import LossForward
from ibft.training.gauges import per_token, record
from ibft.training.gradients import GradientShare
from ibft.training.held_out import HeldOutTrainer

__all__ = ["IBConfig", "IBTrainer", "ObjectiveTrainer"]


class ObjectiveTrainer(HeldOutTrainer):
    """Fine-tune with an objective; takes what `trl.SFTTrainer` takes.

    With a bottleneck, its head is trained with the model and saved in checkpoints. The exported model or adapter does
    not hold it, and loads without this package.

    Scale under gradient accumulation and several processes: everything that is a sum over labelled tokens is divided by
    the number of labelled tokens of the whole optimizer step, as in TRL, so small accumulated batches weigh like one
    large one. What a form of the bottleneck has as a mean of one forward (the KL of `paper`, the entropy) is averaged
    over accumulation steps and processes.

    Logged beside TRL's metrics, each on the scale of `loss` (an average over accumulation steps): `ce`, the
    cross-entropy, where the loss is not that alone; what the objective sums over tokens. With a bottleneck:
    `ib/penalty`, so that `loss` = `ce` + `ib/penalty`, and the gauges of its form. At logging steps, where one process
    holds the whole adapter: `ib/grad_ratio`, the norm of the gradient that reaches the trained weights from the
    bottleneck over that from the cross-entropy.

    Args:
        model: as for `SFTTrainer`.
        args: as for `SFTTrainer`.
        *arguments: as for `SFTTrainer`.
        objective: what to train for.
        **keywords: as for `SFTTrainer`.

    Raises:
        UserError: a layer is out of range; the model has no `lm_head`; the adapter, an optimizer or another loss in
            `args` does not fit the objective.
    """

    _name = "IBFT"  # in TRL's model card

    labelled_only = False
    """Project labelled positions alone, on every device: see `LossForward`."""

    def __init__(self, model: Any, args: Any = None, *arguments: Any, objective: Objective, **keywords: Any) -> None:
        self.objective = objective
        super().__init__(model, args, *arguments, **keywords)
        self._refuse_other_losses()
        adapter = self.model if isinstance(self.model, PeftModel) else None
        base: PreTrainedModel = self.model if adapter is None else adapter.get_base_model()
        if objective.needs_base:
            _check_base(objective, base, adapter)
        self._bottleneck = None if objective.bottleneck is None else self._attach_bottleneck(base, adapter)
        if objective.weighs_examples:
            self.data_collator: Any = partial(collate_weighted, self.data_collator)
        self._forward = LossForward(base, adapter, objective, self._bottleneck, self.labelled_only)
        self._gradient: GradientShare | None = None

    def _refuse_other_losses(self) -> None:
        name = self.objective.name
        if self.objective.is_plain:  # TRL's own loss, with all that TRL can do to it
            return
        if self.compute_loss_func is not None:
            raise UserError(f"compute_loss_func is set: it would replace the loss of objective {name}. Leave it out.")
        is_weighed = self.args.loss_type != "nll" and not self.objective.is_cross_entropy
        if self.label_smoother is not None or is_weighed:
            raise UserError(f"objective: {name} is a loss of its own. Leave out label_smoothing_factor and loss_type.")
        if self.aux_loss_enabled and self.objective.needs:
            raise UserError(
                f"objective: {name} leaves out the load-balancing loss of a mixture of experts. Set "
                "router_aux_loss_coef to 0, or use ft."
            )

    def _attach_bottleneck(self, base: PreTrainedModel, adapter: PeftModel | None) -> Bottleneck:
        form = self.objective.bottleneck
        assert form is not None
        if self.optimizer is not None:
            raise UserError(
                "optimizers is set: an optimizer made before the trainer cannot hold the bottleneck's head. "
                "Leave it out and use optimizer_cls_and_kwargs."
            )
        if adapter is not None and any(getattr(c, "bias", "none") == "all" for c in adapter.peft_config.values()):
            raise UserError('the adapter\'s bias is "all": it would save the bottleneck\'s biases too. Use "none".')
        bottleneck = Bottleneck(self.model, base, form, self.args.seed, self.args.process_index)
        if adapter is None:
            # PEFT saves adapter weights alone; a whole model would be saved with the heads.
            ignored = {f"{HEAD_NAME}.{name}" for name in bottleneck.heads.state_dict()}
            base._keys_to_ignore_on_save = ignored | set(base._keys_to_ignore_on_save or ())
        return bottleneck

    @property
    def bottleneck(self) -> nn.ModuleList:
        """The bottleneck's heads, one per layer; empty for an objective or a form without heads."""
        return nn.ModuleList() if self._bottleneck is None else self._bottleneck.heads

    def remove_bottleneck(self) -> None:
        """Restore the model as TRL and PEFT made it, without head and hooks. Training is over after this.

        An evaluation after it is TRL's own, whose `eval_loss` is a mean over batches instead of tokens.
        """
        if self._is_removed:
            return
        self._is_removed = True
        self._forward.remove()
        if self._bottleneck is not None:
            self._bottleneck.remove()
            delattr(self.model, HEAD_NAME)

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        # The Trainer drops every column that is not listed.
        if self.objective.weighs_examples and COLUMN not in self._signature_columns:
            self._signature_columns: list[str] = [*self._signature_columns, COLUMN]

    def training_step(self, model: nn.Module, inputs: dict[str, Any], *arguments: Any, **keywords: Any) -> Tensor:
        """Run one forward and backward; after the last of an optimizer step, a controller takes in its KL."""
        self._gradient = GradientShare.of(self) if self._is_gauged_forward() else None
        loss: Tensor = super().training_step(model, inputs, *arguments, **keywords)
        if self._gradient is not None:
            self._metrics["train"]["ib/grad_ratio"].append(self._gradient.ratio())
            self._gradient = None
        if self._bottleneck is not None and self.accelerator.sync_gradients:
            self._bottleneck.schedule.end_step()
        return loss

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Return the loss of one batch, a scalar; with the outputs if asked for."""
        if self._is_removed:
            return super().compute_loss(
                model, inputs, return_outputs=return_outputs, num_items_in_batch=num_items_in_batch
            )
        if self._bottleneck is not None and self._held_out is None:
            self._bottleneck.schedule.move_to(self.state.global_step, self.state.max_steps)
        result = super().compute_loss(
            model, inputs, return_outputs=return_outputs, num_items_in_batch=num_items_in_batch
        )
        output = self._forward.take()
        if self._held_out is not None:
            self._held_out.add(inputs, output)
            return result
        if output.sums is None and output.terms is None:
            return result
        # The log averages over the forwards of a step, and `scale` divides by all of them: multiplied, it is their sum.
        num_steps = 1 if num_items_in_batch is None else self.current_gradient_accumulation_steps
        num_labelled = output.label_mask.sum()
        scale = per_token(self, num_labelled, num_items_in_batch)
        if output.sums is not None:
            record(self, {name: total * scale * num_steps for name, total in output.sums.items()})
        if output.terms is None:
            return result
        ce, outputs = result if return_outputs else (result, None)
        loss = self._add_penalty(ce, output.terms, num_labelled.to(ce.device), scale.to(ce.device), num_steps)
        return (loss, outputs) if return_outputs else loss

    def _add_penalty(self, ce: Tensor, terms: Terms, num_labelled: Tensor, scale: Tensor, num_steps: int) -> Tensor:
        assert self._bottleneck is not None
        form, schedule = self._bottleneck.form, self._bottleneck.schedule
        terms = Terms(*(value.to(ce.device) for value in terms))
        kl = terms.penalty / num_steps if form.is_mean_of_forward else terms.penalty * scale
        ce_bottleneck = terms.ce_sum * scale
        # The method's alpha * (KL + beta * CE): `ce_weight` is alpha * beta, and stays so where a controller moves the
        # KL's weight. If both moved, their ratio, and with it the code that the head learns, would not change.
        added = schedule.alpha * kl + schedule.ce_weight * ce_bottleneck
        in_loss = {"ce": ce, "ib/penalty": added, **form.loss_gauges(kl, ce_bottleneck)}
        scaled = {name: value * num_steps for name, value in in_loss.items()}
        of_schedule = form.schedule_gauges(schedule, self._bottleneck.replaced)
        record(self, {**scaled, **form.gauges(terms), **of_schedule})
        if self.model.training and schedule.needs_kl:
            # Summed over all processes, so that each one's controller moves alike.
            local = stack([terms.kl_per_token * num_labelled, num_labelled.float()])
            schedule.observe(*self.accelerator.gather(local[None]).sum(dim=0).tolist())
        if form.settings.alpha == 0:  # not even 0 is added: alpha = 0 trains as SFTTrainer, bit for bit
            return ce
        if self._gradient is not None:
            self._gradient.take(added)
        loss: Tensor = ce + added
        return loss

    def _is_gauged_forward(self) -> bool:
        """Decide whether this forward's gradients are to be separated: at logging steps."""
        next_step = self.state.global_step + 1
        is_logged = next_step % max(1, self.state.logging_steps) == 0 or (
            next_step == 1 and self.args.logging_first_step
        )
        has_penalty = self._bottleneck is not None and self._bottleneck.form.settings.alpha > 0
        return is_logged and has_penalty

    def _clip_grad_norm(self, model: nn.Module) -> Any:
        """Clip the head's gradient apart, so that it takes no share of the model's norm, which is returned."""
        # Together where the form says so, with DeepSpeed, which clips on its own, and with scaled gradients.
        is_apart = self._bottleneck is not None and self._bottleneck.form.clips_head_apart
        if not is_apart or self.is_deepspeed_enabled or self.accelerator.scaler is not None:
            return super()._clip_grad_norm(model)
        heads = list(self.bottleneck.parameters())
        of_heads = {id(parameter) for parameter in heads}
        others = [parameter for parameter in model.parameters() if id(parameter) not in of_heads]
        if heads:
            self.accelerator.clip_grad_norm_(heads, self.args.max_grad_norm)
        return self.accelerator.clip_grad_norm_(others, self.args.max_grad_norm)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Save head and controller, then what TRL saves."""
        # Head first, since TRL's part ends by deleting older checkpoints. Without the head, a resumed run is silently
        # wrong (KL 2.69 instead of 1.62 in a prototype).
        if self._bottleneck is not None:
            folder = Path(self._get_output_dir(trial)) / f"checkpoint-{self.state.global_step}"
            self._bottleneck.save(folder, self.args.should_save)
        super()._save_checkpoint(model, trial)

    def _save_rng_state(self, output_dir: str) -> None:
        """Save the generators, the noise's among them."""
        super()._save_rng_state(output_dir)
        if self._bottleneck is not None:
            self._bottleneck.save_noise(output_dir)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        """Restore model or adapter, and the head. (DeepSpeed restores all of them, and never comes here.)"""
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        if self._bottleneck is not None:
            self._bottleneck.load_heads(resume_from_checkpoint)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Restore the generators, the noise's among them, and the controller."""
        super()._load_rng_state(checkpoint)
        if self._bottleneck is not None and checkpoint is not None:
            self._bottleneck.load_state(checkpoint)


class IBTrainer(ObjectiveTrainer):
    """Fine-tune with CE + alpha * (KL + beta * CE through the bottleneck); takes what `trl.SFTTrainer` takes.

    With alpha 0 it trains as `SFTTrainer`, bit for bit, and logs the gauges.

    Args:
        model: as for `SFTTrainer`.
        args: an `IBConfig`.
        *arguments: as for `SFTTrainer`.
        **keywords: as for `SFTTrainer`.

    Raises:
        UserError: as `ObjectiveTrainer`, or `args` is another config.
    """

    _name = "IB"  # in TRL's model card

    def __init__(self, model: Any, args: IBConfig | None = None, *arguments: Any, **keywords: Any) -> None:
        if args is None:
            args = IBConfig("ib")
        if not isinstance(args, IBConfig):
            raise UserError(
                f"args is a {type(args).__name__}: IBTrainer takes an IBConfig, which adds alpha and layer."
            )
        super().__init__(model, args, *arguments, objective=args.objective, **keywords)


def _check_base(objective: Objective, base: PreTrainedModel, adapter: PeftModel | None) -> None:
    """Check that there is an adapter to switch off, which makes the trained model the base model."""
    if adapter is None or adapter.active_peft_config.is_prompt_learning:
        *names, last = (name for name, kind in OBJECTIVES.items() if "base_logits" not in kind.needs)
        raise UserError(
            f"objective: {objective.name} compares with the base model, which is the model with its LoRA adapter off: "
            f"there is no such adapter. Train one, or use {', '.join(names)} or {last}, which need no base."
        )
    if any(parameter.requires_grad for parameter in Projection.of(base).lm_head.parameters()):
        raise UserError(
            f"objective: {objective.name} reads the base model's logits through lm_head, which the adapter trains. "
            "Leave lm_head out of it."
        )
