"""What each rival costs: CPU time of one forward and backward, against plain fine-tuning by TRL.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/rivals.py

SmolLM2-135M, LoRA of rank 8 on all linear layers, 4 rows of 128 random tokens, half of them labelled, float32, one
thread, no gradient checkpointing; the objectives take turns, medians of all turns but the first.
"""

from __future__ import annotations

import statistics
import tempfile
import time

import torch
from datasets import Dataset
from peft import LoraConfig
from trl import SFTConfig

from ibft.models.loading import load_model, load_tokenizer
from ibft.objectives.asft import ASFTObjective
from ibft.objectives.base import Objective
from ibft.objectives.eaft import EAFTObjective
from ibft.objectives.ft import FTObjective
from ibft.objectives.ft_kl import FTKLObjective
from ibft.objectives.gem import GEMObjective
from ibft.objectives.stm import STMObjective
from ibft.run.sections import ModelConfig
from ibft.training.trainer import ObjectiveTrainer

OBJECTIVES = {
    "ft": FTObjective(),
    "eaft": EAFTObjective(),
    "gem": GEMObjective(),
    "stm": STMObjective(),
    "ft_kl": FTKLObjective(),
    "asft": ASFTObjective(),
}
NUM_ROWS, NUM_TOKENS, TURNS = 4, 128, 4
MODEL = ModelConfig(dtype="float32", device="cpu")


def rows() -> Dataset:
    """Rows of equal length: padding would be the same cost for all."""
    ids = torch.randint(100, 40_000, (NUM_ROWS, NUM_TOKENS), generator=torch.Generator().manual_seed(0))
    labels = ids.clone()
    labels[:, : NUM_TOKENS // 2] = -100
    return Dataset.from_dict({"input_ids": ids.tolist(), "labels": labels.tolist()})


class LabelledOnly(ObjectiveTrainer):
    """As the train stage has it."""

    labelled_only = True


def make_trainer(objective: Objective, folder: str) -> ObjectiveTrainer:
    trainer = LabelledOnly(
        load_model(MODEL),
        SFTConfig(
            folder,
            use_cpu=True,
            bf16=False,
            report_to="none",
            per_device_train_batch_size=NUM_ROWS,
            max_length=None,
            gradient_checkpointing=False,
        ),
        train_dataset=rows(),
        processing_class=load_tokenizer(MODEL),
        peft_config=LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM"),
        objective=objective,
    )
    trainer.model.train()
    return trainer


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        trainers = {name: make_trainer(objective, folder) for name, objective in OBJECTIVES.items()}
        seconds: dict[str, list[float]] = {name: [] for name in trainers}
        for _ in range(TURNS):
            for name, trainer in trainers.items():
                batch = dict(next(iter(trainer.get_train_dataloader())))
                begin = time.process_time()
                trainer.compute_loss(trainer.model, batch).backward()
                seconds[name].append(time.process_time() - begin)
                trainer.model.zero_grad()
    medians = {name: statistics.median(turns[1:]) for name, turns in seconds.items()}
    print("| objective | CPU s | against ft |\n|---|---|---|")
    for name, median in medians.items():
        print(f"| {name} | {median:.2f} | {median / medians['ft']:.2f} |")


if __name__ == "__main__":
    main()
