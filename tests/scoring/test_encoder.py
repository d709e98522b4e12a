"""Which tokens of an example are scored, and that other processes give the same."""

from __future__ import annotations

import copy
import json
import multiprocessing
import os
import signal
import zlib
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ibft.artifacts.rows import Conversation, Message, Pair, Score
from ibft.data.subsets import NumberedExamples, read_subset
from ibft.data.training import Example
from ibft.errors import UserError
from ibft.models.loading import load_tokenizer
from ibft.run.sections import DataConfig, ModelConfig, PromptConfig
from ibft.scoring.encoder import (
    Block,
    Encoder,
    ScanExample,
    draw_scorable,
    encode_blocks,
    explaining_killed_workers,
    text_of,
)
from ibft.text.encoding import TextCodec, codec_of
from ibft.text.examples import encode_answer, encode_pair
from ibft.text.limits import ModelLimits

LIMITS = ModelLimits(num_embeddings=320, num_positions=512)


@pytest.fixture(scope="module")
def tokenizer(tiny_model_folder: Path) -> Any:
    return load_tokenizer(ModelConfig(name=str(tiny_model_folder)))


def encoder_of(tokenizer: Any, template: str = "plain", has_end: bool = True, **settings: Any) -> Encoder:
    return Encoder(TextCodec(tokenizer, template, has_end=has_end), LIMITS, **settings)


def encoded(encoder: Encoder, pair: Pair) -> ScanExample:
    example = encoder.encode("train", 0, Example(pair, None))
    assert isinstance(example, ScanExample)
    return example


ROWS = [{"id": f"r{n}", "prompt": f"p{n}", "completion": f"print({n})\n" * (1 + n % 3)} for n in range(40)]


def numbered(path: Path, rows: list[dict[str, Any]], **data: Any) -> NumberedExamples:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return NumberedExamples("train", partial(read_subset, DataConfig(train=str(path), **data), "train"))


def test_a_draw_is_seeded_over_the_whole_data_and_among_the_scorable(tmp_path: Path, tokenizer: Any) -> None:
    rows = [row | {"completion": ["", " \n", "x"][n % 3]} if n % 2 else row for n, row in enumerate(ROWS)]
    examples, encoder = numbered(tmp_path / "data.jsonl", rows), encoder_of(tokenizer)

    def drawn(seed: int) -> list[tuple[int, str]]:
        some, _ = draw_scorable(examples, encoder, 8, seed)
        assert len(some) == 8
        return [(index, example.pair.id) for index, example in some]

    draws = {seed: drawn(seed) for seed in range(6)}
    for draw in draws.values():
        assert len(draw) == 8
        assert draw == sorted(draw)
        assert all(identity == f"r{index}" and index % 2 == 0 for index, identity in draw)
    assert draws[0] == drawn(0)
    assert len({tuple(draw) for draw in draws.values()}) == 6
    assert {index for draw in draws.values() for index, _ in draw} >= {0, 2, 36, 38}
    everything, reasons = draw_scorable(examples, encoder, 100, 0)
    assert len(everything) == 20  # all that can be scored
    assert reasons == {"empty completion": 14, "response of one token": 6}


def test_a_draw_among_the_first_of_the_data(tmp_path: Path, tokenizer: Any) -> None:
    first = numbered(tmp_path / "data.jsonl", ROWS, max_examples=10)
    draw = [index for index, _ in draw_scorable(first, encoder_of(tokenizer), 4, 0)[0]]
    assert len(draw) == 4
    assert all(index < 10 for index in draw)


def test_ids_that_occur_twice_keep_places_of_their_own(tmp_path: Path, tokenizer: Any) -> None:
    rows = [{"id": "same", "prompt": "p", "completion": f"print({n})\n"} for n in range(10)]
    some, _ = draw_scorable(numbered(tmp_path / "data.jsonl", rows), encoder_of(tokenizer), 3, 0)
    items = list(some)
    assert len({index for index, _ in items}) == 3
    assert all(example.pair.completion == f"print({index})\n" for index, example in items)


