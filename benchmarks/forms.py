"""What each form of the bottleneck does on SmolLM2-135M: a table, and the figures of docs/method.md.

ibft train recipes/forms.yaml
python benchmarks/forms.py runs/forms --out docs/figures --results benchmarks/results/forms.json
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

import msgspec

from ibft.artifacts.json_lines import read_rows
from ibft.artifacts.rows import TrainingLog
from ibft.objectives.bottleneck.alarms import COLLAPSE_RATIO, OVERLOAD_RATIO
from ibft.objectives.ib import IBObjective
from ibft.pages.charts import Curve, draw_curves
from ibft.run.recipe import load_recipe
from ibft.run.stage import read_record

FIGURES = {
    "kl_per_token": ("ib/kl_per_token", "KL (nats a response token)"),
    "grad_ratio": ("ib/grad_ratio", "Gradient norm: bottleneck / cross-entropy"),
    "ce": ("ce", "Cross-entropy of the response (nats a token)"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, help="folder for the figures")
    parser.add_argument("--results", type=Path, help="JSON file for the table, with device, versions and log")
    arguments = parser.parse_args()
    recipe = load_recipe(arguments.run / "recipe.yaml")
    logs, rows = {}, []
    for objective in recipe.objective:
        folder = arguments.run / "train" / objective.arm
        if not folder.exists():
            print(f"{objective.arm} has not been trained yet")
            continue
        logs[objective.arm] = list(read_rows(folder / "log.jsonl", TrainingLog))
        settings = objective if isinstance(objective, IBObjective) else None
        rows.append({"arm": objective.arm, **summary(logs[objective.arm], settings)})
    columns = list(dict.fromkeys(name for row in rows for name in row))
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    for row in rows:
        print("| " + " | ".join(str(row.get(name, "")) for name in columns) + " |")
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        for name, (gauge, title) in FIGURES.items():
            (arguments.out / f"forms_{name}.svg").write_text(figure(logs, gauge, title))
    if arguments.results:
        record = read_record(arguments.run / "train" / recipe.objective[0].arm)
        assert record is not None
        content = {
            "provenance": record.provenance,
            "table": rows,
            "logs": {arm: msgspec.to_builtins(log) for arm, log in logs.items()},
        }
        arguments.results.write_text(json.dumps(content, indent=1) + "\n")


def summary(log: list[TrainingLog], settings: IBObjective | None) -> dict[str, str]:
    """First step, and means over the last quarter of the steps."""
    steps = len(log)
    last = log[-steps // 4 :]

    def mean(name: str) -> str:
        values = [value for row in last if (value := row.metrics.get(name)) is not None]
        return f"{statistics.fmean(values):.3g}" if values else ""

    def first(name: str) -> str:
        value = log[0].metrics.get(name)
        return "" if value is None else f"{value:.3g}"

    found = {"CE, last quarter": mean("ce")}
    if settings is None:
        return found
    found |= {
        "gradient ratio, step 1": first("ib/grad_ratio"),
        "last quarter": mean("ib/grad_ratio"),
        "KL a token, step 1": first("ib/kl_per_token"),
        "KL, last quarter": mean("ib/kl_per_token"),
        "std of h, step 1": first("ib/hidden_std"),
        "std, last quarter": mean("ib/hidden_std"),
        "accuracy of the code": mean("ib/accuracy"),
        "entropy, step 1": first("ib/entropy"),
        "entropy, last quarter": mean("ib/entropy"),
    }
    if settings.form == "controlled":
        held = [row.metrics["ib/kl_per_token"] for row in log if row.step > settings.warmup_share * steps]
        deviations = [abs(kl / settings.kl_target - 1) for kl in held if kl is not None]
        found["within 10% of the set point after the warm-up"] = (
            f"{sum(deviation <= 0.1 for deviation in deviations)} of {len(deviations)} steps, mean KL "
            f"{statistics.fmean(kl for kl in held if kl is not None):.3g}, largest deviation {max(deviations):.0%}"
        )
    return found


def figure(logs: dict[str, list[TrainingLog]], gauge: str, title: str) -> str:
    curves = {arm: curve for arm, log in logs.items() if (curve := curve_of(log, gauge)) is not None}
    targets = {arm: curve for arm in curves if (curve := curve_of(logs[arm], "ib/kl_target")) is not None}
    return draw_curves(
        curves,
        "optimizer step",
        title,
        whole_x=True,
        is_log=gauge != "ce",
        styles={arm: number for number, arm in enumerate(logs)},
        targets=targets if gauge == "ib/kl_per_token" else None,
        limits=(OVERLOAD_RATIO, COLLAPSE_RATIO) if gauge == "ib/grad_ratio" else (),
    )


def curve_of(log: list[TrainingLog], gauge: str) -> Curve | None:
    points = [(row.step, value) for row in log if (value := row.metrics.get(gauge)) is not None]
    return Curve([step for step, _ in points], [value for _, value in points]) if points else None


if __name__ == "__main__":
    main()
