"""The train stage: fine-tune one arm and keep its adapter.

train/<arm>/adapter/       a plain PEFT adapter: transformers, PEFT and vLLM load it without this package
                           (model/, where all weights are trained), and its model card
train/<arm>/log.jsonl      what the trainer logged (rows.TrainingLog)
train/<arm>/summary.json   TrainingSummary
train/<arm>/evaluations.jsonl  with `train.evaluate_problems`: answers and verdicts by step (`EvaluatedAnswer`)
train/<arm>/skipped.jsonl  the rows that were left out, and why (data.skipped.SkippedRow)
train/<arm>/validation.jsonl  with a share as validation data: the rows that are held out (validation.HeldOutRow)
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec

from ibft import progress
from ibft.artifacts.json_lines import pretty_json, read_rows, write_atomically, write_rows
from ibft.artifacts.rows import TrainingLog
from ibft.artifacts.score_table import SCORES_FILE, read_batches
from ibft.artifacts.training import TrainingSummary
from ibft.data.skipped import SkippedRow, counted, say_skipped
from ibft.data.tokens import TokenizedExample, encode_pairs
from ibft.data.training import stream_training
from ibft.errors import UserError
from ibft.models.loading import limits_of, load_config, load_tokenizer, resolve_device, resolve_model_path
from ibft.models.processes import decide
from ibft.objectives.base import Objective
from ibft.objectives.bottleneck.adaptive import compression_weights
from ibft.pages.model_card import Weights, hub_names, model_card
from ibft.run.folder import RunFolder
from ibft.run.processes import is_main_process, num_processes
from ibft.run.provenance import provenance
from ibft.run.recipe import Recipe
from ibft.run.sections import TrainConfig
from ibft.run.stage import Stage, read_record
from ibft.stages.evaluating import evaluation_of, order_log, say_complete
from ibft.stages.identity import train_inputs
from ibft.stages.skeleton import complete
from ibft.stages.validation import divide, grouping_of
from ibft.text.encoding import codec_of

__all__ = ["SKIPPED_FILE", "check_objectives", "check_settings", "train"]

SKIPPED_FILE = "skipped.jsonl"


def check_objectives(recipe: Recipe) -> None:
    """Check what of the objectives depends on the model, before hours are spent on an earlier stage or arm.

    Raises:
        UserError: the model cannot be found, an objective's layer is out of its range, or it needs an adapter.
    """
    for objective in recipe.objective:
        if objective.needs_base and recipe.train.lora is None:
            raise UserError(
                f"objective: the arm {objective.arm} compares with the base model, which is the model without its "
                "adapter, and train.lora is null. Give train.lora a rank, or leave the arm out."
            )
        if objective.layers:
            try:
                objective.layer_indices(load_config(recipe.model).num_hidden_layers)
            except UserError as error:
                raise UserError(f"objective: the arm {objective.arm}: {error}") from None
        if objective.weighs_examples and recipe.scan.max_examples is not None:
            raise UserError(
                f"objective: the arm {objective.arm} is adaptive, which needs a score of every training example: "
                "set scan.max_examples: null."
            )


def check_settings(recipe: Recipe) -> None:
    """Check what of `train` depends on this machine and on the model's shape; no weights are read.

    Raises:
        UserError: the optimizer does not run here, or PEFT refuses the adapter's settings.
    """
    lora = recipe.train.lora
    if lora is not None and (lora.dora or lora.rslora or lora.modules_to_save):
        from ibft.training.adapter import check_adapter

        check_adapter(lora, recipe.model)
    # The default runs everywhere, and needs no import of transformers' trainer to be known for it. Of several
    # processes, each would take memory on the first GPU.
    if recipe.train.optimizer != TrainConfig().optimizer and num_processes() == 1:
        from ibft.training.optimizer import check_optimizer

        check_optimizer(recipe.train.optimizer, resolve_device(recipe.model))


def train(recipe: Recipe, run: RunFolder, objective: Objective) -> None:
    """Train the arm `objective.arm`, or resume from its last complete checkpoint; nothing is done twice.

    Raises:
        UserError: model or data cannot be loaded, a setting does not fit the model, the loss is not finite,
            or memory or disk is full. What was trained so far stays in the work folder.
    """
    complete(
        recipe,
        lambda recipe: _open(recipe, run, objective),
        lambda recipe, folder: _make(recipe, run, objective, folder),
        # Not before the result has its name: a checkpoint that was deleted by half would be resumed from.
        after=lambda stage: shutil.rmtree(stage.path / "checkpoints", ignore_errors=True),
    )


def _make(recipe: Recipe, run: RunFolder, objective: Objective, folder: Path) -> None:
    decide(lambda: resolve_model_path(recipe.model))  # the main process dequantizes, the others find it done
    tokenizer = load_tokenizer(recipe.model)
    limits, codec = limits_of(load_config(recipe.model)), codec_of(recipe.prompt, tokenizer)
    unreadable: list[SkippedRow] = []
    grouping = grouping_of(recipe.data)
    rows = stream_training(recipe.data, unreadable)
    pairs = (example.pair for example in (grouping.watch(rows) if grouping else rows))
    skips = recipe.data.on_bad_row == "skip"
    tokenized = encode_pairs(pairs, codec, recipe.data.max_tokens, limits, skips_refused=skips, unreadable=unreadable)
    skipped = [*unreadable, *tokenized.skipped]
    if is_main_process():
        say_skipped(len(tokenized.examples), skipped, run.path / "train" / objective.arm / SKIPPED_FILE)
        write_rows(folder / SKIPPED_FILE, skipped)
    examples, validation, held_out = divide(recipe, tokenized.examples, grouping, codec, limits, folder)
    # A padding token that the loader added to a tokenizer without one may have no row in the embedding.
    if tokenizer.pad_token_id >= limits.num_embeddings:
        tokenizer.pad_token = tokenizer.eos_token
    weighs = objective.weighs_examples
    weights = compression_weights(_scores(recipe, run, examples)) if weighs else None
    with progress.task("Loading TRL", total=None):
        from ibft.training.fit import fit

    evaluation = evaluation_of(recipe, folder)
    result = fit(recipe, objective, tokenizer, examples, folder, weights, evaluation, validation=validation)
    if not is_main_process():
        return
    if evaluation is not None:
        order_log(folder)
    record = read_record(folder)
    summary = TrainingSummary(
        objective=objective.name,
        steps=result.steps,
        processes=num_processes(),
        examples=len(examples),
        tokens=sum(len(example.input_ids) for example in examples),
        skipped=dict(counted(skipped)),
        # The record has the time of interrupted attempts.
        seconds=round(result.seconds + (record.seconds if record else 0.0), 2),
        peak_memory_mib=round(result.peak_memory_mib, 1),
        trainable_parameters=result.trainable_parameters,
        batching=result.batching,
        final_loss=result.final_loss,
        routed_experts=result.routed_experts,
        alarms=objective.alarms(list(read_rows(folder / "log.jsonl", TrainingLog)), result.steps),
        held_out=held_out
        and msgspec.structs.replace(
            held_out, best_step=result.best_step, best_loss=result.best_loss, kept_step=result.kept_step
        ),
        stopped="early stopping" if result.is_early else "all steps",
    )
    write_atomically(folder / "summary.json", pretty_json(summary))
    _write_card(recipe, objective, summary, folder)


def _scores(recipe: Recipe, run: RunFolder, examples: Sequence[TokenizedExample]) -> list[float | None]:
    """Return the headline score of each example in the scan; None where the scan says why there is none."""
    scan = run.path / "scan"
    scores: dict[int, float | None] = {}
    for batch in read_batches(scan / SCORES_FILE, ["index"], "train", [recipe.scan.score]):
        scores |= zip(batch["index"], batch[recipe.scan.score], strict=True)
    missing = [example for example in examples if example.place not in scores]
    if missing:
        raise UserError(
            f"objective.adaptive: {len(missing)} of {len(examples)} training examples are not in the scan (the first: "
            f"{missing[0].id}). Set scan.max_examples: null, then run `ibft scan` again."
        )
    return [scores[example.place] for example in examples]


def _write_card(recipe: Recipe, objective: Objective, summary: TrainingSummary, folder: Path) -> None:
    """Replace PEFT's template of a model card."""
    weights: Weights = "adapter" if recipe.train.lora else "model"
    versions = provenance(recipe.seed)["versions"]
    card = model_card(recipe, objective, summary, versions, hub_names(recipe), weights=weights)
    write_atomically(folder / weights / "README.md", card)


def _open(recipe: Recipe, run: RunFolder, objective: Objective) -> Stage:
    scan = run.record("scan").identity if objective.weighs_examples else None
    stage = run.stage(f"train/{objective.arm}", train_inputs(recipe, objective, scan))
    say_complete(recipe, stage)
    return stage
