from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from ibft.data.tokenize import TokenizedExample
from ibft.memorization import stage as scan_stage
from ibft.memorization.logprobs import batches_by_tokens, response_log_probs
from ibft.memorization.stage import scan
from ibft.models import load_model
from ibft.recipe import DataConfig, ModelConfig, Recipe, ScanConfig
from ibft.rows import Score, read_rows
from ibft.runs import RunFolder

EXAMPLES = [TokenizedExample(str(i), [5 + (i * j) % 90 for j in range(1, 8 + 5 * i)], 3) for i in range(6)]


@pytest.fixture(scope="module")
def model(tiny_model_folder: Path) -> Any:
    return load_model(ModelConfig(name=str(tiny_model_folder), dtype="float32", device="cpu"))


def test_log_probs_agree_with_float64_one_at_a_time(model: Any) -> None:
    got = response_log_probs(model, EXAMPLES, pad_token_id=0)
    reference = load_model(ModelConfig(name=model.config._name_or_path, dtype="float32", device="cpu")).double()
    for example, values in zip(EXAMPLES, got, strict=True):
        ids = torch.tensor([example.input_ids])
        with torch.no_grad():
            log_probs = torch.log_softmax(reference(ids).logits[0], dim=-1)
        expected = [log_probs[t - 1, ids[0, t]].item() for t in range(3, len(example.input_ids))]
        assert values == pytest.approx(expected, abs=1e-4)


def test_neighbours_and_order_do_not_matter(model: Any) -> None:
    together = response_log_probs(model, EXAMPLES, pad_token_id=0)
    reversed_order = response_log_probs(model, EXAMPLES[::-1], pad_token_id=7)[::-1]
    alone = [response_log_probs(model, [example], pad_token_id=0)[0] for example in EXAMPLES]
    for a, b, c in zip(together, reversed_order, alone, strict=True):
        assert a == pytest.approx(b, abs=1e-5)
        assert a == pytest.approx(c, abs=1e-5)


def test_batches_stay_within_their_budget_and_lose_nothing() -> None:
    batches = list(batches_by_tokens(EXAMPLES, 40))
    assert sorted(e.id for batch in batches for e in batch) == [e.id for e in EXAMPLES]
    assert all(len(b) == 1 or len(b) * max(len(e.input_ids) for e in b) <= 40 for b in batches)
    assert any(len(batch) > 1 for batch in batches)


@pytest.fixture
def recipe(tiny_model_folder: Path, tmp_path: Path) -> Recipe:
    rows = [{"prompt": f"def f{i}():\n", "completion": f"    return {i}\n" * (i + 1)} for i in range(8)]
    rows.append({"prompt": "def g():\n", "completion": ""})
    data = tmp_path / "data.jsonl"
    data.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    return Recipe(
        name="scan",
        output=str(tmp_path / "runs"),
        model=ModelConfig(name=str(tiny_model_folder), dtype="float32", device="cpu"),
        data=DataConfig(train=str(data), control="functions:click", max_control_examples=10, max_tokens=200),
        scan=ScanConfig(batch_tokens=64),
    )


def test_the_stage_writes_scores_summary_and_plot(recipe: Recipe) -> None:
    with RunFolder(recipe).open() as run:
        scan(recipe, run)
        scores = list(read_rows(run.path / "scan" / "scores.jsonl", Score))
        summary = msgspec.json.decode((run.path / "scan" / "summary.json").read_bytes())
        assert (run.path / "scan" / "densities.svg").read_text().lstrip().startswith("<")
    train = [score for score in scores if score.subset == "train"]
    assert [score.reason for score in train] == [None] * 8 + ["empty completion"]
    assert summary["subsets"]["train"]["num_scored"] == 8
    assert summary["skipped"]["train"] == {"empty completion": 1}
    assert 0 <= summary["auroc_min_k_prob"] <= 1


def test_an_interrupted_scan_goes_on_and_ends_the_same(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = msgspec.structs.replace(recipe, name="whole")
    with RunFolder(whole).open() as run:
        scan(whole, run)
        expected = (run.path / "scan" / "scores.jsonl").read_bytes()

    calls = 0

    def interrupted_once(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return response_log_probs(*arguments)

    monkeypatch.setattr(scan_stage, "response_log_probs", interrupted_once)
    with RunFolder(recipe).open() as run:
        with pytest.raises(KeyboardInterrupt):
            scan(recipe, run)
        assert not (run.path / "scan").exists()
        kept = (run.path / "scan.partial" / "scores.jsonl").read_bytes().splitlines()
        scan(recipe, run)
        got = list(read_rows(run.path / "scan" / "scores.jsonl", Score))
        lines = (run.path / "scan" / "scores.jsonl").read_bytes().splitlines()
    want = [msgspec.json.decode(line, type=Score) for line in expected.splitlines()]
    assert 0 < len(kept) < len(lines)
    assert set(kept) <= set(lines)  # what was scored before the interruption was not scored again
    assert [row.id for row in got] == [row.id for row in want]
    for a, b in zip(got, want, strict=True):
        assert a.min_k_prob == (b.min_k_prob if b.min_k_prob is None else pytest.approx(b.min_k_prob, abs=1e-5))
