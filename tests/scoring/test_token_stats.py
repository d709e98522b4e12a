"""One forward pass gives what full logits in float64 give, and never holds them."""

from __future__ import annotations

import functools
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from ibft.artifacts.rows import Score
from ibft.scoring import token_stats as module
from ibft.scoring.encoder import ScanExample
from ibft.scoring.token_stats import MIN_STD, PendingStats, TokenStats, batches_by_tokens, begin_batch

from ..conftest import tiny_model

VOCABULARY, PAD = 90, 0
ROW = Score(id="", subset="train", index=0)
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("llama", {}),
    # Caps its logits, which would reach about 10 without.
    "soft cap": ("gemma2", {"head_dim": 8, "final_logit_softcapping": 3.0, "tie_word_embeddings": False}),
    "logit scale": ("granite", {"logits_scaling": 0.25}),
    # Its window is shorter than the padding of a short example, which then attends to nothing at all.
    "sliding window": ("mistral", {"sliding_window": 16}),
}


@pytest.fixture(scope="module", params=list(FAMILIES))
def model(request: pytest.FixtureRequest) -> Any:
    family, settings = FAMILIES[request.param]
    ids = {"pad_token_id": PAD, "bos_token_id": None, "eos_token_id": None}
    return tiny_model(family, vocab_size=VOCABULARY, **ids, **settings).double().eval()


def examples(seed: int = 0) -> list[ScanExample]:
    """Of different lengths, scored from different tokens on; one has two tokens, one a single scored token."""
    chance = random.Random(seed)
    lengths = [(2, 1), (9, 8), (17, 1), (40, 25), (33, 4), (40, 3), (12, 6)]
    return [
        ScanExample([chance.randrange(1, VOCABULARY) for _ in range(length)], start, start, ROW, 1)
        for length, start in lengths
    ]


