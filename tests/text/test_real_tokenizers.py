"""The border between text and tokens, on tokenizers that people use and on real functions."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from ibft.artifacts.rows import Conversation, Message, Pair
from ibft.data.functions import function_pairs
from ibft.data.training import Example
from ibft.scoring.encoder import Encoder, ScanExample
from ibft.text.encoding import Start, TextCodec
from ibft.text.examples import EncodedExample, encode_answer, encode_pair
from ibft.text.limits import ModelLimits

SENTENCEPIECE = ("llama2", "codellama", "legacy")
ADD_START = (*SENTENCEPIECE, "gemma3")
WITH_CHAT = ("smollm2", "llama3", "qwen3", "deepseek_v3", "gemma3")
FAMILIES = (*SENTENCEPIECE, "smollm2", "llama3", "qwen3", "deepseek_v3", "gemma3")

Load = Callable[[str], Any]


def functions(count: int) -> list[Pair]:
    """Real functions, spread over their packages: of a few for a short test, else of the whole standard library."""
    found = function_pairs("stdlib" if count > 100 else "json,logging,email,asyncio")
    return list(found[:: max(1, len(found) // count)][:count])


def cut_anywhere(pairs: Sequence[Pair]) -> list[Pair]:
    """The same texts with the border at any character, but for the first ones: a prompt's first token is kept."""
    draw, cut = random.Random(0), []
    for pair in pairs:
        text = f"{pair.prompt}{pair.completion}"
        place = draw.randrange(5, len(text) - 1)
        cut.append(Pair(pair.id, text[:place], text[place:]))
    return cut


def assert_generation_can_write(codec: TextCodec, start: Start, example: EncodedExample, completion: str) -> None:
    """Generation starts in the training example, may take each of its tokens, and its answer is the completion."""
    assert list(start.input_ids) == example.input_ids[: len(start.input_ids)]
    written = example.input_ids[len(start.input_ids) :]
    rest = start.healed.encode()
    for token in written:
        if not rest:
            break
        assert token in codec.vocabulary.allowed(rest)
        rest = rest[len(codec.vocabulary.bytes_of(token) or b"") :]
    assert start.text.endswith(start.healed)
    assert codec.answer(start, written) == completion


COUNTS = (10, pytest.param(1000, marks=pytest.mark.slow))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("count", COUNTS)
def test_a_function_is_what_the_tokenizer_makes_of_the_whole_text(
    count: int, family: str, real_tokenizer: Load
) -> None:
    tokenizer = real_tokenizer(family)
    codec = TextCodec(tokenizer, "plain")
    pairs = functions(count)
    assert len(pairs) == count
    for pair in [*pairs, *cut_anywhere(pairs)]:
        text = f"{pair.prompt}{pair.completion}"
        example = encode_answer(codec, pair.prompt, pair.completion)
        whole = tokenizer(text, split_special_tokens=True)["input_ids"]
        assert example.input_ids == [*whole, tokenizer.eos_token_id]
        assert tokenizer.decode(whole, skip_special_tokens=True, clean_up_tokenization_spaces=False) == text
        alone = tokenizer(pair.prompt, split_special_tokens=True)["input_ids"]
        assert example.input_ids[: example.border] == alone[: example.border]
        assert example.border == len(alone) or example.input_ids[example.border] != alone[example.border]
        assert_generation_can_write(codec, codec.start(pair.prompt), example, pair.completion)


