"""From a pair of texts to its row: the scores against the papers' formulas on full logits in float64."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from ibft.artifacts.rows import Pair, Score
from ibft.data.training import Example
from ibft.errors import UserError
from ibft.models.loading import load_model, load_tokenizer
from ibft.run.recipe import Recipe
from ibft.run.sections import DataConfig, ModelConfig, PromptConfig, ScanConfig
from ibft.scoring import forward, token_stats
from ibft.scoring.encoder import Block
from ibft.scoring.engine import Scorer
from ibft.scoring.shown import show_tokens
from ibft.stages import scan as stage
from ibft.stages.scan import make_scorer

from ..conftest import tiny_model

PAIRS = [
    Pair("add", "def add(first, second):\n", "    return (first + second) * 2\n"),
    Pair(
        "loop",
        "def show(items):\n",
        "    for item in items:\n        print(f'<{item}>', end='')\n    return None\n" * 2,
    ),
    Pair("same id", "x", "print([1, 2, (3, 4)])\n"),
    Pair("same id", "Write a module that inverts.", "module top(input a, output b);\n  assign b = ~a;\nendmodule\n"),
    Pair("prose", "Why?", "Because it is so."),
    Pair("unicode", "Grüße: ", "print('日本語 and Grüße')\n"),
]
SCAN = ScanConfig(batch_tokens=200, k_percent=(10.0, 20.0, 33.0), prefix_tokens=4, suffix_tokens=6)


def tiny(kind: str, vocabulary: int, seed: int = 0) -> Any:
    family, more = ("gemma2", {"head_dim": 8, "final_logit_softcapping": 2.0}) if kind == "soft cap" else ("llama", {})
    return tiny_model(family, seed=seed, vocab_size=vocabulary, **more).double().eval()


@pytest.fixture(scope="module")
def tokenizer(tiny_model_folder: Path) -> Any:
    return load_tokenizer(ModelConfig(name=str(tiny_model_folder)))


@pytest.fixture(scope="module", params=["plain", "soft cap"])
def model(request: pytest.FixtureRequest, tokenizer: Any) -> Any:
    return tiny(str(request.param), len(tokenizer))


@pytest.fixture
def recipe(tiny_model_folder: Path) -> Recipe:
    return Recipe(
        name="scan",
        prompt=PromptConfig(template="plain"),
        model=ModelConfig(name=str(tiny_model_folder), dtype="float32", device="cpu"),
        data=DataConfig(max_tokens=300),
        scan=SCAN,
    )


def with_scan(recipe: Recipe, **changes: Any) -> Recipe:
    return msgspec.structs.replace(recipe, scan=msgspec.structs.replace(recipe.scan, **changes))


def rows_of(scorer: Scorer, pairs: Sequence[Pair]) -> list[Score]:
    """In the order of the pairs."""
    items = [(index, Example(pair, None)) for index, pair in enumerate(pairs)]
    rows = [row for found in scorer.score([Block("train", 0, items)]) for row in found.rows]
    assert sorted(row.index for row in rows) == list(range(len(pairs)))
    return sorted(rows, key=lambda row: row.index)


class Reference:
    """By the papers' formulas, an example at a time, on full logits in float64; nothing of ours."""

    def __init__(self, model: Any, tokenizer: Any, pair: Pair, region: str) -> None:
        text = pair.prompt + pair.completion
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        self.ids, border = encoded["input_ids"], len(pair.prompt)
        self.num_prompt = sum(begin < border for begin, _ in encoded["offset_mapping"])
        start = 1 if region == "all" else self.num_prompt
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([self.ids])).logits[0]
        assert logits.dtype == torch.float64
        self.log_p = logits.log_softmax(dim=-1).numpy()
        self.log_probs = np.array([self.log_p[t - 1, self.ids[t]] for t in range(1, len(self.ids))])
        p = np.exp(self.log_p)
        mean = (p * self.log_p).sum(axis=-1)
        std = np.sqrt((p * (self.log_p - mean[:, None]) ** 2).sum(axis=-1))
        z = (self.log_probs - mean[:-1]) / std[:-1]
        self.scored, self.z = self.log_probs[start - 1 :], z[start - 1 :]
        self.num_bytes = len(zlib.compress((pair.completion if region == "response" else text).encode()))

    def scores(self, k_percents: Sequence[float], other: Reference | None = None) -> dict[str, float]:
        mean_nll = -self.scored.mean()
        found: dict[str, float] = {"mean_nll": mean_nll, "zlib_ratio": mean_nll / self.num_bytes}
        if other is not None:
            found["reference_ratio"] = self.scored.sum() / other.scored.sum()
        for k in k_percents:
            count = max(1, math.floor(len(self.scored) * k / 100))
            found[f"min_k_prob_{k:g}"] = -np.mean(sorted(self.scored)[:count])
            found[f"min_k_plus_plus_{k:g}"] = -np.mean(sorted(self.z)[:count])
        return found


