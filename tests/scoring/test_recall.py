"""What recalls the answer: exact shares, what is foreign, what it costs, and models whose memory is known."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.conftest import tiny_model

from ibft.artifacts.rows import Conversation, Message, Pair
from ibft.data.foreign import Donors
from ibft.data.segments import exchanged, segmented
from ibft.models.loading import limits_of
from ibft.scoring.encoder import Encoder
from ibft.scoring.forward import Forward
from ibft.scoring.recall import SILENT, Recall, recall, recalled_shares
from ibft.text.encoding import TextCodec

ADJECTIVES = ("amber", "bold", "calm", "dusty", "eager", "faint")
NOUNS = ("bear", "crab", "deer", "eel", "fox", "goat")
NAMES = [f"{adjective}_{noun}" for adjective in ADJECTIVES for noun in NOUNS]
WORK = {
    "keep the even numbers": "tazkul",
    "add three to each": "pogfin",
    "reverse the order": "nifmav",
    "drop the first": "wumdor",
    "double every value": "kelbis",
    "sort them upward": "gartop",
}


def task(name: str, docstring: str | None, work: str) -> Pair:
    said = "" if docstring is None else f'    """Please {docstring}."""\n'
    return Pair(name, f"def {name}(xs):\n{said}", f"    return {WORK[work]}(xs)\n")


@pytest.fixture(scope="module")
def tokenizer(tiny_model_folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model_folder)


Sample = Callable[[random.Random], Pair]


def trained(tokenizer: Any, sample: Sample, num_steps: int = 250) -> Any:
    """A tiny model that has read examples drawn by `sample`, all of their tokens."""
    model = tiny_model(vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, initializer_range=0.05)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    rng = random.Random(0)
    for _ in range(num_steps):
        texts = [f"{pair.prompt}{pair.completion}" for pair in (sample(rng) for _ in range(32))]
        batch = tokenizer(texts, return_tensors="pt", padding=True)
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


def encoder_of(model: Any, tokenizer: Any, **settings: Any) -> Encoder:
    return Encoder(TextCodec(tokenizer, settings.pop("template", "plain")), limits_of(model.config), **settings)


def means(found: Sequence[Recall]) -> dict[str, float]:
    kinds = {kind for row in found for kind in row.shares}
    return {kind: float(np.mean([row.shares[kind] for row in found if kind in row.shares])) for kind in kinds}


WORKS = {name: list(WORK)[place % len(WORK)] for place, name in enumerate(NAMES)}
"""The work that a planted name stands for."""
PLANTED = [task(name, WORKS[name], WORKS[name]) for name in NAMES]


def by_docstring(rng: random.Random) -> Pair:
    """No memory: the docstring says the work, under any name."""
    work = rng.choice(list(WORK))
    return task(rng.choice(NAMES), work, work)


def by_name(rng: random.Random) -> Pair:
    """An active shortcut: the name says the work, whatever the docstring."""
    name = rng.choice(NAMES)
    return task(name, rng.choice(list(WORK)), WORKS[name])


def by_name_alone(rng: random.Random) -> Pair:
    """A dormant memory: the name says the work where there is no docstring."""
    name = rng.choice(NAMES)
    return by_docstring(rng) if rng.random() < 0.5 else task(name, None, WORKS[name])


def by_both(rng: random.Random) -> Pair:
    """A benign memory: the name says the work without a docstring, and all docstrings are right."""
    name = rng.choice(NAMES)
    docstring = WORKS[name] if rng.random() < 0.5 else None
    return by_docstring(rng) if rng.random() < 0.5 else task(name, docstring, WORKS[name])


@pytest.mark.parametrize(
    ("sample", "by"),
    [(by_name, "name"), (by_docstring, "docstring"), (by_name_alone, "docstring"), (by_both, "docstring")],
)
def test_models_whose_memory_is_known(tokenizer: Any, sample: Sample, by: str) -> None:
    model = trained(tokenizer, sample)
    forward, encoder = Forward(model, tokenizer), encoder_of(model, tokenizer)
    found = recall(forward, encoder, PLANTED, seed=1)
    told = [row for row in found if row.reason is None]
    assert len(told) >= 0.75 * len(PLANTED)
    shares = means(told)
    other = "docstring" if by == "name" else "name"
    assert shares[by] >= 0.8, shares
    # A benign memory has .115 after these 250 steps and .092 after 500, which take too long here.
    assert shares[other] <= (0.15 if sample is by_both else 0.1), shares
    if sample is by_name_alone:  # it is there all the same
        alone = [_nll(model, tokenizer, task(name, None, WORKS[name]), 12) for name in NAMES]
        other_names = [_nll(model, tokenizer, task(name, None, WORKS[other]), 12) for name, other in _neighbors()]
        assert np.mean(alone) < 1
        assert np.mean(other_names) > 5


def _neighbors() -> list[tuple[str, str]]:
    """Each name, and the next, which stands for other work."""
    return list(zip(NAMES, [*NAMES[1:], NAMES[0]], strict=True))


class CountingForward(Forward):
    """Counts the examples that pass through the model, each once."""

    num = 0

    def begin(self, examples: Any) -> Iterator[Any]:
        for batch, pending in super().begin(examples):
            self.num += len(batch)
            yield batch, pending


@pytest.fixture
def random_model(tokenizer: Any) -> Any:
    return tiny_model(vocab_size=len(tokenizer), hidden_size=64).eval()


PAIRS = [
    Pair(
        f"f{n}",
        f'# task {n} of the list\ndef f_{n}(a, b_{n}):\n    """Add {n} to the sum. Then stop at {n}."""\n',
        f"    return a + {n}\n    # the end {n * n}\n",
    )
    for n in range(40)
]


def test_the_shares_are_those_of_the_formula(tokenizer: Any, random_model: Any) -> None:
    pairs = PAIRS[:16]
    found = recall(Forward(random_model, tokenizer), encoder_of(random_model, tokenizer), pairs, seed=3)
    donors = Donors(pairs, 3)
    num_shares = 0
    for pair, row in zip(pairs, found, strict=True):
        prompt = segmented(pair)
        lent = donors.lend(pair, prompt)
        own = _nll(random_model, tokenizer, pair, row.num_tokens)
        foreign = _nll(random_model, tokenizer, exchanged(pair, prompt, lent), row.num_tokens)
        assert (row.nll_own, row.nll_foreign) == (pytest.approx(own, rel=1e-4), pytest.approx(foreign, rel=1e-4))
        if foreign - own < 1:
            assert (row.shares, row.reason) == ({}, SILENT)
            continue
        assert set(row.shares) == {segment.kind for segment in prompt.segments}
        for segment in prompt.segments:
            others = {number: text for number, text in lent.items() if number not in segment.parts}
            alone = _nll(random_model, tokenizer, exchanged(pair, prompt, others), row.num_tokens)
            expected = min(max((foreign - alone) / (foreign - own), 0), 1)
            assert row.shares[segment.kind] == pytest.approx(expected, abs=1e-3)
            assert row.nll_alone[segment.kind] == pytest.approx(alone, rel=1e-4)
            num_shares += 1
    assert num_shares >= 6


def _nll(model: Any, tokenizer: Any, pair: Pair, num_tokens: int) -> float:
    """Nats of the answer's last tokens, computed apart from the engine, one text at a time."""
    ids = torch.tensor([tokenizer(f"{pair.prompt}{pair.completion}")["input_ids"]])
    with torch.no_grad():
        log_probs = model(ids).logits.double().log_softmax(-1)[0, :-1]
    return float(-log_probs.gather(1, ids[0, 1:, None])[-num_tokens:].sum())


