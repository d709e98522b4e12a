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
from ibft.errors import UserError
from ibft.objectives.ib import bottleneck_loss, total_loss
from ibft.training.config import IBConfig
from ibft.training.forward import BottleneckForward, BottleneckOutput, OutputCapture

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["IBConfig", "IBTrainer"]

HEAD_NAME = "ibft_bottleneck"
HEAD_FILE = "bottleneck.pt"


class IBTrainer(SFTTrainer):  # type: ignore[misc]
    """Fine-tune with CE + alpha * (KL + beta * CE through the bottleneck); takes what `trl.SFTTrainer` takes.

    The variational head is trained with the model and saved in checkpoints, but is no part of the exported
    model or adapter, which load without this package.

    Scale under gradient accumulation and several processes: CE and the cross-entropy through the bottleneck
    are sums over labelled tokens divided by the number of labelled tokens of the whole optimizer step, as in
    TRL, so small accumulated batches weigh like one large one. The KL is a mean over the positions of one
    forward (the reference code's); it is averaged over accumulation steps and processes, so positions of a
    shorter forward weigh more.

    Logged beside TRL's metrics, each on the scale of `loss` (an average over accumulation steps): `ce`,
    `ib/kl` (nats a position and dimension), `ib/ce` (nats a labelled token), `ib/loss` = kl + beta * ce, so
    `loss` = `ce` + alpha * `ib/loss`; and `ib/hidden_std`, the spread of the hidden state the head reads.

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
        super().__init__(model, args, *arguments, **keywords)
        if self.compute_loss_func is not None:
            raise UserError("compute_loss_func is set: it would replace the loss that IBTrainer extends. Leave it out.")
        if self.optimizer is not None:
            raise UserError(
                "optimizers is set: an optimizer made before the trainer cannot hold the bottleneck's head. "
                "Leave it out and use optimizer_cls_and_kwargs."
            )
        self._attach_bottleneck(args)

    def _attach_bottleneck(self, args: IBConfig) -> None:
        """Add head and hooks. After `super().__init__`: PEFT would freeze or wrap a head that was there before."""
        is_adapter = isinstance(self.model, PeftModel)
        base: PreTrainedModel = self.model.get_base_model() if is_adapter else self.model
        if is_adapter and any(getattr(config, "bias", "none") == "all" for config in self.model.peft_config.values()):
            raise UserError('the adapter\'s bias is "all": it would save the bottleneck\'s biases too. Use "none".')
        layers = decoder_layers(base)
        if args.layer >= len(layers):
            raise UserError(
                f"layer is {args.layer}: this model has {len(layers)} layers, so layer must be from 1 to "
                f"{len(layers) - 1}. The paper takes two thirds of the depth: {max(1, 2 * len(layers) // 3)} here."
            )
        lm_head = base.get_output_embeddings()
        if lm_head is None:
            raise UserError(f"model: {type(base).__name__} has no lm_head. Use a causal language model.")
        device = next(layers[args.layer].parameters()).device
        # Generators of our own: drawing from the global one would shift dropout and data order against SFTTrainer.
        self._noise = torch.Generator(device).manual_seed(args.seed + 1 + args.process_index)
        head = VariationalHead(
            base.config.get_text_config().hidden_size,
            args.bottleneck_dim,
            args.logvar_min,
            args.logvar_max,
            torch.Generator().manual_seed(args.seed),
        ).to(device)
        self.bottleneck = head
        self.model.add_module(HEAD_NAME, head)
        if not is_adapter:
            ignored = {f"{HEAD_NAME}.{name}" for name in head.state_dict()}
            base._keys_to_ignore_on_save = ignored | set(base._keys_to_ignore_on_save or ())
        # alpha = 0: gauges only. Without gradients the head stays as it is and takes no share of the clipping norm.
        self._forward = BottleneckForward(
            self.model, layers[args.layer], lm_head, head, self._noise, with_gradient=args.alpha > 0
        )

    def remove_bottleneck(self) -> None:
        """Take head and hooks off the model, which is then as TRL and PEFT made it. Training is over after this."""
        self._forward.remove()
        delattr(self.model, HEAD_NAME)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """TRL's loss of one batch, plus the bottleneck's; a scalar, with the outputs if asked for."""
        capture = OutputCapture(model)
        result = super().compute_loss(
            capture, inputs, return_outputs=return_outputs, num_items_in_batch=num_items_in_batch
        )
        ce, outputs = result if return_outputs else (result, None)
        assert capture.output is not None, "TRL did not call the model for its loss"
        loss = self._add_bottleneck_loss(ce, capture.output, num_items_in_batch)
        return (loss, outputs) if return_outputs else loss

    def _add_bottleneck_loss(
        self, ce: Tensor, output: BottleneckOutput, num_items_in_batch: Tensor | int | None
    ) -> Tensor:
        assert output.kl is not None
        assert output.ce_bottleneck_sum is not None
        assert output.hidden_std is not None
        if num_items_in_batch is None:
            num_steps, num_tokens = 1, output.label_mask.sum()
        else:
            num_steps, num_tokens = self.current_gradient_accumulation_steps, torch.as_tensor(num_items_in_batch)
        ce_bottleneck = output.ce_bottleneck_sum.to(ce.device) / num_tokens.to(ce.device).clamp(min=1)
        if num_items_in_batch is not None and self.args.average_tokens_across_devices:
            # As TRL does with its own: the tokens of every process are counted, and DDP averages gradients.
            ce_bottleneck = ce_bottleneck * self.accelerator.num_processes
        kl = output.kl.to(ce.device) / num_steps
        self._record(
            {
                "ce": ce * num_steps,
                "ib/kl": kl * num_steps,
                "ib/ce": ce_bottleneck * num_steps,
                "ib/loss": bottleneck_loss(kl, ce_bottleneck, self.args.beta) * num_steps,
                "ib/hidden_std": output.hidden_std.to(ce.device),
            }
        )
        if self.args.alpha == 0:
            return ce
        loss: Tensor = total_loss(ce, kl, ce_bottleneck, self.args.alpha, self.args.beta)
        return loss

    def _record(self, gauges: dict[str, Tensor]) -> None:
        """Hand the gauges to TRL's log, averaged over processes."""
        local = torch.stack([value.detach().float() for value in gauges.values()])
        means = self.accelerator.gather(local[None]).mean(dim=0).tolist()
        mode = "train" if self.model.training else "eval"
        for name, value in zip(gauges, means, strict=True):
            self._metrics[mode][name].append(value)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Save the head and its noise first: TRL's part ends by deleting older checkpoints."""
        folder = Path(self._get_output_dir(trial)) / f"checkpoint-{self.state.global_step}"
        folder.mkdir(parents=True, exist_ok=True)
        if self.args.should_save:
            torch.save(self.bottleneck.state_dict(), folder / HEAD_FILE)
        torch.save(self._noise.get_state(), folder / self._noise_file)
        super()._save_checkpoint(model, trial)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        """Restore model or adapter, the head and its noise.

        Raises:
            UserError: the checkpoint has no head, or one of another shape.
        """
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        folder = Path(resume_from_checkpoint)
        if not (folder / HEAD_FILE).is_file() or not (folder / self._noise_file).is_file():
            raise UserError(
                f"{folder}: holds no bottleneck, so IBTrainer cannot resume from it. Start from another one."
            )
        try:
            self.bottleneck.load_state_dict(torch.load(folder / HEAD_FILE, map_location="cpu", weights_only=True))
        except RuntimeError:
            raise UserError(
                f"{folder}: its bottleneck has another shape. Resume with the bottleneck_dim it was trained with."
            ) from None
        self._noise.set_state(torch.load(folder / self._noise_file, map_location="cpu", weights_only=True))

    @property
    def _noise_file(self) -> str:
        return f"bottleneck_noise_{self.args.process_index}.pt"