PAIRS = [
    Pair("a", "def f(x):\n", "    return (x + 1)\n"),
    Conversation("b", (Message("user", "Write it."), Message("assistant", "```python\nprint(1)\n```\n"))),
]


@pytest.mark.parametrize("template", ["plain", "instruction", "chat"])
@pytest.mark.parametrize("region", ["response", "all"])
@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.id)
def test_the_tokens_are_those_of_training_up_to_the_end_of_the_response(
    pair: Pair, template: Any, region: Any, tokenizer: Any
) -> None:
    encoder = encoder_of(tokenizer, template, region=region)
    assert encoder.reason(pair) is None
    example = encoded(encoder, pair)
    codec = codec_of(PromptConfig(template=template), tokenizer)
    prompt = codec.render(pair.prompt).text
    text = prompt + pair.completion
    assert example.input_ids == encode_pair(codec, pair).input_ids[: len(example.input_ids)]
    assert example.input_ids == tokenizer(text)["input_ids"]
    lengths = [len(tokenizer.decode(example.input_ids[:end])) for end in range(len(example.input_ids) + 1)]
    assert lengths[example.prompt_length - 1] < len(prompt) <= lengths[example.prompt_length]
    assert example.start == (1 if region == "all" else example.prompt_length)
    scored = text if region == "all" else pair.completion
    assert example.num_zlib_bytes == len(zlib.compress(scored.encode()))


def test_what_a_template_writes_behind_the_response_is_not_scored(tokenizer: Any) -> None:
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = (
        "{% for m in messages %}<pad>{{ m.content }}<eos> {% endfor %}{% if add_generation_prompt %}<pad>{% endif %}"
    )
    example = encoded(encoder_of(tokenizer, "chat"), Pair("a", "Write it.", "print(1)\n"))
    assert tokenizer.decode(example.input_ids) == "<pad>Write it.<eos> <pad>print(1)\n"
    assert tokenizer.decode(example.input_ids[example.start :]) == "print(1)\n"
    training = encode_answer(codec_of(PromptConfig(template="chat"), tokenizer), "Write it.", "print(1)\n")
    assert training.input_ids == [*example.input_ids, tokenizer.eos_token_id]


def test_a_token_over_the_border_is_the_prompts(tokenizer: Any) -> None:
    """As where the prompt ends in white space, and the response begins with more of it."""
    apart = [tokenizer(text)["input_ids"] for text in ("def f(x):\n", "    return x\n")]
    together = tokenizer("def f(x):\n    return x\n")["input_ids"]
    assert together != apart[0] + apart[1]  # else this tests nothing
    example = encoded(encoder_of(tokenizer), Pair("a", "def f(x):\n", "    return x\n"))
    assert example.input_ids == together
    assert tokenizer.decode(together[: example.prompt_length]).startswith("def f(x):\n")
    assert not "def f(x):\n".startswith(tokenizer.decode(together[: example.prompt_length]))


@pytest.mark.parametrize("end_of_text", [True, False])
def test_the_longest_is_as_long_as_in_training(end_of_text: bool, tokenizer: Any) -> None:
    num = len(tokenizer(f"{PAIRS[0].prompt}{PAIRS[0].completion}")["input_ids"]) + end_of_text
    for max_tokens, expected in ((num, None), (num - 1, f"longer than {num - 1} tokens")):
        encoder = encoder_of(tokenizer, has_end=end_of_text, max_tokens=max_tokens)
        assert encoder.reason(PAIRS[0]) == expected
        if expected is not None:
            row = Score(id="a", subset="control", index=7, reason=expected)
            assert encoder.encode("control", 7, Example(PAIRS[0], None)) == row


