"""Examples are the same whether another process cuts them into tokens or this one."""

from __future__ import annotations

import functools
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from ibft.artifacts.rows import Pair, Score
from ibft.data.training import Example
from ibft.errors import UserError
from ibft.models.loading import load_tokenizer
from ibft.run.recipe import DataConfig, ModelConfig, PromptConfig, Recipe, ScanConfig
from ibft.scoring import blocks
from ibft.scoring import scorer as module
from ibft.scoring.blocks import merged_blocks, score_blocks
from ibft.scoring.preparation import Preparation
from ibft.scoring.scorer import Scorer

ITEMS = [
    (3 * n, Example(Pair(f"f{n}", f"def f{n}(a):\n", f"    return a + {n}\n" * (n % 7)), None)) for n in range(150)
]


@pytest.fixture
def recipe(tiny_model_folder: Path) -> Recipe:
    return Recipe(
        name="scan",
        prompt=PromptConfig(template="plain"),
        model=ModelConfig(name=str(tiny_model_folder), dtype="float32", device="cpu"),
        data=DataConfig(max_tokens=100),
        scan=ScanConfig(batch_tokens=400),
    )


@pytest.fixture
def tokenizer(recipe: Recipe) -> Any:
    return load_tokenizer(recipe.model)


@pytest.mark.slow
def test_other_processes_give_the_same_in_the_same_order(recipe: Recipe, tokenizer: Any) -> None:
    here, beside = Preparation(recipe, tokenizer), Preparation(recipe, tokenizer, 2)
    begun = [beside.start(ITEMS), beside.start(ITEMS[:5]), beside.start([])]
    assert begun[1].tokenized() == here.start(ITEMS[:5]).tokenized()
    assert begun[0].tokenized() == here.start(ITEMS).tokenized()
    assert begun[0].items == ITEMS
    assert begun[2].tokenized() == []
    beside.close()
    here.close()


@pytest.mark.slow
def test_a_process_that_is_killed_is_told_with_the_remedy(recipe: Recipe, tokenizer: Any) -> None:
    beside = Preparation(recipe, tokenizer, 1)
    beside.start(ITEMS[:1]).tokenized()
    assert beside._pool is not None
    [process] = beside._pool._processes.values()
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(UserError, match="Run again with more memory"):
        beside.start(ITEMS).tokenized()
    beside.close()


@pytest.mark.slow
def test_a_device_that_computes_beside_gives_the_same_rows(
    recipe: Recipe, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU: a batch is begun before the rows of the last one are made, and tokens come from other processes."""
    model = AutoModelForCausalLM.from_pretrained(recipe.model.name, dtype=torch.float32)
    monkeypatch.setattr(blocks, "BLOCK", 20)

    def rows(folder: Path) -> list[list[Score]]:
        folder.mkdir()
        scorer = Scorer(recipe, model, tokenizer)
        batches = functools.partial(scorer.batches, "train")
        score_blocks(folder, "train", ITEMS, scorer.start, batches, is_ahead=scorer.is_ahead)
        scorer.close()
        return list(merged_blocks(folder, {"train": len(ITEMS)}))

    expected = rows(tmp_path / "one by one")
    assert len(expected) > 2
    events: list[str] = []
    begin_batch = module.begin_batch

    def noted(*arguments: Any) -> Any:
        events.append("begin")
        stats = begin_batch(*arguments)
        return lambda: (events.append("end"), stats())[1]

    monkeypatch.setattr(module, "_runs_beside", lambda device: True)
    monkeypatch.setattr(module, "begin_batch", noted)
    assert rows(tmp_path / "beside") == expected
    # Also from one block to the next.
    assert events == ["begin", *["begin", "end"] * (len(events) // 2 - 1), "end"]
