"""HumanEval at the border between prompt and answer: `ibft generate` beside plain `transformers.generate`.

    python benchmarks/border_reference.py MODEL_FOLDER OUT/reference     # first: takes nothing of ibft but the judge
    python benchmarks/border.py MODEL_FOLDER OUT

draws the same model's greedy answers with `ibft` in every format, judges them, and prints and writes (OUT/border.json)
how many problems each solves, and in how many the verdict and the text are the same.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from border_reference import BATCH_SIZE, EXAMPLES, MAX_NEW_TOKENS
from ibft.artifacts.json_lines import read_rows
from ibft.artifacts.rows import Sample
from ibft.run.folder import RunFolder
from ibft.run.recipe import Recipe
from ibft.run.sections import FORMATS, DataConfig, GenerateConfig, ModelConfig, ProblemsConfig, PromptConfig
from ibft.stages.generate import generate
from ibft.stages.judge import judge

SEED = 1  # it draws the two examples in the order of the file, which is that of the reference


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("out", type=Path)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--dtype", default="float32")
    arguments = parser.parse_args()
    recipe = Recipe(
        name="border",
        output=str(arguments.out / "runs"),
        seed=SEED,
        model=ModelConfig(name=arguments.model, dtype=arguments.dtype, device="cpu"),
        data=DataConfig(train=str(EXAMPLES)),
        prompt=PromptConfig(template="plain"),
        problems=ProblemsConfig(source="humaneval", limit=arguments.limit),
        generate=GenerateConfig(
            num_samples=1, temperature=0, max_new_tokens=MAX_NEW_TOKENS, batch_size=BATCH_SIZE, elicit=FORMATS
        ),
    )
    with RunFolder(recipe).open() as run:
        generate(recipe, run, "base")
        for form in FORMATS:
            judge(recipe, run, recipe.asked_name("base", form))
        figures = {
            form: compared(run.path, recipe.asked_name("base", form), arguments.out / "reference" / form)
            for form in FORMATS
        }
    for form, row in figures.items():
        print(form, row)
    (arguments.out / "border.json").write_text(json.dumps(figures, indent=2) + "\n")


def compared(run: Path, name: str, reference: Path) -> dict[str, Any]:
    ours, theirs = passed(run / "judge" / name / "results.jsonl"), passed(reference / "results.jsonl")
    samples = read_rows(run / "generate" / name / "samples.jsonl", Sample)
    texts = {row.task_id: row.raw or row.completion or "" for row in samples}
    raws = {row["task_id"]: row["raw"] for row in map(json.loads, reference.with_suffix(".jsonl").open())}
    return {
        "num_problems": len(ours),
        "num_passed": sum(ours.values()),
        "num_passed_transformers": sum(theirs[task] for task in ours),
        "num_same_verdict": sum(ours[task] == theirs[task] for task in ours),
        # The reference begins at another white space, and goes on behind the answer's end.
        "num_same_text": sum(raws[task].lstrip().startswith(texts[task].strip()) for task in ours),
        "other_verdict": sorted(task for task in ours if ours[task] != theirs[task]),
    }


def passed(path: Path) -> dict[str, bool]:
    return {row["task_id"]: row["status"] == "passed" for row in map(json.loads, path.open())}


if __name__ == "__main__":
    main()
