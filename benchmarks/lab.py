"""Seconds of CPU of the lab's parts, on one thread: what a barrier experiment takes (docs/lab.md).

    OMP_NUM_THREADS=1 python benchmarks/lab.py --steps 300

CPU time, since a machine that does other things makes elapsed time longer. `trainer` is `ibft.lab.finetune.finetune`,
from its call to its return; `loop` is the shortest loop that makes the same steps. They take turns.
"""

from __future__ import annotations

import argparse
import copy
import functools
import itertools
import json
import time
from collections.abc import Callable
from typing import Any

import torch

from ibft.lab.batches import batch_of, split_texts
from ibft.lab.finetune import FinetuneConfig, finetune
from ibft.lab.gauges import gauge
from ibft.lab.gradients import compare_gradients
from ibft.lab.pretrain import PretrainConfig, new_model, one_thread, train_on
from ibft.lab.texts import example_texts, training_texts
from ibft.lab.tokenizer import make_tokenizer
from ibft.objectives.ft import FTObjective
from ibft.worlds.planted import PlantedConfig, make_planted_world


def plain_loop(model: Any, tokenizer: Any, texts: Any, config: FinetuneConfig) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=0.0, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / 10))
    prompts, completions = split_texts(tokenizer, texts)
    generator = torch.Generator().manual_seed(0)
    orders = (torch.randperm(len(texts), generator=generator).split(config.batch_size) for _ in itertools.count())
    model.train()
    for chosen in itertools.islice(itertools.chain.from_iterable(orders), config.steps):
        ids_BT, labels_BT = batch_of([prompts[i] for i in chosen], [completions[i] for i in chosen], tokenizer)
        hidden_BTH = model.model(input_ids=ids_BT, use_cache=False).last_hidden_state
        is_next_BT = labels_BT[:, 1:] != -100
        logits_NV = model.lm_head(hidden_BTH[:, :-1][is_next_BT])
        loss = torch.nn.functional.cross_entropy(logits_NV, labels_BT[:, 1:][is_next_BT])
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()


def train_ours(model: Any, tokenizer: Any, texts: Any, config: FinetuneConfig) -> None:
    finetune(model, tokenizer, texts, FTObjective(), config)


def cpu_seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return round(time.process_time() - start, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--size", default="small")
    arguments = parser.parse_args()
    pretrain = PretrainConfig(size=arguments.size, general_steps=40)
    with one_thread():
        made = []
        figures: dict[str, Any] = {"world": cpu_seconds(lambda: made.append(make_planted_world(PlantedConfig())))}
        (world,) = made
        tokenizer = make_tokenizer(world.library)
        model = new_model(pretrain, tokenizer)
        figures["pretraining, 40 steps"] = cpu_seconds(lambda: train_on(model, tokenizer, world, pretrain, "general"))
        texts, held_out = training_texts(world, "planted"), example_texts(world, world.dev)
        figures["gauges"] = cpu_seconds(lambda: gauge(model, tokenizer, world))
        figures["gradients"] = cpu_seconds(lambda: compare_gradients(model, tokenizer, texts, held_out))
        config = FinetuneConfig(steps=arguments.steps)
        train_ours(copy.deepcopy(model), tokenizer, texts, FinetuneConfig(steps=2))  # imports, caches
        for _ in range(arguments.rounds):
            for name, train in (("loop", plain_loop), ("trainer", train_ours)):
                work = functools.partial(train, copy.deepcopy(model), tokenizer, texts, config)
                figures.setdefault(name, []).append(cpu_seconds(work))
    figures["trainer / loop"] = round(sum(figures["trainer"]) / sum(figures["loop"]), 3)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
