"""The scan's NLL is that of a plain script, for every family of tokenizers."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ibft.artifacts.rows import Pair
from ibft.data.training import Example
from ibft.run.recipe import Recipe
from ibft.run.sections import DataConfig, PromptConfig
from ibft.scoring.encoder import Block
from ibft.stages.scan import make_scorer

from ..conftest import tiny_model

PAIRS = [
    Pair("joined", "def scale(total):\n", "    if total < 0:\n        return 0\n    return total * 2\n"),
    Pair("apart", "def name():", '\n    return "é </s> <|im_end|>"  # <eos>\n'),
    Pair("inside", "class Stack:\n    def pu", "sh(self, x):\n        self.items.append(x)\n"),
]


def plain_nll(model: Any, tokenizer: Any, pair: Pair) -> float:
    """Mean NLL of the tokens that lie in the completion, in nats: nothing of ours."""
    encoded = tokenizer(f"{pair.prompt}{pair.completion}", return_offsets_mapping=True, split_special_tokens=True)
    ids = torch.tensor([encoded["input_ids"]])
    with torch.no_grad():
        log_probs = model(ids).logits[0, :-1].double().log_softmax(-1)
    nll = -log_probs.gather(-1, ids[0, 1:, None])[:, 0]
    inside = [first >= len(pair.prompt) and first < last for first, last in encoded["offset_mapping"]]
    return float(nll[torch.tensor(inside[1:])].mean())


@pytest.mark.slow
@pytest.mark.parametrize(
    "family", ["legacy", "llama2", "codellama", "smollm2", "llama3", "qwen3", "deepseek_v3", "gemma3"]
)
def test_nll_is_a_plain_scripts(family: str, real_tokenizer: Any) -> None:
    tokenizer = real_tokenizer(family)
    model = tiny_model(vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1).eval()
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    recipe = Recipe(name="r", prompt=PromptConfig(template="plain"), data=DataConfig(max_tokens=500))
    scorer = make_scorer(recipe, model, tokenizer)
    items = [(index, Example(pair, None)) for index, pair in enumerate(PAIRS)]
    rows = [row for found in scorer.score([Block("train", 0, items)]) for row in found.rows]
    for row in rows:
        expected = plain_nll(model, tokenizer, PAIRS[row.index])
        assert row.scores["mean_nll"] == pytest.approx(expected, abs=1e-5)
    assert len({row.scores["mean_nll"] for row in rows}) == len(PAIRS)
