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
from pathlib import Path
from typing import Any

from facts import facts
from halves import MODEL, audit_cells, ibft, read_audit, write_halves, write_recipe


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
    data = write_halves(arguments.folder, arguments.max_tokens, arguments.examples)
    found = {"untrained": _audit("untrained", MODEL, data, arguments)}
    for epochs in arguments.epochs:
        name = f"epochs-{epochs}"
        found[name] = _audit(name, str(_train(name, epochs, data, arguments)), data, arguments)
    print("| model | below the 5th percentile | AUROC | blind | word for word | verdict |\n|---|---|---|---|---|---|")
    for name, of_model in found.items():
        print(f"| {name} | {' | '.join(audit_cells(of_model))} |")
    if arguments.out:
        arguments.out.write_text(json.dumps({**facts(), "models": found}, indent=1) + "\n")


def _train(name: str, epochs: int, data: dict[str, Any], arguments: argparse.Namespace) -> Path:
    """A merged model that has read the training half so often."""
    recipe = write_recipe(
        f"train-{name}",
        arguments.folder,
        model={"name": MODEL},
        data=data | {"control": None},
        objective="ft",
        train={"epochs": epochs, "batch_size": 8, "learning_rate": arguments.learning_rate, "save_every": 1000},
    )
    merged = arguments.folder / f"merged-{name}"
    if not merged.exists():
        ibft("train", recipe)
        ibft("export", recipe, "--arm", "ft", "--merge", "--out", merged)
    return merged


def _audit(name: str, model: str, data: dict[str, Any], arguments: argparse.Namespace) -> dict[str, Any]:
    scan = {"prefix_tokens": 15, "suffix_tokens": 15}
    ibft("scan", write_recipe(f"audit-{name}", arguments.folder, model={"name": model}, data=data, scan=scan))
    return read_audit(arguments.folder / f"audit-{name}")


if __name__ == "__main__":
    main()
