"""How examples of different lengths become batches: padded, sorted by length, or packed into one row.

Shapes: B examples of a batch, T positions of the longest, N labelled positions.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.trainer_pt_utils import LengthGroupedSampler

from ibft.errors import UserError
from ibft.models.tap import decoder_layers

__all__ = ["Batching", "SortsByLength", "choose_batching", "split_batch"]

Batching = Literal["padded", "sorted", "packed"]

MAX_MASKED_ATTENTION = {"cpu": 0.1, "other": 0.03}
"""Packing's largest share of attention in the layers' work, without a kernel that skips masked blocks.

A packed row of T positions costs T² attention where B rows cost T² / B. Measured on a CPU (SmolLM2-135M, float32,
B = 4, forward and backward of the layers, against four unpadded rows): share 0.04: 1.03 times as long; 0.08: 0.95;
0.17: 1.21; 0.33: 1.37. So 0.1 costs about what sorting leaves of the padding, and packing keeps the batches as they
were drawn. GPUs run masked attention at about a third of the rate of matrix products (not measured), hence the other.
"""


def choose_batching(
    wanted: Literal["auto"] | Batching,
    model: PreTrainedModel,
    lengths: Sequence[int],
    batch_size: int,
    device: torch.device,
) -> Batching:
    """Choose how examples become batches; `auto` depends on the model, the data and the device.

    `auto` is `packed` with flash attention, and where the data is so short that masked attention is a small share of
    the work; elsewhere it is `sorted`. A model that cannot keep packed examples apart gets `sorted`.

    Args:
        wanted: the recipe's `train.batching`.
        model: the base model, before adapters.
        lengths: tokens of each example.
        batch_size: examples of one forward.
        device: where the model will be trained; it may not be there yet.

    Raises:
        UserError: `packed` is asked for, and the model would mix the examples of a row.
    """
    if wanted == "packed" and not keeps_apart(model):
        raise UserError(
            f"train.batching is packed, and {type(model).__name__} lets examples in one row see each other. Use sorted."
        )
    if wanted != "auto":
        return wanted
    if batch_size == 1:  # nothing to pad
        return "padded"
    # Flash attention skips masked blocks: a packed row then costs no more than its examples.
    if not _has_flash_attention(model):
        row_length = batch_size * sum(lengths) / max(1, len(lengths))
        limit = MAX_MASKED_ATTENTION["cpu" if device.type == "cpu" else "other"]
        if attention_share(model, row_length) > limit:
            return "sorted"
    return "packed" if keeps_apart(model) else "sorted"


def attention_share(model: PreTrainedModel, row_length: float) -> float:
    """Return attention's multiplications over those of the layers' linear maps, for one row with masked blocks.

    Per layer and position 2 * row_length * (heads * head size) against the number of weights.
    """
    config = model.config.get_text_config()
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    blocks = decoder_layers(model)
    linear = [module for module in blocks.modules() if isinstance(module, nn.Linear)]
    # By its features, since a quantized weight has another shape.
    num_weights = sum(module.in_features * module.out_features for module in linear)
    num_weights = num_weights or sum(parameter.numel() for parameter in blocks.parameters())
    return float(2 * row_length * config.num_attention_heads * head_size * len(blocks) / num_weights)


@torch.no_grad()
def keeps_apart(model: PreTrainedModel) -> bool:
    """Decide by a trial on four tokens whether the model keeps the examples of a packed row apart.

    What cannot be tried here (weights on the meta device or in ZeRO-3's shards, flash attention without a GPU) passes
    if it is a model of transformers itself.
    """
    # Transformers' own models read the borders from position ids that restart. Other code may accept these and still
    # let every token see the whole row, so the signature alone does not suffice.
    backbone = model.base_model
    if "position_ids" not in inspect.signature(backbone.forward).parameters:
        return False
    is_elsewhere = any(parameter.is_meta or hasattr(parameter, "ds_id") for parameter in model.parameters())
    if is_elsewhere or (_has_flash_attention(model) and model.device.type == "cpu"):
        return type(model).__module__.startswith("transformers.")
    position_ids = torch.tensor([[0, 1, 0, 1]], device=model.device)
    rows = torch.tensor([[1, 2, 3, 4], [4, 3, 3, 4]], device=model.device)
    first, second = (
        backbone(row[None], position_ids=position_ids, use_cache=False).last_hidden_state[:, 2:].float() for row in rows
    )
    return torch.allclose(first, second, rtol=1e-3, atol=1e-4)


def _has_flash_attention(model: PreTrainedModel) -> bool:
    return str(model.config._attn_implementation).rpartition("/")[2].startswith("flash")


class SeededLengthSampler(LengthGroupedSampler):  # type: ignore[misc]
    """Transformers' groups of similar lengths, shuffled, in an order that depends on the seed and the epoch alone.

    Args:
        trainer: its state has the epoch, also after resuming.
        lengths: tokens of each example.
        group_size: examples of one optimizer step, on all processes, which wait for each other.
        seed: random seed of the run.
    """

    def __init__(self, trainer: SortsByLength, lengths: list[int], group_size: int, seed: int) -> None:
        super().__init__(group_size, lengths=lengths)
        self._trainer, self._seed = trainer, seed

    def __iter__(self) -> Iterator[int]:
        """Yield one epoch's indices."""
        epoch = int(self._trainer.state.epoch or 0)
        # The trainer's own sampler draws from the global generator: an objective that draws from it, too, would see
        # other batches, and a resumed run another order.
        self.generator = torch.Generator().manual_seed(self._seed + epoch)
        indices = list(super().__iter__())
        groups = [indices[start : start + self.batch_size] for start in range(0, len(indices), self.batch_size)]
        num_shuffled = max(0, len(indices) // self.batch_size - 1)  # a last group that is not full stays the last
        # Transformers goes from the longest to the shortest of some fifty batches, over and over: a short run would
        # never see the short ones. The longest example's group stays first, so that too little memory shows at once.
        order = [0, *(1 + torch.randperm(num_shuffled, generator=self.generator)).tolist()]
        order += range(len(order), len(groups))
        return iter([index for group in order for index in groups[group]])


class SortsByLength:
    """Mixed into a Trainer: with `batching` set to `sorted`, a batch holds examples of similar lengths."""

    batching: Batching = "padded"
    state: Any
    args: Any

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Any:
        if self.batching != "sorted":
            return super()._get_train_sampler(train_dataset)  # type: ignore[misc]
        dataset = self.train_dataset if train_dataset is None else train_dataset  # type: ignore[attr-defined]
        lengths = [len(ids) for ids in dataset.with_format("numpy")["input_ids"]]
        group_size = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        return SeededLengthSampler(self, lengths, group_size, self.args.seed)


def split_batch(inputs: dict[str, Any]) -> list[list[int]]:
    """Return the token ids of each example of a batch, padded (B, T) or packed (1, sum of lengths)."""
    input_ids: Tensor = inputs["input_ids"]
    if "attention_mask" in inputs:
        rows = zip(input_ids, inputs["attention_mask"].bool(), strict=True)
        return [row[mask].tolist() for row, mask in rows]
    starts = (inputs["position_ids"][0] == 0).nonzero().flatten().tolist()
    row: list[int] = input_ids[0].tolist()
    return [row[start:end] for start, end in zip(starts, [*starts[1:], len(row)], strict=True)]