@pytest.mark.parametrize("family", WITH_CHAT)
@pytest.mark.parametrize("count", COUNTS)
def test_a_chat_is_what_the_tokenizer_makes_of_the_whole_text(count: int, family: str, real_tokenizer: Load) -> None:
    tokenizer = real_tokenizer(family)
    codec = TextCodec(tokenizer, "chat")
    for pair in functions(count):
        turns = (Message("user", f"Complete this function.\n{pair.prompt}"),)
        answer = f"```python\n{pair.prompt}{pair.completion}```"
        example = encode_pair(codec, Conversation(pair.id, (*turns, Message("assistant", answer))))
        assert example.input_ids == tokenizer(example.text, add_special_tokens=False)["input_ids"]
        first, last = example.completion
        assert example.text[first:last] == answer
        messages = [{"role": "user", "content": turns[0].content}, {"role": "assistant", "content": answer}]
        assert tokenizer.apply_chat_template(messages, tokenize=False) == example.text
        ends = [token for token in example.input_ids[example.border :] if token in codec.end_ids]
        assert ends == [tokenizer.convert_tokens_to_ids(codec.chat.end_of_turn.strip())]  # type: ignore[union-attr]
        start = codec.start(turns)
        # Qwen3's template has an empty thought before an answer, which is written, too.
        before = example.text[len(start.text) : first]
        assert before == ("<think>\n\n</think>\n\n" if family == "qwen3" else "")
        written = example.input_ids[: example.response.stop]
        body = EncodedExample(written, example.trained, example.response, example.text, example.completion)
        assert_generation_can_write(codec, start, body, before + answer)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_the_start_token_is_there_as_often_as_the_tokenizer_adds_it_everywhere(
    family: str, real_tokenizer: Load
) -> None:
    """In training, scan and generation; `tests/training/test_text.py` looks at what TRL makes of the same pair."""
    tokenizer = real_tokenizer(family)
    pair, bos = functions(1)[0], tokenizer.bos_token_id
    for template in ("plain", "instruction", *(["chat"] if family in WITH_CHAT else [])):
        codec = TextCodec(tokenizer, template)
        limits = ModelLimits(len(tokenizer), math.inf)
        scanned = Encoder(codec, limits, max_tokens=2048).encode("train", 0, Example(pair, None))
        assert isinstance(scanned, ScanExample)
        example = encode_answer(codec, pair.prompt, pair.completion).input_ids
        assert example[: len(scanned.input_ids)] == scanned.input_ids
        start = list(codec.start(pair.prompt).input_ids)
        messages = [{"role": "user", "content": pair.prompt}]
        plain = tokenizer(pair.prompt) if template != "chat" else tokenizer.apply_chat_template(messages)
        num = plain["input_ids"].count(bos) if bos != tokenizer.eos_token_id and family != "smollm2" else 0
        if family in ADD_START or (template == "chat" and family in ("llama3", "deepseek_v3")):
            assert (num, plain["input_ids"][0]) == (1, bos)
            assert all((ids.count(bos), ids[0]) == (1, bos) for ids in (example, scanned.input_ids, start))
        else:
            assert num == 0
            assert all(ids[:1] == plain["input_ids"][:1] for ids in (example, scanned.input_ids, start))


@pytest.mark.parametrize("family", FAMILIES)
def test_text_that_looks_like_a_control_token_stays_text(family: str, real_tokenizer: Load) -> None:
    tokenizer = real_tokenizer(family)
    added = tokenizer.added_tokens_decoder.values()
    controls = [token.content for token in added if token.special and "▁" not in token.content][:8]
    text = f"ENDS = {controls}  # {tokenizer.eos_token}\nprint(ENDS)\n"
    for template in ("plain", *(["chat"] if family in WITH_CHAT else [])):
        codec = TextCodec(tokenizer, template)
        example = encode_answer(codec, f"# {tokenizer.eos_token}\n", text)
        first, last = example.completion
        assert example.text[first:last].rstrip() == text.rstrip()
        assert not {tokenizer.convert_tokens_to_ids(token) for token in controls}.intersection(
            example.input_ids[example.response]
        )
        assert sum(token in codec.end_ids for token in example.input_ids[example.border :]) == 1
        response = codec.vocabulary.text_of(example.input_ids[example.response])
        assert response is not None
        assert text.rstrip().endswith(response.strip())
        assert len(response.strip()) > len(text) - 12  # all but what spans the border


@pytest.mark.parametrize("family", WITH_CHAT)
def test_an_answer_that_ends_in_its_own_end_has_one(family: str, real_tokenizer: Load) -> None:
    tokenizer = real_tokenizer(family)
    codec = TextCodec(tokenizer, "chat")
    plain = encode_answer(codec, "Write f.", "def f(): pass")
    for end in {tokenizer.eos_token, codec.chat.end_of_turn.strip()}:  # type: ignore[union-attr]
        for answer in (f"def f(): pass{end}", f"def f(): pass{end}\n", f"def f(): pass{end}{end}"):
            assert encode_answer(codec, "Write f.", answer) == plain
    continued = TextCodec(tokenizer, "plain", has_end=False)
    with_end = encode_answer(continued, "def f():", f" pass{tokenizer.eos_token}").input_ids
    assert with_end == [*encode_answer(continued, "def f():", " pass").input_ids, tokenizer.eos_token_id]


def test_chat_variables_reach_the_template(real_tokenizer: Load) -> None:
    tokenizer = real_tokenizer("qwen3")
    thinking = TextCodec(tokenizer, "chat")
    silent = TextCodec(tokenizer, "chat", chat_variables={"enable_thinking": False})
    assert silent.render("Hi").text == thinking.render("Hi").text + "<think>\n\n</think>\n\n"
    assert encode_answer(silent, "Hi", "Hello").text == encode_answer(thinking, "Hi", "Hello").text
    # Without thoughts, the empty one is the prompt's; with them, the model writes it.
    trained = [encode_answer(codec, "Hi", "Hello") for codec in (silent, thinking)]
    texts = [tokenizer.decode(example.input_ids[example.border :]) for example in trained]
    assert texts == ["Hello<|im_end|>", "<think>\n\n</think>\n\nHello<|im_end|>"]
