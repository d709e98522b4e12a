import builtins
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ibft.artifacts.preview import Preview
from ibft.artifacts.rows import Pair, Problem
from ibft.curation.preview import ExampleSet, preview_data, show_example
from ibft.data.skipped import SkippedRow, TakesSkipped
from ibft.data.tokens import encode_pairs
from ibft.data.training import Example, stream_training
from ibft.errors import UserError
from ibft.models.loading import load_tokenizer
from ibft.run.sections import DataConfig, ModelConfig, PromptConfig
from ibft.text.encoding import TextCodec, codec_of
from ibft.text.limits import ModelLimits

from .test_duplicates import CODE

CASES = Path("/work/shared/cases/training/data")
LIMITS = ModelLimits(num_embeddings=10_000, num_positions=math.inf)
TURNS = [
    {"role": "system", "content": "You write Python."},
    {"role": "user", "content": "Write a function that doubles x."},
    {"role": "assistant", "content": "Which name? 🙂"},
    {"role": "user", "content": "Any but <eos>.\n\n\tThanks  "},
    {"role": "assistant", "content": "def double(x):\n    return 2 * x\n"},
]
SHAPES: dict[str, list[Any]] = {
    "messages": [{"messages": TURNS}, {"messages": [{**turn, "weight": 0} for turn in TURNS]}],
    "pairs": [{"prompt": "def add(a, b):\n", "completion": "    return a + b\n"}, {"prompt": "x", "completion": " "}],
    "text": [{"text": CODE}],
    "sharegpt": [{"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]}],
    "long": [{"prompt": "x", "completion": "y"}, {"prompt": "x", "completion": "y " * 3000}],
    "bad": [{"prompt": "x", "completion": "y"}, {"nothing": 1}, [1]],
    "only bad": [{"nothing": 1}],
}


@pytest.fixture(scope="module")
def codec(tiny_model_folder: Path) -> Callable[[str], TextCodec]:
    """`codec(template)`: with a chat template that writes control tokens."""
    tokenizer = load_tokenizer(ModelConfig(name=str(tiny_model_folder)))
    tokenizer.chat_template = (
        "{% for m in messages %}<{{ m.role }}>\n{{ m.content }}<eos>\n{% endfor %}"
        "{% if add_generation_prompt %}<assistant>\n{% endif %}"
    )
    return lambda template: codec_of(PromptConfig(template=template), tokenizer)


def example_set(data: DataConfig, name: str = "train") -> ExampleSet:
    reading = msgspec.structs.replace(data, on_bad_row="skip")
    return ExampleSet(name, lambda skipped: stream_training(reading, skipped), [s.label for s in data.sources])


def pairs_of(*pairs: Pair, name: str = "train") -> ExampleSet:
    def read(skipped: TakesSkipped) -> Iterator[Example]:
        return (Example(pair, None, "s") for pair in pairs)

    return ExampleSet(name, read, ["s"])


def files() -> list[Any]:
    return [*SHAPES, *(CASES.glob("*.jsonl") if CASES.is_dir() else ())]


def labels_of(preview: Preview, place: int) -> tuple[list[int], list[int]]:
    runs = [*preview.examples[place].runs, *preview.examples[place].last_runs]
    ids = [token for run in runs for token in run.ids]
    return ids, [token if run.is_trained else -100 for run in runs for token in run.ids]


@pytest.mark.parametrize("source", files(), ids=lambda source: getattr(source, "name", source))
@pytest.mark.parametrize("on_bad_row", ["skip", "stop"])
def test_what_is_shown_and_counted_is_what_is_trained(
    source: str | Path, on_bad_row: Any, codec: Any, tmp_path: Path
) -> None:
    path = source
    if isinstance(source, str):
        path = tmp_path / "data.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in SHAPES[source]))
    data = DataConfig(train=str(path), on_bad_row=on_bad_row, max_tokens=600)
    refusals = []
    for template in ("chat", "plain"):
        border = codec(template)
        skips = on_bad_row == "skip"
        found = preview_data([example_set(data)], border, LIMITS, 600, num_shown=10**6, stops=not skips)
        unreadable: list[SkippedRow] = []
        try:
            pairs = (example.pair for example in stream_training(data, unreadable))
            trained = encode_pairs(pairs, border, 600, LIMITS, skips_refused=skips, unreadable=unreadable)
        except UserError as error:
            refusals.append((found.refusal, str(error)))
            continue
        assert found.refusal is None
        assert [example.id for example in found.examples] == [example.id for example in trained.examples]
        for place, example in enumerate(trained.examples):
            assert labels_of(found, place) == (example.input_ids, example.labels)
        train = found.train
        assert train.num_tokens == sum(len(example.input_ids) for example in trained.examples)
        assert train.num_trained == sum(label != -100 for example in trained.examples for label in example.labels)
        assert train.num_skipped == len(unreadable) + len(trained.skipped)
        assert {reason.reason for reason in train.skipped} == {row.reason for row in (*unreadable, *trained.skipped)}
        assert sum(bin_.num_examples for bin_ in train.bins if bin_.end) == train.num_examples == len(trained.examples)
    assert all(shown == raised for shown, raised in refusals)


def test_a_conversation_is_shown_as_its_template_renders_it(codec: Any, tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps({"messages": TURNS}))
    border = codec("chat")
    [example] = preview_data([example_set(DataConfig(train=str(path)))], border, LIMITS, 600).examples
    rendered = border.tokenizer.apply_chat_template(TURNS, tokenize=False)
    assert "".join(piece for run in example.runs for piece in run.pieces) == rendered
    trained = ["".join(run.pieces) for run in example.runs if run.is_trained]
    assert trained == ["Which name? 🙂", "<eos>", TURNS[-1]["content"], "<eos>"]
    # What the user wrote is text, whatever it looks like.
    assert sum(run.is_special for run in example.runs) == len(TURNS)
    assert any("<eos>" in "".join(run.pieces) for run in example.runs if not run.is_special)


def test_of_a_long_example_the_middle_is_hidden(codec: Any) -> None:
    border = codec("plain")
    [example] = encode_pairs([Pair("a", "x", " y é" * 500)], border, 10**6, LIMITS).examples
    shown = show_example(border, example, max_tokens=40)
    first, last = ([token for run in runs for token in run.ids] for runs in (shown.runs, shown.last_runs))
    assert first == example.input_ids[:30]
    assert last == example.input_ids[-10:]
    assert shown.num_hidden == len(example.input_ids) - 40
    assert shown.last_runs[-1].is_special
    whole = border.tokenizer.decode(example.input_ids[-10:], clean_up_tokenization_spaces=False)
    assert "".join(piece for run in shown.last_runs for piece in run.pieces) == whole


def test_repeats_within_the_data_and_of_another_set(codec: Any) -> None:
    renamed = CODE.replace("weighted", "mean").replace("total", "t")
    edited = CODE.replace("100", "200")
    train = pairs_of(Pair("a", "p", CODE), Pair("b", "p", CODE), Pair("c", "p", renamed), Pair("d", "q", "x = 1"))
    other = pairs_of(Pair("e", "p", edited), Pair("f", "q", "x = 1"), Pair("g", "q", "y"), name="validation")
    found = preview_data([train, other], codec("plain"), LIMITS, 10**6)
    within, between = found.repeats
    assert (within.num_exact, within.num_code, within.num_near) == (1, 1, 0)
    assert [(repeat.id, repeat.of) for repeat in within.first] == [("b", "a"), ("c", "a")]
    assert (between.num_exact, between.num_code, between.num_near) == (1, 0, 1)
    assert {(repeat.id, repeat.of, repeat.kind) for repeat in between.first} == {
        ("e", "a", "near"),
        ("f", "d", "exact"),
    }
    assert not within.is_partial
    assert not found.notes
    # The other set is not compared with itself.
    again = preview_data([pairs_of(Pair("a", "p", "z")), train], codec("plain"), LIMITS, 10**6).repeats[1]
    assert (again.num_exact, again.num_code, again.num_near) == (0, 0, 0)


def test_beyond_the_first_examples_equal_texts_are_still_found(codec: Any) -> None:
    renamed = CODE.replace("weighted", "mean").replace("total", "t")
    train = pairs_of(Pair("a", "p", CODE), Pair("b", "p", "x"), Pair("c", "p", renamed), Pair("d", "p ", CODE))
    [repeats] = preview_data([train], codec("plain"), LIMITS, 10**6, max_compared=2).repeats
    assert (repeats.num_exact, repeats.num_code, repeats.num_compared, repeats.num_examples) == (1, 0, 2, 4)
    assert repeats.is_partial
    assert [(repeat.id, repeat.of) for repeat in repeats.first] == [("d", None)]


def test_problems_in_the_data_are_named(codec: Any) -> None:
    body = CODE.partition("\n")[2]
    problem = Problem(task_id="own/0", prompt=CODE[: -len(body)], canonical_solution=body, tests="assert weighted")
    train = pairs_of(Pair("a", "p", "x"), Pair("b", "p", CODE), Pair("c", "p", CODE.replace("total", "t")))
    [overlap] = preview_data([train], codec("plain"), LIMITS, 10**6, problems={"own": [problem]}).problems
    assert (overlap.source, overlap.num_problems, overlap.num_leaked, overlap.num_examples) == ("own", 1, 1, 2)
    assert [(leak.id, leak.task_id) for leak in overlap.first] == [("b", "own/0"), ("c", "own/0")]
    assert overlap.num_compared == 3


def test_without_rensa_equal_texts_are_found_and_the_rest_is_a_note(
    codec: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without_rensa(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "rensa":
            raise ImportError(name=name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without_rensa)
    found = preview_data([pairs_of(Pair("a", "p", CODE), Pair("b", "p", CODE))], codec("plain"), LIMITS, 10**6)
    assert (found.repeats[0].num_exact, found.repeats[0].num_compared) == (1, 0)
    [note] = found.notes
    assert "pip install 'ibft[audit]'" in note
    assert "\n" not in note


def test_the_context_is_what_training_refuses(codec: Any) -> None:
    pairs = [Pair("a", "p", "x"), Pair("b", "p", "x = 1\n" * 30)]
    short = ModelLimits(num_embeddings=10_000, num_positions=20)
    found = preview_data([pairs_of(*pairs)], codec("plain"), short, 600)
    with pytest.raises(UserError) as refused:
        encode_pairs(pairs, codec("plain"), 600, short)
    assert found.refusal == str(refused.value)
    assert found.context_tokens == 20
    assert found.train.num_beyond_context == 1
