"""`ibft.scoring.score`: what a person gets in a notebook, against a plain script; and beside a device that computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

import ibft.scoring
from ibft.artifacts.json_lines import read_rows
from ibft.artifacts.rows import Pair, Score
from ibft.data.subsets import NumberedExamples
from ibft.data.training import Example
from ibft.errors import UserError
from ibft.models.loading import load_tokenizer
from ibft.run.recipe import Recipe
from ibft.run.sections import DataConfig, ModelConfig, PromptConfig, ScanConfig
from ibft.scoring import blocks, forward
from ibft.scoring.blocks import complete_blocks, score_blocks
from ibft.scoring.token_stats import PendingStats
from ibft.stages.scan import make_scorer

TEXTS = [
    ("def add(first, second):\n", "    return (first + second) * 2\n"),
    ("Why?\n", "Because.\n"),
    ("p", ""),
    ("def show(items):\n", "    for item in items:\n        print(f'<{item}>', end='')\n    return None\n" * 2),
]


@pytest.fixture(scope="module")
def tokenizer(tiny_model_folder: Path) -> Any:
    return load_tokenizer(ModelConfig(name=str(tiny_model_folder)))


@pytest.fixture(scope="module")
def model(tiny_model_folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny_model_folder, dtype=torch.float64).eval()


def plain_log_probs(model: Any, tokenizer: Any, prompt: str, completion: str) -> tuple[np.ndarray, np.ndarray]:
    """Log-probability and z of the tokens that begin in the completion, from full logits, one example at a time."""
    encoded = tokenizer(prompt + completion, return_offsets_mapping=True)
    ids = torch.tensor(encoded["input_ids"])
    with torch.no_grad():
        log_p = model(input_ids=ids[None]).logits[0, :-1].log_softmax(-1)
    own = log_p.gather(1, ids[1:, None])[:, 0]
    mean = (log_p.exp() * log_p).sum(-1)
    std = (log_p.exp() * (log_p - mean[:, None]) ** 2).sum(-1).sqrt()
    inside = torch.tensor([first >= len(prompt) for first, _ in encoded["offset_mapping"]][1:])
    return own[inside].numpy(), ((own - mean) / std)[inside].numpy()


@pytest.mark.parametrize("batch_tokens", [None, 1])
def test_the_table_is_what_a_plain_script_gives(model: Any, tokenizer: Any, batch_tokens: int | None) -> None:
    table = ibft.scoring.score(
        model, tokenizer, TEXTS, k_percent=(20, 100), prefix_tokens=3, suffix_tokens=4, batch_tokens=batch_tokens
    )
    rows = table.to_pylist()
    assert [row["id"] for row in rows] == ["0", "1", "2", "3"]
    assert rows[2]["reason"] == "empty completion"
    assert rows[2]["mean_nll"] is None
    for row, (prompt, completion) in zip(rows, TEXTS, strict=True):
        if row["reason"] is not None:
            continue
        log_probs, z = plain_log_probs(model, tokenizer, prompt, completion)
        count = max(1, len(log_probs) // 5)
        assert row["num_tokens"] == len(log_probs)
        assert row["mean_nll"] == pytest.approx(-log_probs.mean(), abs=1e-6)
        assert row["min_k_prob_100"] == pytest.approx(row["mean_nll"])
        assert row["min_k_prob_20"] == pytest.approx(-np.sort(log_probs)[:count].mean(), abs=1e-6)
        assert row["min_k_plus_plus_20"] == pytest.approx(-np.sort(z)[:count].mean(), abs=1e-6)
        assert row["suffix_log_prob"] == pytest.approx(log_probs[3:7].sum(), abs=1e-6)


def test_a_model_beside_itself_has_a_ratio_of_one(model: Any, tokenizer: Any) -> None:
    pairs = [Pair(f"pair {n}", *texts) for n, texts in enumerate(TEXTS)]
    table = ibft.scoring.score(model, tokenizer, pairs, reference=(model, tokenizer))
    assert table["id"].to_pylist() == [pair.id for pair in pairs]
    assert table["reference_ratio"].to_pylist() == [pytest.approx(1), pytest.approx(1), None, pytest.approx(1)]


def test_limits_and_the_region(model: Any, tokenizer: Any) -> None:
    prompt, completion = TEXTS[0]
    num = len(tokenizer(prompt + completion)["input_ids"])
    short = ibft.scoring.score(model, tokenizer, TEXTS[:1], max_tokens=num)
    assert short["reason"].to_pylist() == [f"longer than {num} tokens"]  # with the end token, as in training
    whole = ibft.scoring.score(model, tokenizer, TEXTS[:1], region="all")
    assert whole["num_tokens"].to_pylist() == [num - 1]
    beyond = ibft.scoring.score(model, tokenizer, [("p", "a b c " * 400)])
    assert beyond["reason"].to_pylist() == ["longer than 512 tokens"]  # the model's context
    with pytest.raises(ValueError, match="k_percent is 0"):
        ibft.scoring.score(model, tokenizer, TEXTS, k_percent=[0])
    assert len(ibft.scoring.score(model, tokenizer, [])) == 0


def examples(subset: Any) -> NumberedExamples:
    pairs = [Pair(f"f{n}", f"def f{n}(a):\n", f"    return a + {n}\n" * (n % 7)) for n in range(150)]
    return NumberedExamples(subset, lambda: (Example(pair, None) for pair in pairs))


@pytest.fixture
def recipe(tiny_model_folder: Path) -> Recipe:
    model = ModelConfig(name=str(tiny_model_folder), dtype="float32", device="cpu")
    prompt, data = PromptConfig(template="plain"), DataConfig(max_tokens=100)
    return Recipe(name="scan", model=model, prompt=prompt, data=data, scan=ScanConfig(batch_tokens=400))


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_device_that_computes_beside_gives_the_same_rows(
    recipe: Recipe, model: Any, tokenizer: Any, tmp_path: Path, num_workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU: a batch is begun before the rows of the last one are made, and tokens come from other processes."""
    sources = [examples("train"), examples("control")]
    monkeypatch.setattr(blocks, "BLOCK", 20)

    def rows(folder: Path, is_beside: bool) -> list[list[Score]]:
        folder.mkdir()
        scorer = make_scorer(recipe, model, tokenizer)
        scorer.forward.runs_beside = is_beside
        scorer._num_workers = num_workers if is_beside else 0
        score_blocks(folder, sources, scorer)
        files = complete_blocks(folder, {source.subset: len(source) for source in sources})
        return [sorted(read_rows(file, Score), key=lambda row: row.index) for file in files]

    expected = rows(tmp_path / "one by one", False)
    assert len(expected) > 2
    events: list[str] = []
    begin_batch, collect = forward.begin_batch, PendingStats.collect

    def begun(*arguments: Any) -> Any:
        events.append("begin")
        return begin_batch(*arguments)

    def collected(self: PendingStats) -> Any:
        events.append("end")
        return collect(self)

    monkeypatch.setattr(forward, "begin_batch", begun)
    monkeypatch.setattr(PendingStats, "collect", collected)
    assert rows(tmp_path / "beside", True) == expected
    # Also from one block to the next, and from one subset to the next.
    assert events == ["begin", *["begin", "end"] * (len(events) // 2 - 1), "end"]


def test_a_token_that_the_model_lacks_is_an_error_that_names_the_example(model: Any, tokenizer: Any) -> None:
    small = type(model)(type(model.config)(**model.config.to_dict() | {"vocab_size": 40})).eval()
    with pytest.raises(UserError, match="the example 0 has the token"):
        ibft.scoring.score(small, tokenizer, TEXTS)
