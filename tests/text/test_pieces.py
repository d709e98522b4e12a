from collections.abc import Callable
from typing import Any

import pytest

from ibft.text.pieces import token_pieces

TEXT = "def f(x):\n\t return  x  # é 🙂 𝛼\n"


@pytest.mark.parametrize("name", ["smollm2", "llama3", "qwen3", "deepseek_v3", "gemma3", "llama2", "codellama"])
def test_pieces_together_are_the_text_and_each_token_has_one(name: str, real_tokenizer: Callable[[str], Any]) -> None:
    tokenizer = real_tokenizer(name)
    ids = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    pieces = token_pieces(tokenizer, ids)
    assert len(pieces) == len(ids)
    assert "".join(pieces).lstrip(" ") == TEXT
    assert "\ufffd" not in "".join(pieces)
