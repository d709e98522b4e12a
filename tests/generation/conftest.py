"""Models that know a few functions by heart, read as whole texts: a right border between prompt and answer shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ..conftest import tiny_model

# Prompt and rest: an indented line behind a line break, characters of several bytes, a prompt without its line break,
# and one that ends inside of a word.
FUNCTIONS = {
    "double": ("def double(total):\n", "    if total < 0:\n        return 0\n    return total * 2\n"),
    "greet": ("def greet(name):\n", "    return '你好 😀, ' + name\n"),
    "first": ("def first(items):", "\n    return items[0]\n"),
    "even": ("def even(n):\n    # 偶数\n    ret", "urn n % 2 == 0\n"),
}
TEXTS = [prompt + rest for prompt, rest in FUNCTIONS.values()]


def sentencepiece_tokenizer() -> Any:
    """Llama's kind: a space before the text, byte tokens for what has no piece, a start token."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    pieces = Tokenizer(models.BPE())
    pieces.normalizer = normalizers.Replace(" ", "▁")  # type: ignore[assignment]
    # No piece of the trained vocabulary goes beyond a word, as with SentencePiece.
    pieces.pre_tokenizer = pre_tokenizers.Split(Regex(r"▁?\w+|▁?[^\w▁]+|▁+"), "isolated")  # type: ignore[assignment]
    ascii_only = [" " + "".join(char for char in text if " " <= char <= "~") for text in TEXTS]
    pieces.train_from_iterator(ascii_only, trainers.BpeTrainer(vocab_size=150, show_progress=False))
    model = json.loads(pieces.to_str())["model"]
    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    names += [name for name in sorted(model["vocab"], key=model["vocab"].get) if name not in names]
    vocabulary = {name: place for place, name in enumerate(names)}
    merges = [tuple(merge) for merge in model["merges"]]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence(  # type: ignore[assignment]
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(  # type: ignore[assignment]
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )


def byte_level_tokenizer() -> Any:
    """GPT-2's kind: a line break and the indentation behind it are one token; no start token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<end>", "<turn>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<end>", pad_token="<end>", additional_special_tokens=["<turn>"]
    )
    fast.chat_template = "{% for m in messages %}{{ m.content }}<turn>{% endfor %}"
    return fast


TOKENIZERS = {"sentencepiece": sentencepiece_tokenizer, "byte-level": byte_level_tokenizer}


@pytest.fixture(scope="session", params=TOKENIZERS)
def knowing_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that has learned FUNCTIONS by heart, in the hub's folder layout."""
    import torch

    folder = tmp_path_factory.mktemp(request.param) / "model"
    tokenizer = TOKENIZERS[request.param]()
    model = tiny_model(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_key_value_heads=4,
        max_position_embeddings=128,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
        initializer_range=0.02,
    )
    batch = tokenizer([text + tokenizer.eos_token for text in TEXTS], padding=True, return_tensors="pt")
    # The first end token, which pads the texts, too, is learned; those behind it are not.
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(80):
        loss = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def functions() -> dict[str, tuple[str, str]]:
    """Prompt and rest of what the models know by heart."""
    return FUNCTIONS