def from_full_logits(model: Any, example: ScanExample) -> TokenStats:
    """The definitions of Min-K%++ (arXiv 2404.02936, equations 2 and 3), position by position, of one example alone."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([example.input_ids])).logits[0].double()
    rows = []
    for place in range(example.start, len(example.input_ids)):
        log_p = torch.log_softmax(logits[place - 1], dim=-1)
        p = log_p.exp()
        mean = (p * log_p).sum()
        std = (p * (log_p - mean) ** 2).sum().sqrt()
        target = example.input_ids[place]
        rows.append((log_p[target].item(), mean.item(), std.item(), bool(log_p.argmax() == target)))
    return TokenStats(*(np.array(column) for column in zip(*rows, strict=True)))


def assert_close(found: Sequence[TokenStats], expected: Sequence[TokenStats], atol: float) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        for ours, theirs in zip(one, other, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=atol)


def test_agrees_with_the_definition_on_full_logits(model: Any) -> None:
    batch = examples()
    expected = [from_full_logits(model, example) for example in batch]
    found = begin_batch(model, batch, PAD).collect()
    assert_close(found, expected, 1e-6)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.z, (other.log_prob - other.mean) / other.std, atol=1e-6)


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-6), (torch.float32, 1e-4)])
def test_neighbors_order_and_padding_token_do_not_matter(model: Any, dtype: torch.dtype, atol: float) -> None:
    model = MODELS_IN[dtype](model)
    batch = examples()
    alone = [begin_batch(model, [example], PAD).collect()[0] for example in batch]
    assert_close(begin_batch(model, batch, PAD).collect(), alone, atol)
    assert_close(begin_batch(model, batch[::-1], 7).collect()[::-1], alone, atol)
    assert_close(begin_batch(model, [batch[0], batch[3]], 42).collect(), [alone[0], alone[3]], atol)


def _in_float32(model: Any) -> Any:
    copy = type(model)(model.config).eval()
    copy.load_state_dict(model.state_dict())
    return copy.float()


MODELS_IN = {torch.float64: lambda model: model, torch.float32: _in_float32}


def test_only_scored_positions_reach_lm_head_a_chunk_at_a_time(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 16)
    shapes: list[tuple[int, ...]] = []
    handle = model.lm_head.register_forward_hook(lambda _module, _inputs, output: shapes.append(tuple(output.shape)))
    try:
        batch = examples()
        begin_batch(model, batch, PAD).collect()
    finally:
        handle.remove()
    assert sum(rows for rows, _ in shapes) == sum(len(example.input_ids) - example.start for example in batch)
    assert all(rows <= 16 and width == VOCABULARY for rows, width in shapes)


def test_chunks_join_to_the_whole(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = begin_batch(model, examples(), PAD).collect()
    monkeypatch.setattr(module, "CHUNK", 5)
    assert_close(begin_batch(model, examples(), PAD).collect(), whole, 1e-12)


def test_no_gradient_is_kept(model: Any) -> None:
    assert all(parameter.requires_grad for parameter in model.parameters())
    begin_batch(model, examples(), PAD).collect()
    assert all(parameter.grad is None for parameter in model.parameters())


def stats_of(raw: torch.Tensor, targets: list[int]) -> TokenStats:
    """Of what lm_head gives, which is not kept."""
    values = module._reduced(raw, torch.tensor(targets), 1.0, None)
    [stats] = PendingStats(list(values), np.empty(0, np.int64)).collect()
    return stats


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_certainty_and_indifference_give_finite_values(dtype: torch.dtype) -> None:
    """One token has all of the probability, or every token has the same."""
    logits = torch.zeros(3, 50, dtype=dtype)
    logits[[0, 2], 3] = 500.0
    stats = stats_of(logits, [3, 3, 4])
    np.testing.assert_allclose(stats.log_prob, [0, -np.log(50), -500], atol=1e-5)
    np.testing.assert_allclose(stats.mean, [0, -np.log(50), 0], atol=1e-5)
    np.testing.assert_allclose(stats.std, 0, atol=1e-5)
    assert stats.is_top1.tolist() == [True, True, False]
    assert np.isfinite(stats.z).all()
    np.testing.assert_allclose(stats.z, [0, 0, -500 / MIN_STD], atol=0.1)


def _fails(_graph: Any, _inputs: Any) -> Any:
    raise RuntimeError("no C compiler")


@pytest.mark.parametrize("backend", ["aot_eager", _fails])
def test_what_a_gpu_takes_gives_the_same(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """By torch.compile, for chunks of any size; and where that does not work."""
    compiled = functools.partial(torch.compile, backend=backend, fullgraph=True)
    monkeypatch.setattr(module, "_fused", None)
    monkeypatch.setattr(torch, "compile", compiled)
    torch.manual_seed(2)
    for rows in (7, 3, 1):
        raw, targets = torch.randn(rows, 60), torch.arange(rows)
        for arguments in ((raw, targets, 1.0, None), (raw.bfloat16(), targets, 0.5, 3.0)):
            with torch.inference_mode():
                found = module._reduced_on_gpu(*arguments)
                assert all(map(torch.equal, found, module._reduced(*arguments)))
    assert (module._fused is module._reduced) == (backend is _fails)


def test_a_full_memory_is_no_reason_to_go_on_without_compiling(monkeypatch: pytest.MonkeyPatch) -> None:
    def fused(*_: Any) -> Any:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(module, "_fused", fused)
    with pytest.raises(torch.OutOfMemoryError):
        module._reduced_on_gpu(torch.zeros(2, 3), torch.zeros(2, dtype=torch.long), 1.0, None)
    assert module._fused is fused


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_large_logits_cost_no_precision(offset: float) -> None:
    """Logits that all lie far from 0: the moments are those of the same logits around 0."""
    torch.manual_seed(1)
    logits = torch.randn(4, 60, dtype=torch.float64)
    rounded = (logits + offset).float()
    exact = torch.log_softmax(rounded.double(), dim=-1)
    stats = stats_of(rounded, [1, 2, 3, 4])
    mean = (exact.exp() * exact).sum(dim=-1)
    std = (exact.exp() * (exact - mean[:, None]) ** 2).sum(dim=-1).sqrt()
    np.testing.assert_allclose(stats.mean, mean, atol=1e-4)
    np.testing.assert_allclose(stats.std, std, atol=1e-4)


def test_batches_stay_within_their_budget_and_lose_nothing() -> None:
    batch = examples()
    batches = list(batches_by_tokens(batch, 80))
    assert sorted(id(example) for one in batches for example in one) == sorted(map(id, batch))
    assert all(len(one) == 1 or len(one) * max(len(e.input_ids) for e in one) <= 80 for one in batches)
    assert any(len(one) > 1 for one in batches)
    longest = [max(len(example.input_ids) for example in one) for one in batches]
    assert longest == sorted(longest, reverse=True)
    assert [len(one) for one in batches_by_tokens(batch, 1)] == [1] * len(batch)
    assert list(batches_by_tokens([], 80)) == []
