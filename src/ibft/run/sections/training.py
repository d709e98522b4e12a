"""The section of a recipe about training: steps, optimizer, adapter, and what is measured meanwhile."""

from __future__ import annotations

from typing import Literal

from ibft.errors import UserError
from ibft.run.sections.evaluation import EvaluateConfig
from ibft.settings import Count, Fraction, NonNegative, Positive, Section

__all__ = ["LoraConfig", "TrainConfig"]


class LoraConfig(Section, frozen=True):
    """The adapter (paper, appendix A, and the reference code: rank 32, alpha 32, dropout 0.05, all linear).

    `rslora` divides alpha by √rank instead of rank (arXiv 2312.03732). `dora` also trains the norm of each row of the
    adapted weights (arXiv 2402.09353). `modules_to_save` are trained whole and saved in the adapter, such as
    `[embed_tokens, lm_head]` where tokens are new to the model.
    """

    rank: Count = 32
    alpha: Positive = 32.0
    dropout: Fraction = 0.05
    target_modules: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    rslora: bool = False
    dora: bool = False
    modules_to_save: tuple[str, ...] = ()


class TrainConfig(Section, frozen=True):
    """Optimization, the same for every arm. Defaults: paper, appendix A; schedule and clipping: reference code.

    `max_steps` (optimizer steps) wins over `epochs`. `batch_size` counts examples per device and forward.
    `max_grad_norm: 0` turns clipping off. `optimizer` and `report_to` take the names that transformers has; a JSONL log
    is always written.
    `lora: null` trains all weights.

    `evaluate_problems` are answered and judged every `evaluate_problems_every` optimizer steps, or once per epoch where
    that is null; this changes nothing in the training. They should be other problems than the report's.

    With `data.validation`, the cross-entropy of the held-out tokens is measured after every `evaluate_every` steps, and
    after the last; null is the end of each epoch. `early_stopping` ends training after this many evaluations without a
    lower value. `keep: best` keeps the weights of the step with the lowest one, and `last` those of the last step.

    batching: how a batch of examples of different lengths is computed.
        padded  each example is padded to the longest of its batch, as TRL does by default.
        sorted  padded, of examples of similar lengths (transformers' length groups, shuffled, in an order that the
                seed alone decides, the same for every arm): little padding, but other batches than `padded` has.
        packed  the batches of `padded`, each as one row without padding; no example sees another. Losses and gradients
                are those of `padded`, except for what counts padding: the KL of `form: paper`.
        auto    packed with `model.attention: flash_attention_2` and where attention is little of the work (short
                examples, wide models: measured on a CPU, docs/performance.md); else sorted.
    """

    epochs: Positive = 3.0
    max_steps: Count | None = None
    batch_size: Count = 4
    gradient_accumulation: Count = 1
    batching: Literal["auto", "padded", "sorted", "packed"] = "auto"
    optimizer: str = "adamw_torch_fused"
    learning_rate: Positive = 5e-5
    schedule: Literal["cosine", "linear", "constant", "constant_with_warmup"] = "cosine"
    warmup_ratio: Fraction = 0.1
    weight_decay: NonNegative = 0.0
    max_grad_norm: NonNegative = 1.0
    gradient_checkpointing: bool = False
    log_every: Count = 5
    save_every: Count = 100
    evaluate_every: Count | None = None
    early_stopping: Count | None = None
    keep: Literal["last", "best"] = "last"
    report_to: tuple[str, ...] = ()
    lora: LoraConfig | None = LoraConfig()
    evaluate_problems: EvaluateConfig | None = None
    evaluate_problems_every: Count | None = None

    def __post_init__(self) -> None:
        if self.evaluate_problems is None and self.evaluate_problems_every is not None:
            raise UserError(
                f"train.evaluate_problems_every is {self.evaluate_problems_every}, and there are no "
                "train.evaluate_problems. Give them (source, limit, tasks), or leave it out."
            )