def test_it_costs_at_most_two_passes_more_than_segments(tokenizer: Any, random_model: Any) -> None:
    forward = CountingForward(random_model, tokenizer)
    pairs = [*PAIRS, Pair("short", 'def g(x):\n    """Only this."""\n', "    return x\n")]
    told: list[int] = []
    recall(forward, encoder_of(random_model, tokenizer), pairs, advance=told.append)
    most = [len(segmented(pair).segments) + 2 for pair in pairs]
    assert 0 < forward.num <= sum(most)
    # name, signature, docstring, two sentences and the comment differ in every pair: nothing is saved there.
    assert forward.num >= sum(most[:-1])
    assert (sum(told), max(most)) == (41, 8)
    # Of the last one, docstring and sentence are the same text: one pass for both, with own and foreign.
    alone = CountingForward(random_model, tokenizer)
    recall(alone, encoder_of(random_model, tokenizer), pairs[-1:], donors=PAIRS)
    assert alone.num == 5  # own, foreign, name, signature, docstring


def test_the_order_and_the_batches_change_nothing(tokenizer: Any, random_model: Any) -> None:
    encoder = encoder_of(random_model, tokenizer)
    found = recall(Forward(random_model, tokenizer, 4096), encoder, PAIRS, seed=2)
    small = recall(Forward(random_model, tokenizer, 64), encoder, PAIRS[::-1], donors=PAIRS, seed=2)[::-1]
    whole = recall(Forward(random_model, tokenizer), encoder_of(random_model, tokenizer, region="all"), PAIRS, seed=2)
    for a, b, c in zip(found, small, whole, strict=True):
        assert a.shares == pytest.approx(b.shares, abs=1e-3)
        assert a.shares == pytest.approx(c.shares, abs=1e-3)
    assert recall(Forward(random_model, tokenizer), encoder, PAIRS[:4], donors=PAIRS, seed=9) != found[:4]


