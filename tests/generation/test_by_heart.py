"""From the model to the verdict: what is known by heart passes before training and after, and in transformers alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ibft.artifacts.json_lines import read_rows, write_rows
from ibft.artifacts.rows import Pair, Problem, Result, Sample
from ibft.objectives.ft import FTObjective
from ibft.run.folder import RunFolder
from ibft.run.recipe import Recipe
from ibft.run.sections import (
    DataConfig,
    GenerateConfig,
    JudgeConfig,
    LoraConfig,
    ModelConfig,
    ProblemsConfig,
    PromptConfig,
    TrainConfig,
)
from ibft.stages.generate import generate
from ibft.stages.judge import judge
from ibft.stages.train import train

TESTS = {
    "double": "assert (double(3), double(-1)) == (6, 0)",
    "greet": "assert greet('Ada') == '你好 😀, Ada'",
    "first": "assert first([3, 2]) == 3",
    "even": "assert even(2) and not even(3)",
    "triple": "assert triple(3) == 9",
}
NEW = ("def triple(total):\n", "    return total * 3\n")


@pytest.mark.slow
def test_known_functions_pass_before_and_after_training(knowing_folder: Path, functions: Any, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    known = {**functions, "triple": NEW}
    write_rows(tmp_path / "pairs.jsonl", [Pair(name, *texts) for name, texts in known.items()])
    write_rows(
        tmp_path / "problems.jsonl",
        [
            Problem(task_id=name, prompt=prompt, canonical_solution=rest, tests=TESTS[name], entry_point=name)
            for name, (prompt, rest) in known.items()
        ],
    )
    recipe = Recipe(
        name="run",
        output=str(tmp_path),
        model=ModelConfig(name=str(knowing_folder), device="cpu", dtype="float32"),
        prompt=PromptConfig(template="plain"),
        data=DataConfig(train=str(tmp_path / "pairs.jsonl")),
        objective=(FTObjective(),),
        train=TrainConfig(
            max_steps=150, batch_size=5, learning_rate=4e-3, lora=LoraConfig(rank=16, alpha=16, dropout=0)
        ),
        problems=ProblemsConfig(source=str(tmp_path / "problems.jsonl")),
        generate=GenerateConfig(num_samples=1, temperature=0, max_new_tokens=60, elicit=()),
        judge=JudgeConfig(cache=False, workers=1),
    )
    passed, texts = {}, {}
    with RunFolder(recipe).open() as run:
        train(recipe, run, recipe.objective[0])
        for arm in ("base", "ft"):
            generate(recipe, run, arm)
            judge(recipe, run, arm)
            passed[arm] = {
                row.task_id for row in read_rows(run.path / "judge" / arm / "results.jsonl", Result) if row.passed
            }
            texts[arm] = {
                row.task_id: row.completion for row in read_rows(run.path / "generate" / arm / "samples.jsonl", Sample)
            }
    assert passed == {"base": set(functions), "ft": set(known)}
    assert texts["ft"] == {name: rest for name, (_, rest) in known.items()}

    tokenizer = AutoTokenizer.from_pretrained(knowing_folder)
    adapter = run.path / "train" / "ft" / "adapter"
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(knowing_folder), adapter)
    for name, (prompt, rest) in known.items():
        if name == "even":  # it ends inside of a word: no tokenizer's own border
            continue
        ids = model.generate(**tokenizer(prompt.rstrip(), return_tensors="pt"), max_new_tokens=60, do_sample=False)
        assert tokenizer.decode(ids[0], skip_special_tokens=True) == prompt + rest
