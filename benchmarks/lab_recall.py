"""What recalls the answer where the truth is known: the shortcut score on bases with planted memory.

    python benchmarks/lab_recall.py --out benchmarks/results/lab-recall.json

For each world and each kind of plant, the share of the planted answers that each segment of the prompt alone recovers,
under the base that read them and before any fine-tuning. Only where the plant is active does the name alone recite.
The bases are pretrained where the cache does not have them (four minutes each on one core).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from facts import facts
from ibft.artifacts.rows import Pair
from ibft.lab.bases import base_folder, load_base
from ibft.lab.pretrain import PretrainConfig
from ibft.models.loading import limits_of
from ibft.scoring.encoder import Encoder
from ibft.scoring.forward import Forward
from ibft.scoring.recall import Recall, recall
from ibft.text.encoding import TextCodec
from ibft.worlds.planted import PlantedConfig, make_planted_world
from ibft.worlds.plants import Plant

PLANTS = {
    "none (r = 0)": Plant(repetitions=0),
    "active": Plant(),
    "dormant": Plant(kind="dormant"),
    "benign": Plant(kind="benign"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=5)
    parser.add_argument("--examples", type=int, default=300, help="planted examples of each world that are asked")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for label, plant in PLANTS.items():
        for seed in range(arguments.worlds):
            rows.append(measure(label, PlantedConfig(seed=seed, plant=plant), arguments.examples))
            print(rows[-1], flush=True)
    print("\n| plant | segment | planted data, each world | control set, each world |\n|---|---|---|---|")
    for label in PLANTS:
        for kind in rows[0]["train"]:
            sides = [[row[side][kind] for row in rows if row["plant"] == label] for side in ("train", "control")]
            print(f"| {label} | {kind} | {' | '.join(', '.join(f'{share:.3f}' for share in side) for side in sides)} |")
    if arguments.out:
        arguments.out.write_text(json.dumps({**facts(), "rows": rows}, indent=1) + "\n")


def measure(label: str, config: PlantedConfig, num_examples: int) -> dict[str, Any]:
    model, tokenizer = load_base(base_folder(config, PretrainConfig(seed=config.seed)))
    world = make_planted_world(config)
    train = [(item.example, item.body) for item in world.train[:num_examples]]
    sets = {"train": train, "control": [(example, example.chain) for example in world.control]}
    row: dict[str, Any] = {"plant": label, "seed": config.seed}
    encoder = Encoder(TextCodec(tokenizer, "plain"), limits_of(model.config))
    start = time.perf_counter()
    for side, items in sets.items():
        pairs = [Pair(example.id, world.prompt(example), world.completion(body)) for example, body in items]
        found = recall(Forward(model, tokenizer), encoder, pairs)
        kinds = sorted({kind for one in found for kind in one.nll_alone})
        row[side] = {kind: pooled_share(found, kind) for kind in kinds}
        row[f"{side}_clipped"] = {
            kind: float(np.mean([one.shares[kind] for one in found if kind in one.shares])) for kind in kinds
        }
        row[f"num_{side}"] = [sum(one.reason is None for one in found), len(found)]
    return {**row, "seconds": round(time.perf_counter() - start, 1)}


def pooled_share(found: Sequence[Recall], kind: str) -> float:
    """Return the share of the scan's page: of the nats that whole prompts tell, those that one segment tells."""
    told = [one for one in found if kind in one.nll_alone]
    return sum(one.nll_foreign - one.nll_alone[kind] for one in told) / sum(
        one.nll_foreign - one.nll_own for one in told
    )


if __name__ == "__main__":
    main()
