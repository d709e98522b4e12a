"""What evaluation reports as its loss, whatever is trained for: the cross-entropy of the trained tokens, held out.

`eval_loss` decides which checkpoint is the best and when training stops, so it must not hold what an objective adds:
with the bottleneck's moving penalty in it, `eval_loss` rose from 7.02 to 7.99 while the cross-entropy fell from 6.25 to
5.27, and early stopping ended training at step 6.

Shapes: B examples of a batch, T positions.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from trl import SFTTrainer

from ibft.training.forward import LossForward, LossOutput
from ibft.training.undisturbed import undisturbed

__all__ = ["HeldOutTrainer", "TokenMean"]


class TokenMean:
    """Gathers the cross-entropy of an evaluation's trained tokens, over all batches and processes.

    Transformers averages the means of batches, so that a token of a short batch weighs more than one of a long batch.

    Args:
        trainer: whose accelerator gathers.
    """

    def __init__(self, trainer: SFTTrainer) -> None:
        self._accelerator = trainer.accelerator
        is_packed = trainer.args.packing if trainer.args.eval_packing is None else trainer.args.eval_packing
        # A row of TRL's packing holds several examples, so the last batch's repeated rows cannot be told apart.
        self._drops_repeated = self._accelerator.num_processes > 1 and not is_packed
        self._totals: list[Tensor] = []

    def add(self, inputs: dict[str, Any], output: LossOutput) -> None:
        """Add one batch."""
        values = torch.stack([-output.log_probs.detach().float(), output.label_mask.float()], dim=-1)
        if self._drops_repeated:
            # The last batch of each process is filled up with examples that were there before.
            totals_B2 = self._accelerator.gather_for_metrics(_by_example(values, inputs))
        else:
            totals_B2 = self._accelerator.gather(values.sum(dim=(0, 1))[None])
        self._totals.append(totals_B2)

    def value(self) -> float:
        """Return the mean in nats per token; NaN where no token is trained. The same on every process."""
        loss, num_tokens = torch.cat(self._totals).cpu().double().sum(dim=0).tolist() if self._totals else (0.0, 0.0)
        return loss / num_tokens if num_tokens else math.nan


def _by_example(values: Tensor, inputs: dict[str, Any]) -> Tensor:
    """Return the sums (B, 2) over each example of a batch, whose examples are rows, or end to end in one row."""
    if "attention_mask" in inputs:
        return values.sum(dim=1)
    # Padding behind the last example has position 0, too.
    positions_T = inputs["position_ids"][0]
    starts_T = (positions_T == 0) & (positions_T.roll(-1) == 1)
    number_T = (starts_T.cumsum(dim=0) - 1).clamp(min=0)
    # A position's loss is that of the next token, and the last position has none.
    return values.new_zeros(int(starts_T.sum()), 2).index_add_(0, number_T[-values.shape[1] :], values[0])


class HeldOutTrainer(SFTTrainer):  # type: ignore[misc]
    """TRL's trainer, whose evaluation measures the trained tokens' cross-entropy and leaves training as it was.

    `eval_loss` is in nats per token, over all trained tokens of the data alike: without an objective's penalty, loss or
    weights, without dropout, and without the bottleneck, as the saved model is used.
    """

    _forward: LossForward
    _is_removed = False  # `_forward`, from the model
    _held_out: TokenMean | None = None

    loaded_step: int | None = None
    """The step whose checkpoint was loaded when training ended; None where the weights are those of the last step."""

    def evaluate(self, *arguments: Any, **keywords: Any) -> dict[str, float]:
        """Evaluate; training continues bit for bit as if it had not."""
        with undisturbed(self.model):
            metrics: dict[str, float] = super().evaluate(*arguments, **keywords)
        # FSDP2 shards its outermost weights again in the backward, which there is none of; until then, no checkpoint
        # can be loaded into them.
        for module in self.model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()
        return metrics

    def _load_best_model(self) -> None:
        """Load the best checkpoint, unless training has ended with the best step."""
        if self.state.best_global_step == self.state.global_step:
            return
        # By its name: the path in a checkpoint's state is that of the attempt that wrote it. A step that was not saved,
        # or is in the folder of another trainer, leaves the path that transformers has.
        best = Path(self.args.output_dir) / f"checkpoint-{self.state.best_global_step}"
        if best.is_dir():
            self.state.best_model_checkpoint = str(best)
        super()._load_best_model()
        self.loaded_step = int(Path(self.state.best_model_checkpoint).name.removeprefix("checkpoint-"))

    def evaluation_loop(self, *arguments: Any, metric_key_prefix: str = "eval", **keywords: Any) -> Any:
        """Run over a data set, and replace the loss by the mean over its tokens."""
        if self._is_removed:
            return super().evaluation_loop(*arguments, metric_key_prefix=metric_key_prefix, **keywords)
        self._held_out = TokenMean(self)
        try:
            with self._forward.without_objective():
                output = super().evaluation_loop(*arguments, metric_key_prefix=metric_key_prefix, **keywords)
            output.metrics[f"{metric_key_prefix}_loss"] = self._held_out.value()
        finally:
            self._held_out = None
        return output
