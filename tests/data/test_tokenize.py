from pathlib import Path
from typing import Any

import pytest

from ibft.data.prompts import render_prompt
from ibft.data.tokenize import NOT_UNICODE, tokenize_pairs, tokenize_prompt
from ibft.errors import UserError
from ibft.models import load_tokenizer
from ibft.recipe import ModelConfig, PromptConfig
from ibft.rows import Message, Pair

PAIR = Pair("one", "def add(a, b):\n", "    return a + b\n")


@pytest.fixture(scope="module")
def tokenizer(tiny_model_folder: Path) -> Any:
    return load_tokenizer(ModelConfig(name=str(tiny_model_folder)))


@pytest.mark.parametrize("template", ["plain", "instruction", "chat"])
def test_training_starts_with_exactly_the_tokens_that_generation_sends(tokenizer: Any, template: Any) -> None:
    config = PromptConfig(template=template)
    example = tokenize_pairs([PAIR], tokenizer, config, 100).examples[0]
    assert example.input_ids[: example.prompt_length] == tokenize_prompt(PAIR.prompt, tokenizer, config)
    assert tokenizer.decode(example.input_ids[example.prompt_length :]) == PAIR.completion + "<eos>"


def test_templates_render_as_documented(tokenizer: Any) -> None:
    turns = (Message("system", "s"), Message("user", "u"))
    assert render_prompt("p", "plain", tokenizer) == "p"
    assert render_prompt("p", "instruction", tokenizer) == "p\n"
    assert render_prompt((Message("user", "p"),), "instruction", tokenizer) == "p\n"
    assert render_prompt("p", "chat", tokenizer) == "<user>p<assistant>"
    assert render_prompt(turns, "chat", tokenizer) == "<system>s<user>u<assistant>"
    with pytest.raises(UserError, match=r"Use prompt\.template: chat"):
        render_prompt(turns, "plain", tokenizer)


def test_the_mask_covers_the_completion_and_the_end_token(tokenizer: Any) -> None:
    example = tokenize_pairs([PAIR], tokenizer, PromptConfig(), 100).examples[0]
    assert example.labels[: example.prompt_length] == [-100] * example.prompt_length
    assert example.labels[example.prompt_length :] == example.input_ids[example.prompt_length :]
    assert example.labels[-1] == tokenizer.eos_token_id
    without = tokenize_pairs([PAIR], tokenizer, PromptConfig(end_of_text=False), 100).examples[0]
    assert without.input_ids == example.input_ids[:-1]


def test_what_cannot_be_used_is_counted_and_never_cut(tokenizer: Any) -> None:
    pairs = [PAIR, Pair("long", "x", "y " * 200), Pair("empty", "x", " \n"), Pair("no prompt", "", "y")]
    data = tokenize_pairs(pairs, tokenizer, PromptConfig(), 50)
    assert [example.id for example in data.examples] == ["one"]
    assert data.skipped == {
        "longer than 50 tokens": ["long"],
        "empty completion": ["empty"],
        "empty prompt": ["no prompt"],
    }
    assert data.num_skipped["empty completion"] == 1


def test_a_conversation_that_needs_a_chat_template_is_named(tokenizer: Any) -> None:
    pair = Pair("data.jsonl, line 7", (Message("system", "s"), Message("user", "u")), "c")
    with pytest.raises(UserError, match=r"the example data\.jsonl, line 7 has 2 turns"):
        tokenize_pairs([PAIR, pair], tokenizer, PromptConfig(), 100)


def test_texts_and_roles_that_are_no_unicode_are_skipped(tokenizer: Any) -> None:
    pairs = [PAIR, Pair("text", "p", "\ud800"), Pair("role", (Message("\ud800", "u"),), "c")]
    data = tokenize_pairs(pairs, tokenizer, PromptConfig(template="chat"), 100)
    assert data.skipped == {NOT_UNICODE: ["text", "role"]}


def test_nothing_left_is_an_error_that_says_why(tokenizer: Any) -> None:
    with pytest.raises(UserError, match="1 longer than 3 tokens"):
        tokenize_pairs([PAIR], tokenizer, PromptConfig(), 3)
    with pytest.raises(UserError, match="the data set is empty"):
        tokenize_pairs([], tokenizer, PromptConfig(), 3)
