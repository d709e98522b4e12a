"""What a model knows by heart comes out to the character, wherever its prompt ends."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from transformers import AutoTokenizer

from ibft.artifacts.rows import Problem
from ibft.errors import UserError
from ibft.generation.ask import Ask, Wanted, Written
from ibft.generation.draw import LocalSource, draw
from ibft.models.loading import load_model, load_tokenizer
from ibft.run.sections import GenerateConfig, ModelConfig
from ibft.text.encoding import TextCodec

GREEDY = GenerateConfig(num_samples=1, temperature=0, max_new_tokens=60)


@pytest.fixture(scope="module")
def model(knowing_folder: Path) -> Any:
    return load_model(ModelConfig(name=str(knowing_folder), dtype="float32", device="cpu"))


@pytest.fixture(scope="module")
def codec(knowing_folder: Path) -> TextCodec:
    return TextCodec(load_tokenizer(ModelConfig(name=str(knowing_folder))), "plain")


def asks(codec: TextCodec, prompts: Mapping[str, str], language: Any = "python") -> list[Ask]:
    return [
        Ask(
            Problem(task_id=name, prompt=prompt, tests="", entry_point="f", language=language),
            codec.render(prompt),
            "completion",
        )
        for name, prompt in prompts.items()
    ]


def written(
    model: Any, codec: TextCodec, prompts: Mapping[str, str], config: GenerateConfig = GREEDY
) -> dict[str, Written]:
    """What the model writes, as it is: in Verilog no line ends an answer."""
    by_id = {ask.problem.task_id: ask for ask in asks(codec, prompts, "verilog")}
    batches = LocalSource(model, codec, config).write(by_id, [Wanted(name, 0) for name in prompts], 0)
    return {answer.wanted.task_id: answer for batch in batches for answer in batch}


def test_what_the_model_knows_is_written_to_the_character(model: Any, codec: TextCodec, functions: Any) -> None:
    answers = written(model, codec, {name: prompt for name, (prompt, _) in functions.items()})
    assert {name: answer.text for name, answer in answers.items()} == {
        name: rest for name, (_, rest) in functions.items()
    }
    assert {answer.finish_reason for answer in answers.values()} == {"stop"}


@pytest.mark.parametrize("name", ["double", "greet"])
def test_a_prompt_may_end_anywhere(model: Any, codec: TextCodec, functions: Any, name: str) -> None:
    """Inside of words, of indentation and between characters of several bytes."""
    text = "".join(functions[name])
    prompts = {str(cut): text[:cut] for cut in range(12, len(text) - 1)}
    answers = written(model, codec, prompts, msgspec.structs.replace(GREEDY, batch_size=64))
    assert {cut: prompts[cut] + answers[cut].text for cut in prompts} == dict.fromkeys(prompts, text)


def test_samples_hold_the_answers(model: Any, codec: TextCodec, functions: Any) -> None:
    prompts = {name: functions[name][0] for name in ("double", "greet", "first")}
    rows = draw(
        LocalSource(model, codec, GREEDY), asks(codec, prompts), [Wanted(name, 0) for name in prompts], GREEDY, 0
    )
    assert {row.task_id: row.completion for batch in rows for row in batch} == {
        name: functions[name][1] for name in prompts
    }


def test_plain_transformers_writes_the_same(model: Any, knowing_folder: Path, functions: Any) -> None:
    tokenizer = AutoTokenizer.from_pretrained(knowing_folder)
    for prompt, rest in functions.values():
        if prompt.endswith("ret"):  # inside of a word: no tokenizer's own border
            continue
        inputs = tokenizer(prompt.rstrip(), return_tensors="pt")
        ids = model.generate(**inputs, max_new_tokens=60, do_sample=False)
        assert tokenizer.decode(ids[0], skip_special_tokens=True) == prompt + rest


def test_tokens_of_the_prompts_end_are_not_counted(model: Any, codec: TextCodec, functions: Any) -> None:
    prompt, rest = functions["even"]
    for limit in (1, 2, 3):
        config = msgspec.structs.replace(GREEDY, max_new_tokens=limit)
        answer = written(model, codec, {"even": prompt}, config)["even"]
        assert (answer.num_tokens, answer.finish_reason) == (limit, "length")
        assert answer.text
        assert rest.startswith(answer.text)


def test_a_prompt_that_fills_the_context_is_refused(model: Any, codec: TextCodec) -> None:
    context = model.config.max_position_embeddings
    long = "def f(x):\n" + "    return 0\n" * 200
    with pytest.raises(UserError, match=rf"the prompt of long has \d+ tokens.* holds {context}.*no room") as caught:
        written(model, codec, {"long": long})
    assert "\n" not in str(caught.value)


def test_an_empty_prompt_is_refused(model: Any, codec: TextCodec) -> None:
    if codec.tokenizer.bos_token is not None:
        pytest.skip("the start token is a prompt")
    with pytest.raises(UserError, match="the prompt of nothing is empty"):
        written(model, codec, {"nothing": ""})


def test_an_answer_ends_with_the_context(model: Any, codec: TextCodec) -> None:
    context = model.config.max_position_embeddings
    text = "def f(x):\n"
    while len(codec.encode(codec.render(text))) < context - 2:
        text += "#"
    answer = written(model, codec, {"f": text})["f"]
    assert answer.num_tokens <= 2 or answer.finish_reason == "stop"


def test_a_token_without_embedding_is_refused(knowing_folder: Path, codec: TextCodec) -> None:
    tokenizer = load_tokenizer(ModelConfig(name=str(knowing_folder)))
    tokenizer.add_tokens(["thinking"])
    model = load_model(ModelConfig(name=str(knowing_folder), dtype="float32", device="cpu"))
    with pytest.raises(UserError, match=r"prompt of t has the token \d+ \('.?thinking'\).*has \d+ rows"):
        written(model, TextCodec(tokenizer, "plain"), {"t": "def f(x):\n    thinking = 1\n"})


def test_both_ends_stop_an_answer(model: Any, knowing_folder: Path) -> None:
    """The tokenizer's end token, the template's end of turn, and what the model's own generation stops at."""
    tokenizer = load_tokenizer(ModelConfig(name=str(knowing_folder)))
    if not tokenizer.chat_template:
        pytest.skip("no chat template")
    codec = TextCodec(tokenizer, "chat")
    source = LocalSource(model, codec, GREEDY)
    turn = tokenizer.convert_tokens_to_ids("<turn>")
    assert source._end_ids() == {tokenizer.eos_token_id, turn}
    model.generation_config.eos_token_id = [5, 6]
    assert source._end_ids() == {tokenizer.eos_token_id, turn, 5, 6}


