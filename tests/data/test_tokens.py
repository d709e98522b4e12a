import math
from pathlib import Path
from typing import Any

import pytest

from ibft.artifacts.rows import Conversation, Message, Pair
from ibft.data.tokens import NOT_UNICODE, TokenizedData, encode_pairs
from ibft.errors import UserError
from ibft.models.loading import load_tokenizer
from ibft.run.sections import ModelConfig, PromptConfig
from ibft.text.encoding import codec_of
from ibft.text.limits import EmbeddingCheck, ModelLimits

LIMITS = ModelLimits(num_embeddings=1000, num_positions=math.inf)
ANSWER = Message("assistant", "c")
PAIR = Pair("one", "def add(a, b):\n", "    return a + b\n")


@pytest.fixture(scope="module")
def tokenizer(tiny_model_folder: Path) -> Any:
    return load_tokenizer(ModelConfig(name=str(tiny_model_folder)))


@pytest.fixture(scope="module")
def encode(tokenizer: Any) -> Any:
    """`encode(pairs, max_tokens, template=..., end_of_text=...)`."""

    def encode(pairs: list[Pair], max_tokens: int = 100, limits: ModelLimits = LIMITS, **prompt: Any) -> TokenizedData:
        config = PromptConfig(**({"template": "plain"} | prompt))
        return encode_pairs(pairs, codec_of(config, tokenizer), max_tokens, limits)

    return encode


def test_prompt_completion_and_end_are_one_text_and_the_border_is_where_the_prompt_alone_differs(
    encode: Any, tokenizer: Any
) -> None:
    [example] = encode([PAIR]).examples
    assert example.input_ids == [*tokenizer(PAIR.prompt + PAIR.completion)["input_ids"], tokenizer.eos_token_id]
    alone = tokenizer(PAIR.prompt)["input_ids"]
    assert alone != example.input_ids[: len(alone)], "else this shows nothing: line break and indentation are one token"
    assert example.border == len(alone) - 1
    assert example.labels == [-100] * example.border + example.input_ids[example.border :]
    [without] = encode([PAIR], end_of_text=False).examples
    assert without.input_ids == example.input_ids[:-1]


def test_what_cannot_be_used_is_counted_and_never_cut(encode: Any) -> None:
    pairs = [PAIR, Pair("long", "x", "y " * 200), Pair("empty", "x", " \n"), Pair("no prompt", "", "y")]
    data = encode(pairs, 50)
    assert [example.id for example in data.examples] == ["one"]
    assert [(row.id, row.reason) for row in data.skipped] == [
        ("long", "longer than 50 tokens"),
        ("empty", "empty completion"),
        ("no prompt", "empty prompt"),
    ]


def test_a_conversation_that_needs_a_chat_template_is_named(encode: Any) -> None:
    pair = Conversation("data.jsonl, line 7", (Message("system", "s"), Message("user", "u"), Message("assistant", "c")))
    with pytest.raises(UserError, match=r"the example data\.jsonl, line 7 has 3 turns"):
        encode([PAIR, pair])


def test_texts_and_roles_that_are_no_unicode_are_skipped(encode: Any) -> None:
    pairs = [PAIR, Pair("text", "p", "\ud800"), Conversation("role", (Message("\ud800", "u"), ANSWER))]
    data = encode(pairs, template="chat")
    assert [(row.id, row.reason) for row in data.skipped] == [("text", NOT_UNICODE), ("role", NOT_UNICODE)]


def test_nothing_left_is_an_error_that_says_why(encode: Any) -> None:
    with pytest.raises(UserError, match="1 longer than 3 tokens"):
        encode([PAIR], 3)
    with pytest.raises(UserError, match="the data set is empty"):
        encode([], 3)


def test_rows_beyond_the_models_context_are_refused_with_the_remedy(encode: Any) -> None:
    pairs = [PAIR, Pair("long", "x", "y " * 60), Pair("longer", "x", "y " * 70), Pair("left out", "x", "y " * 200)]
    [first, long, longer] = encode(pairs, 200).examples
    limits = ModelLimits(1000, len(long.input_ids) - 1)
    with pytest.raises(UserError) as caught:
        encode(pairs, 200, limits)
    assert f"the example long has {len(long.input_ids)} tokens" in str(caught.value)
    assert f"Set data.max_tokens: {limits.num_positions}, which leaves out 2 of 3 examples" in str(caught.value)
    assert encode(pairs, limits.num_positions, limits).examples == [first]
    assert encode(pairs, 200, ModelLimits(1000, len(longer.input_ids))).examples == [first, long, longer]


def test_tokens_beyond_the_embedding_are_refused_with_their_row(tiny_model_folder: Path) -> None:
    tokenizer = load_tokenizer(ModelConfig(name=str(tiny_model_folder)))
    num = len(tokenizer)
    tokenizer.add_tokens("<call>")  # is its token in any text
    tokenizer.add_special_tokens({"additional_special_tokens": ["<think>"]})  # stays text
    codec = codec_of(PromptConfig(template="plain"), tokenizer)

    def encode(text: str, num_embeddings: int) -> TokenizedData:
        pairs = [PAIR, Pair("data.jsonl, line 2", "p", text)]
        return encode_pairs(pairs, codec, 100, ModelLimits(num_embeddings, math.inf))

    assert num in encode("<call>f</call>", len(tokenizer)).examples[1].input_ids
    assert max(encode("<think>f</think>", len(tokenizer)).examples[1].input_ids) < num
    for text, token, place in (("<call>f</call>", "<call>", num), ("<think>f</think>", "<think>", num + 1)):
        with pytest.raises(UserError) as caught:
            encode(text, num)
        assert f"data.jsonl, line 2 has the token '{token}' (id {place})" in str(caught.value)
        assert f"embeddings for ids below {num}. Take it out of the row" in str(caught.value)
    assert len(encode("f", num).examples) == 2
    EmbeddingCheck(tokenizer, num).check("id", "text", [0, num - 1])