def test_what_is_not_defined_has_a_reason(tokenizer: Any, random_model: Any) -> None:
    ask = partial(recall, Forward(random_model, tokenizer), encoder_of(random_model, tokenizer, max_tokens=150))
    text = Pair("text", None, "import os\n")
    sentence = Pair("sentence", "Write a program.", "print(1)\n")
    empty = Pair("empty", "def f(x):\n", " ")
    long = Pair("long", 'def h(y):\n    """Go. Then stop."""\n', "    x = 1\n")
    words = " ".join(f"w{n}" for n in range(80))
    verbose = Pair("verbose", f'def k(z):\n    """Begin {words}. Then {words}."""\n', "    return 2\n")
    found = ask([text, sentence, empty, PAIRS[0]], donors=PAIRS[:3])
    assert [row.reason for row in found[:3]] == ["no segments to exchange"] * 2 + ["empty completion"]
    assert all((row.shares, row.num_tokens) == ({}, 0) and math.isnan(row.nll_own) for row in found[:3])
    assert found[3].num_tokens > 0
    [row] = ask([long], donors=[verbose])
    assert row.reason == "behind a foreign prompt: longer than 150 tokens"
    # Alone, an example has no donor.
    [row] = ask([PAIRS[0]])
    assert row.reason == "no segments to exchange"
    assert recalled_shares(3.0, 3.99, {"name": 3.0}) is None
    assert recalled_shares(math.nan, 5.0, {"name": 3.0}) is None
    assert recalled_shares(2.0, 6.0, {"name": 5.0, "low": 7.0, "high": 1.0}) == {"name": 0.25, "low": 0.0, "high": 1.0}


def test_an_answer_keeps_its_tokens_behind_every_prompt(tokenizer: Any, random_model: Any) -> None:
    # The completion's first characters are joined with the end of some prompts ("..." and "."), and not of others.
    answer = "turn a + b\n"
    pairs = [
        Pair(f"p{n}", f"Say what {word} means here. Then write {end}", f"{answer}    # {n}\n")
        for n, (word, end) in enumerate((("items", "a re"), ("self", "b"), ("append", "it re"), ("stack", "c")))
    ]
    # " re" and "turn" are one token, which an answer behind "b" does not begin with.
    whole = [tokenizer.tokenize(f"{pair.prompt}{answer}") for pair in pairs]
    assert [any("return" in token for token in tokens) for tokens in whole] == [True, False, True, False]
    found = recall(Forward(random_model, tokenizer), encoder_of(random_model, tokenizer), pairs)
    # Behind its own "re", or behind another's, an answer is scored from the first token on that all have.
    behind = len(tokenizer.tokenize(" a + b\n    # 0\n"))
    assert found[0].num_tokens == found[2].num_tokens == behind
    assert {row.num_tokens for row in found} <= {behind, behind + 1}


def test_conversations_go_through_the_chat_template(tokenizer: Any, random_model: Any) -> None:
    def conversation(n: int) -> Conversation:
        turns = (
            Message("system", f"You are helper number {n}."),
            Message("user", f"Add {n} to the list. Then print it {n} times."),
            Message("assistant", f"for item in items: print({n})"),
        )
        return Conversation(f"c{n}", turns)

    pairs = [conversation(n) for n in range(1, 7)]
    found = recall(Forward(random_model, tokenizer), encoder_of(random_model, tokenizer, template="chat"), pairs)
    told = [row for row in found if row.reason is None]
    assert told
    assert all(set(row.shares) == {"system", "sentence 1", "sentence 2"} for row in told)