class Fake:
    """A source that writes what a test says and remembers what it was asked."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.asked: list[Wanted] = []

    def write(self, asks: Mapping[str, Ask], wanted: Sequence[Wanted], seed: int) -> Iterator[list[Written]]:
        self.asked += wanted
        yield [Written(item, self.text, "length", 7) for item in wanted]


def test_greedy_answers_are_drawn_once(codec: TextCodec) -> None:
    source, wanted = Fake("    return x\n"), [Wanted("a", 2), Wanted("a", 1), Wanted("b", 0)]
    rows = [
        row
        for batch in draw(source, asks(codec, {"a": "def f(x):\n", "b": "def f(y):\n"}), wanted, GREEDY, 0)
        for row in batch
    ]
    assert source.asked == [Wanted("a", 1), Wanted("b", 0)]
    assert sorted((row.task_id, row.index) for row in rows) == [("a", 1), ("a", 2), ("b", 0)]
    warm = msgspec.structs.replace(GREEDY, temperature=1.0)
    source = Fake("    return x\n")
    list(draw(source, asks(codec, {"a": "def f(x):\n", "b": "def f(y):\n"}), wanted, warm, 0))
    assert source.asked == wanted


def test_what_was_begun_belongs_to_the_answer(codec: TextCodec) -> None:
    problem = Problem(task_id="a", prompt="def f(x):\n    ...\n", tests="", entry_point="f")
    ask = Ask(problem, codec.render("Write f."), "chat", "```python\n")
    [[row]] = draw(Fake("def f(x):\n    return x\n```\nDone."), [ask], [Wanted("a", 0)], GREEDY, 0)
    assert row.solution == "def f(x):\n    return x\n"
    assert row.raw == "```python\ndef f(x):\n    return x\n```\nDone."


@pytest.mark.parametrize(
    ("text", "completion", "solution", "raw"),
    [
        ("    return x\n", "    return x\n", None, False),
        ("    return x\n\nprint(f(1))\n", "    return x\n\n", None, True),
        (
            "```python\ndef f(x):\n    return x\n```\n",
            None,
            "import math\n\ndef f(x):\n    return x\n",
            True,
        ),
        ("\n\ndef g():\n", "\n\n", None, True),
    ],
)
def test_a_sample_keeps_what_the_model_wrote_where_its_answer_is_less(
    codec: TextCodec, text: str, completion: str | None, solution: str | None, raw: bool
) -> None:
    [[row]] = draw(Fake(text), asks(codec, {"a": "import math\n\ndef f(x):\n"}), [Wanted("a", 0)], GREEDY, 0)
    assert (row.completion, row.solution, row.raw) == (completion, solution, text if raw else None)
