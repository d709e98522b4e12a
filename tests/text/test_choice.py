from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from transformers import GenerationConfig

from ibft.models.loading import load_stop_ids, load_tokenizer
from ibft.run.recipe import Recipe
from ibft.run.sections import DataConfig, ModelConfig, PromptConfig
from ibft.stages.resolution import resolve
from ibft.text.choice import choose_template

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture
def chat_tokenizer(tiny_model_folder: Path) -> Any:
    tokenizer = load_tokenizer(ModelConfig(name=str(tiny_model_folder)))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = CHATML
    return tokenizer


def test_an_instruct_model_ends_its_turns_and_a_base_model_with_a_template_does_not(chat_tokenizer: Any) -> None:
    end = chat_tokenizer.convert_tokens_to_ids("<|im_end|>")
    base = frozenset({chat_tokenizer.eos_token_id})
    assert choose_template(chat_tokenizer, base, is_conversation=False) == "plain"
    assert choose_template(chat_tokenizer, base, is_conversation=True) == "chat"
    assert choose_template(chat_tokenizer, base | {end}, is_conversation=False) == "chat"
    chat_tokenizer.eos_token = "<|im_end|>"
    assert choose_template(chat_tokenizer, frozenset(), is_conversation=False) == "chat"
    chat_tokenizer.chat_template = "{{ raise_exception('no') }}"
    assert choose_template(chat_tokenizer, base | {end}, is_conversation=False) == "plain"
    chat_tokenizer.chat_template = None
    assert choose_template(chat_tokenizer, base | {end}, is_conversation=True) == "plain"


@pytest.mark.parametrize(
    ("family", "stop_ids", "expected"),
    [
        ("qwen3", [151645, 151643], "chat"),
        ("llama3", [128001, 128009], "chat"),
        ("llama3", [128001], "plain"),  # as the base's generation_config.json
        ("gemma3", [1, 106], "chat"),
        ("legacy", [2], "plain"),
        ("smollm2", [2], "chat"),
    ],
)
def test_models_that_people_use(family: str, stop_ids: list[int], expected: str, real_tokenizer: Any) -> None:
    assert choose_template(real_tokenizer(family), frozenset(stop_ids), is_conversation=False) == expected


def recipe_of(folder: Path, rows: list[dict[str, Any]], template: Any = "auto") -> Recipe:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Recipe(
        name="r",
        model=ModelConfig(name=str(folder)),
        prompt=PromptConfig(template=template),
        data=DataConfig(train=str(path)),
    )


def test_auto_goes_by_the_model_and_by_the_first_example(
    tmp_path: Path, tiny_model_folder: Path, chat_tokenizer: Any
) -> None:
    (tmp_path / "config.json").write_text((tiny_model_folder / "config.json").read_text())
    chat_tokenizer.save_pretrained(tmp_path)
    pair = {"prompt": "p", "completion": "c"}
    chat = {"messages": [{"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}]}
    end = chat_tokenizer.convert_tokens_to_ids("<|im_end|>")
    model = ModelConfig(name=str(tmp_path))

    assert load_stop_ids(model) == {chat_tokenizer.eos_token_id}  # of config.json
    assert resolve(recipe_of(tmp_path, [pair, chat])).prompt.template == "plain"
    assert resolve(recipe_of(tmp_path, [chat, pair])).prompt.template == "chat"
    assert resolve(recipe_of(tmp_path, [])).prompt.template == "plain"
    GenerationConfig(eos_token_id=[chat_tokenizer.eos_token_id, end]).save_pretrained(tmp_path)
    assert load_stop_ids(model) == {chat_tokenizer.eos_token_id, end}
    assert resolve(recipe_of(tmp_path, [pair])).prompt.template == "chat"

    functions = recipe_of(tmp_path, [pair])
    functions = msgspec.structs.replace(functions, data=DataConfig(train="functions:stdlib"))
    assert resolve(functions).prompt.template == "chat"
    for template in ("plain", "instruction", "chat"):
        recipe = recipe_of(tmp_path, [chat], template)
        assert resolve(recipe).prompt == recipe.prompt
