"""The train stage: fine-tune one arm and keep its adapter.

train/<arm>/adapter/       a plain PEFT adapter: transformers, PEFT and vLLM load it without this package
train/<arm>/log.jsonl      what the trainer logged (rows.TrainingLog)
train/<arm>/summary.json   TrainingSummary
"""

from __future__ import annotations

import shutil

import msgspec

from ibft import progress
from ibft.data.tokenize import tokenize_pairs
from ibft.data.training import data_digest, load_training_pairs
from ibft.errors import UserError
from ibft.models import load_tokenizer, num_layers
from ibft.recipe import IBObjective, Objective, Recipe
from ibft.rows import write_atomically
from ibft.runs import RunFolder, read_record

__all__ = ["TrainingSummary", "check_objectives", "train"]


class TrainingSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One arm's training in numbers.

    `examples` and `tokens` count the data that is left after `skipped` (reason to number), prompts included;
    `steps` are optimizer steps; `seconds` sum over interrupted attempts; `trainable_parameters` include the
    bottleneck's head; `final_loss` is the last logged value (an average over `train.log_every` steps).
    """

    objective: str
    steps: int
    examples: int
    tokens: int
    skipped: dict[str, int]
    seconds: float
    peak_memory_mib: float
    trainable_parameters: int
    final_loss: float | None


def check_objectives(recipe: Recipe) -> None:
    """Check what of the objectives depends on the model, before hours are spent on an earlier stage or arm.

    Raises:
        UserError: the model cannot be found, or an objective's layer is out of its range.
    """
    for objective in recipe.objective:
        if isinstance(objective, IBObjective) and objective.layer >= (count := num_layers(recipe.model)):
            raise UserError(
                f"objective: the arm {objective.arm} has layer {objective.layer}, and {recipe.model.name} has {count} "
                f"layers: layer must be from 1 to {count - 1}."
            )


def train(recipe: Recipe, run: RunFolder, objective: Objective) -> None:
    """Train the arm `objective.arm`, or go on from its last complete checkpoint; nothing is done twice.

    Raises:
        UserError: model or data cannot be loaded, a setting does not fit the model, the loss is not finite,
            or memory or disk is full. What was trained so far stays in the work folder.
    """
    data = recipe.data
    stage = run.stage(
        f"train/{objective.arm}",
        {
            "model": recipe.model,
            "prompt": recipe.prompt,
            # Not the whole section: another control set does not change what is trained.
            "data": {
                "train": data.train,
                "split": data.split,
                "max_tokens": data.max_tokens,
                "max_examples": data.max_examples,
            },
            "data_digest": data_digest(data.train),
            "train": recipe.train,
            "objective": objective,
            "seed": recipe.seed,
        },
    )
    if stage.is_complete:
        return
    with stage.work() as folder:
        tokenizer = load_tokenizer(recipe.model)
        tokenized = tokenize_pairs(load_training_pairs(data), tokenizer, recipe.prompt, data.max_tokens)
        with progress.task("Loading TRL", total=None):
            from ibft.training.fit import fit

        result = fit(recipe, objective, tokenizer, tokenized.examples, folder)
        record = read_record(folder)
        summary = TrainingSummary(
            objective=str(type(objective).__struct_config__.tag),
            steps=result.steps,
            examples=len(tokenized.examples),
            tokens=sum(len(example.input_ids) for example in tokenized.examples),
            skipped=tokenized.num_skipped,
            seconds=round(result.seconds + (record.seconds if record else 0.0), 2),
            peak_memory_mib=round(result.peak_memory_mib, 1),
            trainable_parameters=result.trainable_parameters,
            final_loss=result.final_loss,
        )
        write_atomically(folder / "summary.json", _pretty(summary))
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)


def _pretty(summary: TrainingSummary) -> bytes:
    return msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n"
