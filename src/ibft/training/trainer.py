"""IBTrainer: TRL's SFTTrainer with an information bottleneck beside the model (docs/training.md)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from trl import SFTTrainer

from ibft.bottleneck.module import VariationalHead
from ibft.bottleneck.tap import decoder_layers
from ibft.bottleneck.terms import Terms
from ibft.errors import UserError
from ibft.objectives.ib import penalty
from ibft.training.compression import COLUMN, WeightedCollator
from ibft.training.config import IBConfig
from ibft.training.forward import BottleneckForward, BottleneckOutput, OutputCapture
from ibft.training.gauges import per_token, record
from ibft.training.gradients import GradientShare
from ibft.training.sharding import load_whole_state, whole_state
from ibft.training.strength import Strength

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["IBConfig", "IBTrainer"]

HEAD_NAME = "ibft_bottleneck"
HEAD_FILE = "bottleneck.pt"


class IBTrainer(SFTTrainer):  # type: ignore[misc]
    """Fine-tune with CE + alpha * (KL + beta * CE through the bottleneck); takes what `trl.SFTTrainer` takes.

    The variational head is trained with the model and saved in checkpoints, but is no part of the exported
    model or adapter, which load without this package.

    Scale under gradient accumulation and several processes: CE, the cross-entropy through the bottleneck and, in
    every form but `paper` and `entropy`, the KL are sums over labelled tokens divided by the number of labelled
    tokens of the whole optimizer step, as in TRL, so small accumulated batches weigh like one large one. The
    `paper` form's KL is a mean over the positions of one forward (the reference code's), and the entropy is one of
    the states of one forward; they are averaged over accumulation steps and processes.

    Logged beside TRL's metrics, each on the scale of `loss` (an average over accumulation steps): `ce`; `ib/penalty`,
    so that `loss` = `ce` + `ib/penalty`; `ib/alpha`, the KL's weight; `ib/hidden_std`, the spread of h. With a head:
    `ib/kl` as it stands in the loss, `ib/kl_per_token` and `ib/kl_per_dim` of the response tokens (nats),
    `ib/active_units` (dimensions above 0.01 nats), `ib/ce` (nats a labelled token), `ib/accuracy` (of the decoded
    code). By form: `ib/kl_target`, `ib/replaced`, `ib/entropy` (nats). At logging steps, where one process holds
    the whole adapter: `ib/grad_ratio`, the norm of the gradient that reaches the trained weights from the
    bottleneck over that from the CE.

    Args:
        model: as for `SFTTrainer`.
        args: an `IBConfig`.
        *arguments: as for `SFTTrainer`.
        **keywords: as for `SFTTrainer`.

    Raises:
        UserError: the layer is out of range, the model has no `lm_head`, the adapter trains all biases
            (`bias="all"` would save the head's), or `args`, an optimizer or `compute_loss_func` does not fit.
    """

    _name = "IB"  # in the model card

    def __init__(self, model: Any, args: IBConfig | None = None, *arguments: Any, **keywords: Any) -> None:
        if args is None:
            args = IBConfig("ib")
        if not isinstance(args, IBConfig):
            raise UserError(
                f"args is a {type(args).__name__}: IBTrainer takes an IBConfig, which adds alpha and layer."
            )
        self.settings = args.objective
        super().__init__(model, args, *arguments, **keywords)
        if self.compute_loss_func is not None:
            raise UserError("compute_loss_func is set: it would replace the loss that IBTrainer extends. Leave it out.")
        if self.optimizer is not None:
            raise UserError(
                "optimizers is set: an optimizer made before the trainer cannot hold the bottleneck's head. "
                "Leave it out and use optimizer_cls_and_kwargs."
            )
        self._attach_bottleneck()
        if self.settings.adaptive:
            self.data_collator: Any = WeightedCollator(self.data_collator)
        self._strength = Strength(self.settings)
        self._gradient: GradientShare | None = None

    def _attach_bottleneck(self) -> None:
        """Add head and hooks. After `super().__init__`: PEFT would freeze or wrap a head that was there before."""
        is_adapter = isinstance(self.model, PeftModel)
        base: PreTrainedModel = self.model.get_base_model() if is_adapter else self.model
        if is_adapter and any(getattr(config, "bias", "none") == "all" for config in self.model.peft_config.values()):
            raise UserError('the adapter\'s bias is "all": it would save the bottleneck\'s biases too. Use "none".')
        blocks = decoder_layers(base)
        layers = self.settings.layer_indices(len(blocks))
        device = next(blocks[layers[0]].parameters()).device
        # Generators of our own: drawing from the global one would shift dropout and data order against SFTTrainer.
        self._generator = torch.Generator(device).manual_seed(self.args.seed + 1 + self.args.process_index)
        weights = torch.Generator().manual_seed(self.args.seed)
        self.bottleneck = nn.ModuleList(
            VariationalHead(
                base.config.get_text_config().hidden_size,
                self.settings.bottleneck_dim,
                self.settings.logvar_min,
                self.settings.logvar_max,
                weights,
            )
            for _ in (layers if self.settings.form != "entropy" else ())
        ).to(device)
        # A head that is not trained must not look as if it were: DDP waits for every parameter's gradient.
        self.bottleneck.requires_grad_(self.settings.alpha > 0)
        self.model.add_module(HEAD_NAME, self.bottleneck)
        if not is_adapter:
            ignored = {f"{HEAD_NAME}.{name}" for name in self.bottleneck.state_dict()}
            base._keys_to_ignore_on_save = ignored | set(base._keys_to_ignore_on_save or ())
        self._forward = BottleneckForward(self.model, base, layers, self.bottleneck, self.settings, self._generator)

    def remove_bottleneck(self) -> None:
        """Take head and hooks off the model, which is then as TRL and PEFT made it. Training is over after this."""
        self._forward.remove()
        delattr(self.model, HEAD_NAME)

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        if self.settings.adaptive and COLUMN not in self._signature_columns:
            self._signature_columns: list[str] = [*self._signature_columns, COLUMN]

    def training_step(self, model: nn.Module, inputs: dict[str, Any], *arguments: Any, **keywords: Any) -> Tensor:
        """One forward and backward; after the last of an optimizer step the controller takes in its KL."""
        self._gradient = GradientShare.of(self) if self._is_gauged_forward() else None
        loss: Tensor = super().training_step(model, inputs, *arguments, **keywords)
        if self._gradient is not None:
            self._metrics["train"]["ib/grad_ratio"].append(self._gradient.ratio())
            self._gradient = None
        if self.accelerator.sync_gradients:
            self._strength.end_step()
        return loss

    def _clip_grad_norm(self, model: nn.Module) -> Any:
        """Clip the head's gradient by itself, so that it takes no share of the model's norm, which is returned.

        `paper` clips both as one, as the reference code does; so does every form with DeepSpeed, which clips by itself,
        and with scaled gradients.
        """
        if self.settings.form == "paper" or self.is_deepspeed_enabled or self.accelerator.scaler is not None:
            return super()._clip_grad_norm(model)
        heads = list(self.bottleneck.parameters())
        of_heads = {id(parameter) for parameter in heads}
        others = [parameter for parameter in model.parameters() if id(parameter) not in of_heads]
        if heads:
            self.accelerator.clip_grad_norm_(heads, self.args.max_grad_norm)
        return self.accelerator.clip_grad_norm_(others, self.args.max_grad_norm)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """TRL's loss of one batch, plus the bottleneck's; a scalar, with the outputs if asked for."""
        self._forward.weights_BT = inputs.pop(COLUMN, None)
        self._strength.move_to(self.state.global_step, self.state.max_steps)
        self._forward.replaced = self._strength.replaced if self.model.training else 0.0
        capture = OutputCapture(model)
        result = super().compute_loss(
            capture, inputs, return_outputs=return_outputs, num_items_in_batch=num_items_in_batch
        )
        ce, outputs = result if return_outputs else (result, None)
        assert capture.output is not None, "TRL did not call the model for its loss"
        loss = self._add_penalty(ce, capture.output, num_items_in_batch)
        return (loss, outputs) if return_outputs else loss

    def _add_penalty(self, ce: Tensor, output: BottleneckOutput, num_items_in_batch: Tensor | int | None) -> Tensor:
        assert output.terms is not None
        terms = Terms(*(value.to(ce.device) for value in output.terms))
        num_labelled = output.label_mask.sum().to(ce.device)
        scale = per_token(self, num_labelled, num_items_in_batch)
        num_steps = 1 if num_items_in_batch is None else self.current_gradient_accumulation_steps
        is_mean_of_forward = self.settings.form in ("paper", "entropy")
        kl = terms.penalty / num_steps if is_mean_of_forward else terms.penalty * scale
        ce_bottleneck = terms.ce_sum * scale
        added = penalty(kl, ce_bottleneck, self._strength.alpha, self._strength.ce_weight)
        gauges = {"ce": ce, "ib/penalty": added} | self._terms_by_name(kl, ce_bottleneck)
        record(self, {name: value * num_steps for name, value in gauges.items()} | self._gauges(terms))
        if self.model.training and self._strength.needs_kl:
            self._observe(terms.kl_per_token, num_labelled)
        if self.settings.alpha == 0:
            return ce
        if self._gradient is not None:
            self._gradient.take(added)
        loss: Tensor = ce + added
        return loss

    def _terms_by_name(self, kl: Tensor, ce_bottleneck: Tensor) -> dict[str, Tensor]:
        return {"ib/entropy": kl} if self.settings.form == "entropy" else {"ib/kl": kl, "ib/ce": ce_bottleneck}

    def _gauges(self, terms: Terms) -> dict[str, Tensor | float]:
        gauges: dict[str, Tensor | float] = {"ib/alpha": self._strength.alpha, "ib/hidden_std": terms.hidden_std}
        if self.settings.form != "entropy":
            gauges["ib/kl_per_token"] = terms.kl_per_token
            gauges["ib/kl_per_dim"] = terms.kl_per_token / self.settings.bottleneck_dim
            gauges["ib/active_units"] = terms.active_units
            gauges["ib/accuracy"] = terms.accuracy
        if (target := self._strength.target) is not None:
            gauges["ib/kl_target"] = target
        if self.settings.form == "in_path":
            gauges["ib/replaced"] = self._forward.replaced
        return gauges

    def _observe(self, kl_per_token: Tensor, num_labelled: Tensor) -> None:
        """Tell the controller one forward's KL, over all processes."""
        local = torch.stack([kl_per_token * num_labelled, num_labelled.float()])
        kl_sum, num_tokens = self.accelerator.gather(local[None]).sum(dim=0).tolist()
        self._strength.observe(kl_sum, num_tokens)

    def _is_gauged_forward(self) -> bool:
        """Whether this forward's gradients are told apart: in a logging step, where one process holds the adapter."""
        next_step = self.state.global_step + 1
        is_logged = next_step % max(1, self.state.logging_steps) == 0 or (
            next_step == 1 and self.args.logging_first_step
        )
        return is_logged and self.settings.alpha > 0 and GradientShare.is_possible(self)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Save head and controller first: TRL's part ends by deleting older checkpoints."""
        folder = Path(self._get_output_dir(trial)) / f"checkpoint-{self.state.global_step}"
        folder.mkdir(parents=True, exist_ok=True)
        heads = whole_state(self.bottleneck)
        if self.args.should_save:
            torch.save({"heads": heads, "controller": self._strength.state_dict()}, folder / HEAD_FILE)
        super()._save_checkpoint(model, trial)

    def _save_rng_state(self, output_dir: str) -> None:
        """Save the generators, the noise's among them; each process its own."""
        super()._save_rng_state(output_dir)
        torch.save(self._generator.get_state(), Path(output_dir) / self._noise_file)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        """Restore model or adapter, and the head (DeepSpeed restores all of them by itself, and never comes here).

        Raises:
            UserError: the checkpoint has no head, or one of another shape.
        """
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        try:
            load_whole_state(self.bottleneck, self._read(resume_from_checkpoint, HEAD_FILE)["heads"])
        except RuntimeError:
            raise UserError(
                f"{resume_from_checkpoint}: its bottleneck has another shape. Resume with the layers and the "
                "bottleneck_dim it was trained with."
            ) from None

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Restore the generators, the noise's among them, and the controller."""
        super()._load_rng_state(checkpoint)
        if checkpoint is not None:
            self._strength.load_state_dict(self._read(checkpoint, HEAD_FILE)["controller"])
            self._generator.set_state(self._read(checkpoint, self._noise_file))

    def _read(self, checkpoint: str, name: str) -> Any:
        """One of the bottleneck's files.

        Raises:
            UserError: there is none.
        """
        path = Path(checkpoint) / name
        if not path.is_file():
            raise UserError(
                f"{checkpoint}: holds no bottleneck, so IBTrainer cannot resume from it. Start from another one."
            )
        return torch.load(path, map_location="cpu", weights_only=True)

    @property
    def _noise_file(self) -> str:
        return f"bottleneck_noise_{self.args.process_index}.pt"
