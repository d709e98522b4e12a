"""What the command line says and refuses of templates and tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from transformers import AutoModelForCausalLM, AutoTokenizer

from ibft.cli import main
from ibft.run.recipe import Recipe, load_recipe
from ibft.run.sections import PromptConfig
from ibft.stages.resolution import as_recorded

CHATML = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ROWS = [
    {"id": f"f{n}", "prompt": f"Write f{n}.", "completion": f"def f{n}(a):\n    return a + {n}\n"} for n in range(6)
]


@pytest.fixture(scope="module")
def instruct_folder(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as an instruct model: it ends with its template's end of turn."""
    folder = tmp_path_factory.mktemp("instruct")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>"], "eos_token": "<|im_end|>"})
    tokenizer.chat_template = CHATML
    tokenizer.save_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(tiny_model_folder)
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(folder)
    return folder


def run_verb(verb: str, model: Path, rows: list[dict[str, Any]], folder: Path, **sections: Any) -> Result:
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = {
        "name": "r",
        "output": str(folder / "runs"),
        "model": {"name": str(model), "dtype": "float32", "device": "cpu"},
        "data": {"train": str(folder / "data.jsonl"), "max_tokens": 300},
        "objective": "ft",
    }
    (folder / "recipe.json").write_text(json.dumps(recipe | sections))
    return CliRunner().invoke(main, [verb, str(folder / "recipe.json")])


def test_what_auto_stands_for_is_shown_and_kept(instruct_folder: Path, tmp_path: Path) -> None:
    done = run_verb("scan", instruct_folder, ROWS, tmp_path)
    assert done.exit_code == 0, done.output
    assert "Prompt template: chat (prompt.template: auto)" in done.output
    run = tmp_path / "runs" / "r"
    assert load_recipe(run / "recipe.yaml").prompt.template == "chat"
    assert "<li>Prompt template: chat</li>" in (run / "report" / "audit.html").read_text()
    again = run_verb("scan", instruct_folder, ROWS, tmp_path, prompt={"template": "plain"})
    assert again.exit_code == 2
    assert "prompt.template: chat -> plain" in again.output


def test_verbs_that_load_no_tokenizer_take_what_the_run_was_made_with() -> None:
    auto, recorded = Recipe(name="r"), Recipe(name="r", prompt=PromptConfig(template="chat"))
    assert as_recorded(auto, recorded).prompt.template == "chat"
    plain = msgspec.structs.replace(auto, prompt=PromptConfig(template="plain"))
    assert as_recorded(plain, recorded).prompt.template == "plain"


@pytest.mark.parametrize("verb", ["scan", "train"])
def test_a_row_that_the_model_cannot_take_is_one_sentence_and_exit_code_2(
    verb: str, instruct_folder: Path, tiny_model_folder: Path, tmp_path: Path
) -> None:
    chat = {"id": "second", "messages": [{"role": r, "content": "x"} for r in ("system", "user", "assistant")]}
    refused = run_verb(verb, instruct_folder, [*ROWS[:1], chat], tmp_path)
    assert refused.exit_code == 2
    turns = "refuses the turns of the example second (system, user, assistant)"
    assert f"{turns}: System role not supported" in refused.output

    mixed = tmp_path / "mixed"  # the tokenizer has more tokens than the model
    mixed.mkdir()
    for source, names in (
        (instruct_folder, "tokenizer*"),
        (tiny_model_folder, "*.safetensors"),
        (tiny_model_folder, "config.json"),
    ):
        for path in source.glob(names):
            (mixed / path.name).write_bytes(path.read_bytes())
    row = {"id": "third", "prompt": "p", "completion": "a <|im_start|> b"}
    prompt = {"template": "plain", "end_of_text": False}
    refused = run_verb(verb, mixed, [*ROWS[:2], row], tmp_path, name="mixed", prompt=prompt)
    assert refused.exit_code == 2
    assert "the example third has the token '<|im_start|>'" in refused.output
