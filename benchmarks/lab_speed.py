"""How long does one evaluation in the lab take: 200 problems, 10 samples each, drawn and judged?

    OMP_NUM_THREADS=1 python benchmarks/lab_speed.py --out benchmarks/results/lab-speed.json

A base without memory is pretrained and fine-tuned on the world's data, as an arm of the barrier experiment is (or taken
as it is: --model), its samples are drawn by the generate stage on one thread, and judged by the judge stage in the
strongest sandbox that works here. Each round has other samples and begins with an
empty verdict cache: the references are timed apart, since they are judged once for all arms and seeds. Equal samples
of a problem are judged once, as always. The JSON has all times, the table the medians; the load is what else the
machine did.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from facts import facts
from ibft.artifacts.json_lines import read_rows
from ibft.artifacts.rows import Sample
from ibft.lab.bases import base_folder, copy_base, load_base
from ibft.lab.finetune import FinetuneConfig, finetune
from ibft.lab.pretrain import PretrainConfig
from ibft.lab.texts import training_texts
from ibft.objectives.ft import FTObjective
from ibft.run.folder import RunFolder
from ibft.run.recipe import BASE_ARM, Recipe, load_recipe
from ibft.stages.generate import generate
from ibft.stages.judge import check_problems, judge
from ibft.worlds.files import world_recipe
from ibft.worlds.planted import PlantedConfig, make_planted_world
from ibft.worlds.planted_files import planted_files
from ibft.worlds.plants import Plant


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=200)
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[500], help="of generation")
    parser.add_argument("--workers", type=int, default=2, help="of the judge")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--general-steps", type=int, default=PretrainConfig().general_steps)
    parser.add_argument("--planted-steps", type=int, default=PretrainConfig().planted_steps)
    parser.add_argument("--finetuning-steps", type=int, default=FinetuneConfig().steps)
    parser.add_argument("--model", type=Path, help="a model that was made before")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        measured = _measure(Path(folder), arguments)
    table = {name: statistics.median(of_name) for name, of_name in measured["seconds"].items()}
    print("| what | median | |\n|---|---|---|")
    for name, median in table.items():
        print(f"| {name} | {median:.2f} s | {measured['seconds'][name]} |")
    print({name: value for name, value in measured.items() if name != "seconds"})
    if arguments.out:
        arguments.out.write_text(json.dumps({**facts("cpu"), **measured, "medians": table}, indent=1) + "\n")


def _measure(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    config = PlantedConfig(num_dev=10, num_test=arguments.problems, plant=Plant(repetitions=0))
    for name, content in planted_files(config).items():
        (folder / name).write_bytes(content)
    if arguments.model:
        copy_base(arguments.model, folder / "base")
    else:
        _save_arm(config, arguments, folder / "base")
    (folder / "recipe.yaml").write_bytes(world_recipe(folder, "planted"))
    seconds: dict[str, list[float]] = {}
    shares: dict[str, float] = {}
    loads = [os.getloadavg()[0]]
    for round_number in range(arguments.rounds):
        for size in arguments.batch_sizes:
            recipe = _recipe(folder, f"{round_number}-{size}", size, arguments)
            with RunFolder(recipe).open() as run:
                _time(seconds, f"sampling, batches of {size}", lambda: generate(recipe, run, BASE_ARM))  # noqa: B023
                with tempfile.TemporaryDirectory() as cache:
                    os.environ["IBFT_CACHE"] = cache
                    source = str(recipe.problems.source)
                    _time(seconds, "references", lambda: check_problems(source, recipe.judge))  # noqa: B023
                    _time(seconds, "judging", lambda: judge(recipe, run, BASE_ARM))  # noqa: B023
            shares = _describe(run.path)
            loads.append(os.getloadavg()[0])
    return {"seconds": seconds, "samples": shares, "load": loads, "cores": os.cpu_count()}


def _save_arm(config: PlantedConfig, arguments: argparse.Namespace, folder: Path) -> None:
    pretrain = PretrainConfig(general_steps=arguments.general_steps, planted_steps=arguments.planted_steps)
    model, tokenizer = load_base(base_folder(config, pretrain))
    texts = training_texts(make_planted_world(config), "planted")
    trained = finetune(model, tokenizer, texts, FTObjective(), FinetuneConfig(steps=arguments.finetuning_steps))
    trained.model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _recipe(folder: Path, name: str, batch_size: int, arguments: argparse.Namespace) -> Recipe:
    changes = (
        f"name={name}",
        f"output={folder / 'runs'}",
        "model.device=cpu",
        "model.dtype=float32",
        f"generate.num_samples={arguments.samples}",
        f"generate.batch_size={batch_size}",
        f"judge.workers={arguments.workers}",
        f"seed={name.partition('-')[0]}",
    )
    return load_recipe(folder / "recipe.yaml", changes)


def _time(seconds: dict[str, list[float]], name: str, work: Callable[[], object]) -> None:
    start = time.perf_counter()
    work()
    seconds.setdefault(name, []).append(round(time.perf_counter() - start, 3))


def _describe(run: Path) -> dict[str, float]:
    samples = list(read_rows(run / "generate" / BASE_ARM / "samples.jsonl", Sample))
    metrics = json.loads((run / "judge" / BASE_ARM / "metrics.json").read_text())
    return {
        "samples": len(samples),
        "different": len({(sample.task_id, sample.text) for sample in samples}),
        "mean tokens": statistics.mean(sample.num_tokens or 0 for sample in samples),
        "stopped": statistics.mean(sample.finish_reason == "stop" for sample in samples),
        "pass@1": metrics["metrics"]["pass@1"]["value"],
    }


if __name__ == "__main__":
    main()
