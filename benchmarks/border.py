"""HumanEval at the border between prompt and answer: `ibft generate` beside plain `transformers.generate`.

    python benchmarks/border_reference.py MODEL_FOLDER OUT/reference     # first: takes nothing of ibft but the judge
    python benchmarks/border.py MODEL_FOLDER OUT

draws the same model's greedy answers with `ibft` in the formats plain, instruction and chat, judges them, and prints
and writes (OUT/border.json) how many problems each solves, and in how many the verdict and the text are the same.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ibft.artifacts.json_lines import read_rows
from ibft.artifacts.rows import Sample
from ibft.run.folder import RunFolder
from ibft.run.recipe import Recipe
from ibft.run.sections import GenerateConfig, ModelConfig, ProblemsConfig, PromptConfig
from ibft.stages.generate import generate
from ibft.stages.judge import judge

REFERENCE = {"plain": "plain", "instruction": "plain", "chat": "chat"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("out", type=Path)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--formats", nargs="+", default=list(REFERENCE))
    parser.add_argument("--dtype", default="float32")
    arguments = parser.parse_args()
    figures: dict[str, Any] = {}
    for name in arguments.formats:
        run = answer(arguments.model, arguments.out, name, arguments)
        reference = arguments.out / "reference" / REFERENCE[name]
        ours, theirs = passed(run / "judge" / "base" / "results.jsonl"), passed(reference / "results.jsonl")
        texts = {row.task_id: row.raw or row.completion or "" for row in read_rows(samples(run), Sample)}
        raws = {row["task_id"]: row["raw"] for row in map(json.loads, reference.with_suffix(".jsonl").open())}
        figures[name] = {
            "num_problems": len(ours),
            "num_passed": sum(ours.values()),
            "num_passed_transformers": sum(theirs[task] for task in ours),
            "num_same_verdict": sum(ours[task] == theirs[task] for task in ours),
            # The reference writes the prompt's last line break, too, and on behind the answer's end.
            "num_same_text": sum(raws[task].lstrip("\n").startswith(texts[task].rstrip()) for task in ours),
            "other_verdict": sorted(task for task in ours if ours[task] != theirs[task]),
        }
        print(name, figures[name], flush=True)
        (arguments.out / "border.json").write_text(json.dumps(figures, indent=2) + "\n")


def answer(model: str, out: Path, template: Any, options: argparse.Namespace) -> Path:
    recipe = Recipe(
        name=template,
        output=str(out / "runs"),
        model=ModelConfig(name=model, dtype=options.dtype, device="cpu"),
        prompt=PromptConfig(template=template),
        problems=ProblemsConfig(source="humaneval", limit=options.limit),
        generate=GenerateConfig(num_samples=1, temperature=0, max_new_tokens=192, batch_size=41, elicit=()),
    )
    with RunFolder(recipe).open() as run:
        generate(recipe, run, "base")
        judge(recipe, run, "base")
        return run.path


def samples(run: Path) -> Path:
    return run / "generate" / "base" / "samples.jsonl"


def passed(path: Path) -> dict[str, bool]:
    return {row["task_id"]: row["status"] == "passed" for row in map(json.loads, path.open())}


if __name__ == "__main__":
    main()
