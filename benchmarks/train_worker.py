"""One contender of benchmarks/train.py, in a process of its own: makes a step whenever a line arrives on stdin.

Writes one JSON line a step to stdout, and one with the peak memory at the end. Reads its contender and the settings
from the command line; started by train.py alone.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
import peft
import torch
from torch.utils.data import SequentialSampler
from transformers import TrainerCallback
from transformers.trainer_callback import PrinterCallback
from trl import SFTConfig, SFTTrainer

from ibft.models.allocator import returning_freed_memory
from ibft.models.loading import resolve_device
from ibft.objectives.ft import FTObjective
from ibft.training import fit
from ibft.training.adapter import lora_config
from ibft.training.memory import peak_memory_mib, reset_peak_memory
from train_reference import make_step, padded_batch
from train_setup import (
    MAX_TOKENS,
    Settings,
    flop_of_batch,
    make_examples,
    make_model,
    make_objective,
    make_tokenizer,
    pick_batches,
    recipe_of,
)


class Stopped(Exception):
    """The parent has seen enough."""


class Lockstep:
    """Waits for the parent before each step, and tells it how long the step took."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._replies = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)  # whatever else is printed must not reach the parent
        self._start: float | None = None

    def between_steps(self) -> None:
        """Report the step that has ended, wait, start the clock."""
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        if self._start is not None:
            self.reply({"s": time.perf_counter() - self._start})
        if sys.stdin.readline().strip() != "step":
            raise Stopped
        self._start = time.perf_counter()

    def reply(self, message: dict[str, Any]) -> None:
        """One line to the parent."""
        self._replies.write(json.dumps(message) + "\n")
        self._replies.flush()


class BetweenSteps(TrainerCallback):
    """A step lasts from one `on_step_begin` to the next: batch, forward, backward, optimizer, gauges, logging."""

    def __init__(self, lockstep: Lockstep) -> None:
        self._lockstep = lockstep

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._lockstep.between_steps()


def main() -> None:
    contender, settings = sys.argv[1], Settings(**json.loads(sys.argv[2]))
    if settings.threads:
        torch.set_num_threads(settings.threads)
    recipe = recipe_of(settings, "padded" if contender == "sft" else settings.batching)
    device = resolve_device(recipe.model)
    lockstep = Lockstep(device)
    model = make_model(recipe)
    examples = make_examples(settings, model.config.vocab_size)
    if contender == "reference":
        _run_reference(model, examples, settings, lockstep, device)
    else:
        _run_trainer(contender, model, examples, settings, lockstep, device)


@contextmanager
def _measured(lockstep: Lockstep, device: torch.device, first: dict[str, Any]) -> Iterator[None]:
    resting = _resident_mib(device)
    reset_peak_memory(device)
    lockstep.reply(first)
    try:
        yield
    except Stopped:
        lockstep.reply({"peak_mib": peak_memory_mib(device), "resting_mib": resting})
        sys.exit()


def _resident_mib(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device) / 2**20
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _run_reference(model: Any, examples: Any, settings: Settings, lockstep: Lockstep, device: torch.device) -> None:
    """Every batch costs the same, so one is measured; its tokens count as the data's mean."""
    recipe = recipe_of(settings, "padded")
    if settings.gradient_checkpointing:
        model.gradient_checkpointing_enable()
        model.enable_input_require_grads()
    adapted = peft.get_peft_model(model, lora_config(recipe.train.lora, recipe.model, model))
    step = make_step(adapted, make_objective("paper", model).layer, settings.max_steps)
    chosen = examples[: settings.batch_size]
    batch = padded_batch(chosen, MAX_TOKENS, device)
    mean = sum(len(example.input_ids) for example in examples) / len(examples)
    flop = sum(flop_of_batch(adapted, [example]) for example in examples) / len(examples)
    tokens = [{"tokens": mean * settings.batch_size, "flop": flop * settings.batch_size}]
    with _measured(lockstep, device, {"batches": tokens, "batching": "2048"}):
        while True:
            lockstep.between_steps()
            step(batch)


def _run_trainer(
    contender: str, model: Any, examples: Any, settings: Settings, lockstep: Lockstep, device: torch.device
) -> None:
    trainer = _make_trainer(contender, model, examples, settings)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(BetweenSteps(lockstep))
    torch.manual_seed(settings.seed)
    lengths = [len(example.input_ids) for example in examples]
    order = list(trainer._get_train_sampler())
    size = settings.batch_size
    epoch = [order[start : start + size] for start in range(0, len(order) - size + 1, size)]
    batching = getattr(trainer, "batching", "padded")
    largest, *picked = pick_batches(epoch, lengths, settings.num_batches, batching == "packed")
    schedule = [largest, *itertools.islice(itertools.cycle(picked), settings.max_steps - 1)]
    trainer.train_dataset = trainer.train_dataset.select([index for batch in schedule for index in batch])
    trainer._get_train_sampler = lambda *_: SequentialSampler(trainer.train_dataset)
    described = [
        {
            "tokens": sum(lengths[index] for index in batch),
            "flop": flop_of_batch(trainer.model, [examples[index] for index in batch]),
        }
        for batch in picked
    ]
    with (
        _measured(lockstep, device, {"batches": described, "batching": batching}),
        # As the train stage does; plain TRL does not.
        returning_freed_memory(contender != "sft" and settings.gradient_checkpointing and device.type == "cpu"),
    ):
        trainer.train()


def _make_trainer(contender: str, model: Any, examples: Any, settings: Settings) -> SFTTrainer:
    recipe = recipe_of(settings, "padded" if contender == "sft" else settings.batching)
    tokenizer = make_tokenizer(recipe)
    folder = Path(tempfile.mkdtemp(prefix="ibft-benchmark-"))
    if contender == "sft":
        rows = {"input_ids": [e.input_ids for e in examples], "labels": [e.labels for e in examples]}
        return SFTTrainer(
            model,
            fit._one_gpu(SFTConfig(**fit.common_arguments(recipe, folder))),
            train_dataset=datasets.Dataset.from_dict(rows),
            processing_class=tokenizer,
            peft_config=lora_config(recipe.train.lora, recipe.model, model),
        )
    fit.load_base = lambda recipe, arguments: model  # the stage's own trainer, on a model that may be in no folder
    objective = FTObjective() if contender == "ft" else make_objective(contender.removeprefix("ib-"), model)
    return fit.make_trainer(recipe, objective, tokenizer, examples, folder)


if __name__ == "__main__":
    main()
