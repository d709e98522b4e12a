"""Fine-tune a small model on a world's texts, with the project's own trainer and nothing around it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple

import datasets
from msgspec import Meta
from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed
from transformers.trainer_callback import PrinterCallback
from trl import SFTConfig

from ibft.errors import UserError
from ibft.lab.batches import split_texts
from ibft.objectives.base import Objective
from ibft.run.sections import LoraConfig, ModelConfig
from ibft.settings import Count, Positive, Section
from ibft.training.adapter import lora_config
from ibft.training.trainer import ObjectiveTrainer
from ibft.worlds.pretraining import Text

__all__ = ["FinetuneConfig", "Finetuned", "Schedule", "finetune"]

Schedule = Literal["constant", "linear"]

_WARMUP_STEPS = 10
_LOGGED_STEPS = 10
_MAX_GRAD_NORM = 1.0


class FinetuneConfig(Section, frozen=True):
    """How a model is fine-tuned; AdamW without weight decay, gradients clipped at 1.

    steps: of the optimizer.
    batch_size: texts of a step; the last batch of an epoch has what is left.
    learning_rate: reached after 10 steps of warm-up, which begin at 0.
    schedule: constant from there, or falling to 0.
    seed: of the order of the data, an adapter's first weights, and an objective's noise.
    lora: an adapter on the linear layers; None trains all weights.
    """

    steps: Count = 300
    batch_size: Count = 32
    learning_rate: Positive = 1e-3
    schedule: Schedule = "constant"
    seed: Annotated[int, Meta(ge=0)] = 0
    lora: LoraConfig | None = None


class Finetuned(NamedTuple):
    """The trained model, in evaluation mode, and its last training loss.

    `loss` is the cross-entropy of the trained tokens without what an objective adds, in nats per token, averaged over
    the last logged steps: ten, or all of fewer. It is NaN or infinite where training diverged.
    """

    model: PreTrainedModel
    loss: float


class _Trainer(ObjectiveTrainer):
    labelled_only = True


def finetune(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[Text],
    objective: Objective,
    config: FinetuneConfig,
) -> Finetuned:
    """Train a model on the completions of some texts, each with its end token.

    Sets the global seeds, as every trainer of transformers does: the same arguments give the same weights, on one
    thread.

    Args:
        model: a causal language model in float32, which is changed.
        tokenizer: the model's.
        texts: prompts with their completions.
        objective: what is trained for.
        config: the optimization. An adapter is merged into the model in the end.

    Raises:
        UserError: the objective does not fit the model or the adapter, or needs the scores of a scan.
    """
    if objective.weighs_examples:
        raise UserError(
            f"{objective.arm}: it weighs examples by a scan's scores, which the lab does not have. Leave it out."
        )
    set_seed(config.seed)
    with tempfile.TemporaryDirectory() as folder:
        trainer = _Trainer(
            model,
            _arguments(config, objective, folder, is_on_cpu=model.device.type == "cpu"),
            objective=objective,
            train_dataset=_dataset(tokenizer, texts),
            processing_class=tokenizer,
            peft_config=lora_config(config.lora, ModelConfig(name=model.name_or_path), model),
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    trainer.remove_bottleneck()
    trained = trainer.model if config.lora is None else trainer.model.merge_and_unload()
    (*_, last) = (entry for entry in trainer.state.log_history if "loss" in entry)
    return Finetuned(trained.eval(), float(last.get("ce", last["loss"])))


def _arguments(config: FinetuneConfig, objective: Objective, folder: str, *, is_on_cpu: bool) -> SFTConfig:
    arguments: dict[str, Any] = {
        "output_dir": folder,
        "seed": config.seed,
        "max_steps": config.steps,
        "per_device_train_batch_size": config.batch_size,
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": "constant_with_warmup" if config.schedule == "constant" else "linear",
        "warmup_steps": _WARMUP_STEPS,
        "optim": "adamw_torch_fused",
        "weight_decay": 0.0,
        "max_grad_norm": _MAX_GRAD_NORM,
        "use_cpu": is_on_cpu,
        "bf16": False,
        "gradient_checkpointing": False,
        "max_length": None,
        "dataloader_pin_memory": not is_on_cpu,
        "logging_steps": min(_LOGGED_STEPS, config.steps),
        "logging_nan_inf_filter": False,  # on, it would log another value where the loss is not finite
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }
    return SFTConfig(**arguments, **objective.trl_arguments(1))


def _dataset(tokenizer: PreTrainedTokenizerBase, texts: Sequence[Text]) -> datasets.Dataset:
    prompts, completions = split_texts(tokenizer, texts)
    pairs = list(zip(prompts, completions, strict=True))
    return datasets.Dataset.from_dict(
        {
            "input_ids": [[*prompt, *completion] for prompt, completion in pairs],
            "labels": [[-100] * len(prompt) + completion for prompt, completion in pairs],
        }
    )