@pytest.mark.parametrize("region", ["response", "all"])
@pytest.mark.parametrize("batch_tokens", [1, 200])
def test_every_score_agrees_with_its_formula(
    model: Any, tokenizer: Any, recipe: Recipe, region: Any, batch_tokens: int
) -> None:
    recipe = with_scan(recipe, region=region, batch_tokens=batch_tokens)
    rows = rows_of(make_scorer(recipe, model, tokenizer), PAIRS)
    for row, pair in zip(rows, PAIRS, strict=True):
        expected = Reference(model, tokenizer, pair, region)
        assert row.id == pair.id
        assert row.scores == pytest.approx(expected.scores(SCAN.k_percent), abs=1e-6, rel=1e-6), pair.id
        assert set(row.scores) == set(recipe.scan.score_names)
        assert row.num_tokens == len(expected.scored)


@pytest.mark.parametrize("region", ["response", "all"])
def test_the_ratio_to_a_reference_model(
    tokenizer: Any, recipe: Recipe, region: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which cuts the text into tokens of its own: bytes, here."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    of_bytes = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(alphabet)}, merges=[]))
    of_bytes.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    of_bytes.decoder = decoders.ByteLevel()
    other_tokenizer = PreTrainedTokenizerFast(tokenizer_object=of_bytes, pad_token=alphabet[0])
    model, other = tiny("plain", len(tokenizer)), tiny("soft cap", 256, seed=5)
    named = ModelConfig(name="other")
    loaded: list[ModelConfig] = []
    monkeypatch.setattr(stage, "load_model", lambda config: loaded.append(config) or other)
    monkeypatch.setattr(stage, "load_tokenizer", lambda config: other_tokenizer)
    recipe = with_scan(recipe, region=region, reference=named)
    longest = max(len(ids_of(tokenizer, f"{pair.prompt}{pair.completion}")) for pair in PAIRS)
    recipe = msgspec.structs.replace(recipe, data=DataConfig(max_tokens=longest + 1))  # not the reference's limit
    rows = rows_of(make_scorer(recipe, model, tokenizer), PAIRS)
    assert loaded == [named]
    for row, pair in zip(rows, PAIRS, strict=True):
        theirs = Reference(other, other_tokenizer, pair, region)
        expected = Reference(model, tokenizer, pair, region).scores(SCAN.k_percent, theirs)
        assert row.scores == pytest.approx(expected, abs=1e-6, rel=1e-6), pair.id
        assert "reference_ratio" in row.scores
        assert row.num_tokens < len(theirs.scored)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 1e-4)])
def test_order_and_batches_do_not_matter(
    model: Any, tokenizer: Any, recipe: Recipe, dtype: torch.dtype, tolerance: float
) -> None:
    same = type(model)(model.config).eval()
    same.load_state_dict(model.state_dict())
    same = same.to(dtype)
    alone = [rows_of(make_scorer(recipe, same, tokenizer), [pair])[0].scores for pair in PAIRS]
    for pairs, batch_tokens in ((PAIRS, 10_000), (PAIRS[::-1], 10_000), (PAIRS, 250), (PAIRS, 1)):
        rows = rows_of(make_scorer(with_scan(recipe, batch_tokens=batch_tokens), same, tokenizer), pairs)
        for row, expected in zip(rows, alone if pairs is PAIRS else alone[::-1], strict=True):
            assert row.scores == pytest.approx(expected, abs=tolerance, rel=tolerance)