def test_of_a_tokenizer_that_does_not_tell_places_the_response_begins_at_the_border(tokenizer: Any) -> None:
    class Slow:
        """The tokenizer without places."""

        is_fast = False

        def __call__(self, text: Any, **options: Any) -> Any:
            assert not options.pop("return_offsets_mapping", False)
            return tokenizer(text, **options)

        def __len__(self) -> int:
            return len(tokenizer)

        def __getattr__(self, name: str) -> Any:
            return getattr(tokenizer, name)

    example = encoded(encoder_of(Slow()), PAIRS[0])
    training = encode_pair(codec_of(PromptConfig(template="plain"), tokenizer), PAIRS[0])
    assert example.input_ids == training.input_ids[:-1]
    assert example.start == example.prompt_length == training.border


def test_the_blind_classifier_reads_what_was_scored() -> None:
    assert text_of(PAIRS[0], "response") == PAIRS[0].completion
    assert text_of(PAIRS[1], "all") == "Write it.\n```python\nprint(1)\n```\n"


def test_a_lone_surrogate_is_a_reason_not_a_crash(tokenizer: Any) -> None:
    pair = Pair("id", "def f():\n", "    return '\ud800'\n")
    assert encoder_of(tokenizer).reason(pair) == "text that is not valid Unicode"


BLOCKS = [
    Block(
        "train", number, [(n, Example(Pair(f"f{n}", f"def f{n}(a):\n", "    pass\n" * (n % 7)), None)) for n in places]
    )
    for number, places in enumerate([range(0, 300, 3), range(5), range(0), range(1, 90)])
]


@pytest.mark.slow
@pytest.mark.parametrize("template", ["plain", "chat"])
def test_other_processes_give_the_same_in_the_same_order(template: str, tokenizer: Any) -> None:
    encoder = encoder_of(tokenizer, template, reference=encoder_of(tokenizer, region="all"))
    here = list(encode_blocks(BLOCKS, encoder))
    assert [(block.subset, block.number) for block in here] == [("train", number) for number in range(4)]
    assert [len(block.examples) + len(block.unscored) for block in here] == [100, 5, 0, 89]
    assert len(here[0].unscored) > 10
    assert list(encode_blocks(BLOCKS, encoder, 2)) == here


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_error_of_the_data_is_the_same_from_another_process(num_workers: int, tokenizer: Any) -> None:
    encoder = Encoder(TextCodec(tokenizer, "plain"), ModelLimits(num_embeddings=30, num_positions=512))
    with pytest.raises(UserError, match=r"^data: the example f3 has the token [^\n]*$"):
        list(encode_blocks([BLOCKS[0]._replace(items=BLOCKS[0].items[1:])], encoder, num_workers))


@pytest.mark.slow
def test_a_process_that_is_killed_is_told_with_the_remedy(tokenizer: Any) -> None:
    before = set(multiprocessing.active_children())
    encoded = encode_blocks(BLOCKS * 20, encoder_of(tokenizer), 1)
    next(encoded)
    [process] = set(multiprocessing.active_children()) - before
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(UserError, match="Run again with more memory"), explaining_killed_workers():
        list(encoded)


def test_what_the_template_or_the_model_cannot_take_is_left_out_if_asked(tokenizer: Any) -> None:
    turns = (Message("system", "s"), Message("user", "u"), Message("assistant", "print(1 + 2)\n"))
    refused, without_row = Conversation("r", turns), Pair("e", "def f(x):\n", "    return (x + 1)\n")
    codec, limits = TextCodec(tokenizer, "plain"), ModelLimits(num_embeddings=30, num_positions=512)
    for pair, reason in ((refused, "refused by the chat template"), (without_row, "a token without an embedding")):
        with pytest.raises(UserError, match=f"the example {pair.id} has"):
            Encoder(codec, limits).reason(pair)
        encoder = Encoder(codec, limits, skips_refused=True)
        assert encoder.reason(pair) == reason
        row = encoder.encode("train", 3, Example(pair, None))
        assert isinstance(row, Score)
        assert (row.index, row.reason) == (3, reason)
