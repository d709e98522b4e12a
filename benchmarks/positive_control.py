"""Does the audit find memorization that is there, and none where there is none?

    python benchmarks/positive_control.py --out benchmarks/results/positive-control.json

The files of the standard library are split in two by chance. SmolLM2 is fine-tuned (plain LoRA) on the functions of one
half, once and several times, and each of these models and the untrained one is then audited on that half, with the
other half as control set: by `ibft scan`, as anybody would. The halves differ in nothing but in what the model was
trained on, so the untrained model has to get no "yes", and one that read the half often enough has to get it.
`ibft rescan` then tells the half that each model read from the other, by the scores that compare it with its base, too.

    python benchmarks/positive_control.py --epochs 1 2 --only-rescan --out benchmarks/results/after-training.json

leaves out the audits of the trained models.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from facts import facts
from halves import MODEL, audit_cells, ibft, read_audit, read_rescan, rescan_rows, write_halves, write_recipe

SCAN = {"prefix_tokens": 15, "suffix_tokens": 15}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, nargs="+", default=[1, 3], help="a trained model for each number")
    parser.add_argument("--examples", type=int, default=480, help="of each half")
    parser.add_argument("--max-tokens", type=int, default=160)
    parser.add_argument("--learning-rate", type=float, default=4e-4)
    parser.add_argument("--only-rescan", action="store_true", help="do not audit the trained models")
    parser.add_argument("--folder", type=Path, default=Path("runs/positive-control"))
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    data = write_halves(arguments.folder, arguments.max_tokens, arguments.examples)
    audited: dict[str, Any] = {}
    rescanned: dict[str, Any] = {}
    for epochs in arguments.epochs:
        name = f"epochs-{epochs}"
        recipe = _train(name, epochs, data, arguments)
        run = arguments.folder / name
        audited["untrained"] = read_audit(run)
        rescanned[name] = read_rescan(run)
        if not arguments.only_rescan:
            audited[name] = _audit_trained(name, recipe, data, arguments)
    print("| model | below the 5th percentile | AUROC | blind | word for word | verdict |\n|---|---|---|---|---|---|")
    for name, found in audited.items():
        print(f"| {name} | {' | '.join(audit_cells(found))} |")
    for name, found in rescanned.items():
        print(f"\n| {name} | AUROC before | after | less Min-20% Prob | found at 1% false | undefined, lowest |")
        print("|---|---|---|---|---|---|")
        for row in rescan_rows(found):
            print(f"| {' | '.join(row)} |")
        of_all = f"{found['ez_mia_of_all']:.3f}, as its release orders them {found['ez_mia_of_all_as_released']:.3f}"
        print(f"\nMedian {found['median_tokens']:g} tokens; EZ-MIA over all examples {of_all}")
    if arguments.out:
        result = {**facts(), "models": audited, "after_training": rescanned}
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")


def _train(name: str, epochs: int, data: dict[str, Any], arguments: argparse.Namespace) -> Path:
    """The recipe of a run whose arm `ft` has read the training half so often: scanned, trained, rescanned."""
    recipe = write_recipe(
        name,
        arguments.folder,
        model={"name": MODEL},
        data=data,
        objective="ft",
        scan=SCAN,
        train={"epochs": epochs, "batch_size": 8, "learning_rate": arguments.learning_rate, "save_every": 1000},
    )
    for verb in ("scan", "train", "rescan"):
        ibft(verb, recipe)
    return recipe


def _audit_trained(name: str, recipe: Path, data: dict[str, Any], arguments: argparse.Namespace) -> dict[str, Any]:
    """The merged model as anybody would audit it who does not know what it was trained on."""
    merged = arguments.folder / f"merged-{name}"
    if not merged.exists():
        ibft("export", recipe, "--arm", "ft", "--merge", "--out", merged)
    ibft("scan", write_recipe(f"audit-{name}", arguments.folder, model={"name": str(merged)}, data=data, scan=SCAN))
    return read_audit(arguments.folder / f"audit-{name}")


if __name__ == "__main__":
    main()