def test_a_batch_too_large_for_the_memory_is_halved(
    model: Any, tokenizer: Any, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = rows_of(make_scorer(recipe, model, tokenizer), PAIRS)
    sizes: list[int] = []

    def begin_batch(model: Any, batch: Any, pad_token_id: int) -> Any:
        sizes.append(len(batch) * max(len(example.input_ids) for example in batch))
        if sizes[-1] > 2 * longest:
            raise torch.OutOfMemoryError
        return token_stats.begin_batch(model, batch, pad_token_id)

    longest = max(len(ids_of(tokenizer, str(pair.prompt) + pair.completion)) for pair in PAIRS)
    monkeypatch.setattr(forward, "begin_batch", begin_batch)
    scorer = make_scorer(with_scan(recipe, batch_tokens=10_000), model, tokenizer)
    found = rows_of(scorer, PAIRS)
    assert sizes[0] == len(PAIRS) * longest
    assert scorer.forward.batch_tokens <= 2 * longest
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.scores == pytest.approx(theirs.scores, abs=1e-6, rel=1e-6)
    longest = 1
    with pytest.raises(UserError, match=r"does not suffice for one example of \d+ tokens"):
        rows_of(scorer, PAIRS)


def test_the_padding_token_does_not_matter(model: Any, tokenizer: Any, recipe: Recipe) -> None:
    recipe = with_scan(recipe, batch_tokens=10_000)
    expected = rows_of(make_scorer(recipe, model, tokenizer), PAIRS)
    before = tokenizer.pad_token
    try:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(17)
        found = rows_of(make_scorer(recipe, model, tokenizer), PAIRS)
    finally:
        tokenizer.pad_token = before
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.scores == pytest.approx(theirs.scores, abs=1e-6, rel=1e-6)


def greedy(model: Any, tokenizer: Any, ids: list[int], count: int) -> list[int]:
    given = torch.tensor([ids])
    written = model.generate(
        given,
        attention_mask=torch.ones_like(given),
        do_sample=False,
        min_new_tokens=count,
        max_new_tokens=count,
        pad_token_id=tokenizer.pad_token_id,
    )
    return [int(token) for token in written[0, len(ids) :]]


def ids_of(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def responses(model: Any, tokenizer: Any) -> list[Pair]:
    """What the model itself writes greedily, in one copy whole and in others changed at one token."""
    found = []
    for prompt in ("def f(a):\n", "for item", "class A:", "x = 1\n"):
        of_prompt = ids_of(tokenizer, prompt)
        own = greedy(model, tokenizer, of_prompt, 14)
        for place in (None, 1, 3, 4, 6, 9, 12):
            ids = list(own)
            if place is not None:
                [ids[place]] = ids_of(tokenizer, "?")
            text = tokenizer.decode(of_prompt + ids)
            if ids_of(tokenizer, text) == of_prompt + ids:  # else its text is cut into other tokens
                found.append(Pair(f"{prompt}{place}", prompt, text[len(prompt) :]))
    return found


@pytest.fixture(scope="module")
def overfitted(tokenizer: Any) -> Any:
    """Writes plain text that its own tokenizer cuts as it was written."""
    model = tiny_model(
        vocab_size=len(tokenizer),
        hidden_size=48,
        intermediate_size=96,
        eos_token_id=tokenizer.eos_token_id,
        initializer_range=0.02,
    )
    text = (
        "def f(a):\n    return a + 1\nfor item in items:\n    print(item)\nclass A:\n    pass\nx = 1\ny = x + 2\n" * 2
    )
    ids = torch.tensor([tokenizer(text)["input_ids"]])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.double().eval()


@pytest.mark.parametrize("region", ["response", "all"])
def test_the_match_is_what_greedy_generation_writes(
    overfitted: Any, tokenizer: Any, recipe: Recipe, region: Any
) -> None:
    recipe = with_scan(recipe, region=region)
    pairs = responses(overfitted, tokenizer)
    rows = rows_of(make_scorer(recipe, overfitted, tokenizer), pairs)
    prefix, suffix = SCAN.prefix_tokens, SCAN.suffix_tokens
    matched = []
    for row, pair in zip(rows, pairs, strict=True):
        own = Reference(overfitted, tokenizer, pair, "response")
        start = own.num_prompt + prefix
        true = own.ids[start : start + suffix]
        written = greedy(overfitted, tokenizer, own.ids[:start], suffix)
        expected = next((n for n, (a, b) in enumerate(zip(written, true, strict=True)) if a != b), suffix)
        assert (row.num_prefix_tokens, row.num_suffix_tokens, row.num_matched_tokens) == (prefix, suffix, expected)
        assert row.suffix_log_prob == pytest.approx(own.log_probs[start - 1 : start - 1 + suffix].sum(), abs=1e-6)
        matched.append(expected)
    assert len(pairs) >= 12
    assert {0, 2, 5, suffix} <= set(matched)


def test_a_response_shorter_than_prefix_and_suffix_has_scores_and_no_match(
    model: Any, tokenizer: Any, recipe: Recipe
) -> None:
    num = len(Reference(model, tokenizer, PAIRS[0], "response").scored)
    for suffix, is_tried in ((num - 4, True), (num - 3, False)):
        [row] = rows_of(make_scorer(with_scan(recipe, suffix_tokens=suffix), model, tokenizer), PAIRS[:1])
        assert row.scores
        assert (row.num_suffix_tokens == suffix) is is_tried
        assert (row.suffix_log_prob is not None) is is_tried


WITHOUT_SCORES = {
    "empty": (Pair("empty", "p", ""), "empty completion"),
    "whitespace": (Pair("whitespace", "p", " \n\t \n"), "empty completion"),
    "one token": (Pair("one token", "p", "x"), "response of one token"),
    "long": (Pair("long", "p", "a b c " * 200), "longer than 300 tokens"),
    "no prompt": (Pair("no prompt", "", "print(1)\n"), "empty prompt"),
}


@pytest.mark.parametrize("region", ["response", "all"])
def test_what_cannot_be_scored_has_a_reason_and_no_number(
    model: Any, tokenizer: Any, recipe: Recipe, region: Any
) -> None:
    recipe = with_scan(recipe, region=region)
    pairs = [PAIRS[0], *(pair for pair, _ in WITHOUT_SCORES.values()), PAIRS[1]]
    first, *rows, last = rows_of(make_scorer(recipe, model, tokenizer), pairs)
    assert first.reason is None
    assert last.reason is None
    for row, (index, (name, (_, reason))) in zip(rows, enumerate(WITHOUT_SCORES.items(), start=1), strict=True):
        assert row == Score(id=name, subset="train", index=index, reason=reason)


def test_the_longest_that_training_takes_is_scored(model: Any, tokenizer: Any, recipe: Recipe) -> None:
    """The end token counts, as in training, though it has no score."""
    num = len(ids_of(tokenizer, f"{PAIRS[0].prompt}{PAIRS[0].completion}"))
    for max_tokens, reason in ((num + 1, None), (num, f"longer than {num} tokens")):
        own = msgspec.structs.replace(recipe, data=DataConfig(max_tokens=max_tokens))
        [row] = rows_of(make_scorer(own, model, tokenizer), PAIRS[:1])
        assert row.reason == reason


def test_a_score_that_is_not_finite_is_left_out(tokenizer: Any, recipe: Recipe) -> None:
    model = tiny("plain", len(tokenizer))
    with torch.no_grad():
        model.lm_head.weight[tokenizer("(")["input_ids"][0]] = float("nan")  # spoils every prediction
    [row] = rows_of(make_scorer(recipe, model, tokenizer), PAIRS[:1])
    assert row.scores == {}


def test_an_example_token_by_token(model: Any, tokenizer: Any, recipe: Recipe) -> None:
    for pair in PAIRS:
        own = Reference(model, tokenizer, pair, "response")
        shown = show_tokens(make_scorer(recipe, model, tokenizer), "train", 0, Example(pair, {"file": "a.py"}), 1.25)
        assert "".join(shown.tokens) == f"{pair.prompt}{pair.completion}"
        assert len(shown.tokens) == len(own.ids)
        assert shown.num_prompt_tokens == own.num_prompt
        assert shown.log_probs == pytest.approx(own.scored.tolist(), abs=1e-4)
        assert (shown.id, shown.subset, shown.score, shown.file) == (pair.id, "train", 1.25, "a.py")
        [row] = rows_of(make_scorer(recipe, model, tokenizer), [pair])
        assert shown.matched == (row.num_matched_tokens if row.num_suffix_tokens else None)
        whole = make_scorer(with_scan(recipe, region="all"), model, tokenizer)
        everything = show_tokens(whole, "train", 0, Example(pair, None), 0.0)
        assert everything.log_probs == pytest.approx(shown.log_probs, abs=1e-4)


def test_an_adapter_that_is_not_merged_is_part_of_the_model(tokenizer: Any, recipe: Recipe) -> None:
    """As a rescan has it over quantized weights."""
    from peft import LoraConfig, get_peft_model

    plain = tiny("plain", len(tokenizer))
    before = rows_of(make_scorer(recipe, plain, tokenizer), PAIRS)
    adapter = LoraConfig(r=2, target_modules=["q_proj", "up_proj"], init_lora_weights=False)
    adapted = get_peft_model(plain, adapter).double().eval()
    for row, base, pair in zip(rows_of(make_scorer(recipe, adapted, tokenizer), PAIRS), before, PAIRS, strict=True):
        expected = Reference(adapted, tokenizer, pair, "response").scores(SCAN.k_percent)
        assert row.scores == pytest.approx(expected, abs=1e-6, rel=1e-6)
        assert abs(row.scores["mean_nll"] - base.scores["mean_nll"]) > 1e-3


def test_the_loaded_model_scores_as_the_models_own_loss(
    tiny_model_folder: Path, tokenizer: Any, recipe: Recipe
) -> None:
    model = load_model(recipe.model)
    [row] = rows_of(make_scorer(recipe, model, tokenizer), PAIRS[:1])
    ids = torch.tensor([ids_of(tokenizer, f"{PAIRS[0].prompt}{PAIRS[0].completion}")])
    labels = ids.clone()
    labels[:, : -row.num_tokens] = -100
    with torch.no_grad():
        loss = model(input_ids=ids, labels=labels).loss
    assert row.scores["mean_nll"] == pytest.approx(loss.item(), abs=1e-4)


def test_the_reference_models_context_is_kept(tokenizer: Any, recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = tiny("plain", len(tokenizer), seed=5)
    reference.config.max_position_embeddings = 4
    monkeypatch.setattr(stage, "load_model", lambda config: reference)
    monkeypatch.setattr(stage, "load_tokenizer", lambda config: tokenizer)
    recipe = with_scan(recipe, reference=ModelConfig(name="other"))
    found = rows_of(make_scorer(recipe, tiny("plain", len(tokenizer)), tokenizer), PAIRS)
    rows = [row for row in found if not row.reason]
    assert rows
    assert all("mean_nll" in row.scores and "reference_ratio" not in row.scores for row in rows)


def test_a_model_that_gives_no_number_has_a_reason(tokenizer: Any, recipe: Recipe) -> None:
    model = tiny("plain", len(tokenizer))
    model.lm_head.weight.data[:] = math.nan
    for row in rows_of(make_scorer(recipe, model, tokenizer), PAIRS):
        assert (row.reason, row.scores) == ("without finite probabilities", {})
