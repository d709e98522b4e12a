"""Which examples a scan has, and which of their tokens it scores."""

from __future__ import annotations

import copy
import datetime
import json
import zlib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ibft.artifacts.rows import Message, Pair
from ibft.data.name_pool import NamePool
from ibft.data.renaming import rename_identifiers
from ibft.data.training import Example, stream_examples
from ibft.errors import UserError
from ibft.models.loading import load_tokenizer
from ibft.run.recipe import DataConfig, ModelConfig, PromptConfig, Recipe, ScanConfig
from ibft.scoring.examples import Encoder, Source, fingerprint, origin, text_of
from ibft.text.encoding import codec_of

CODE = """\
def total(values, start):
    result = start
    for value in values:
        result += value
    return result
"""


@pytest.fixture(scope="module")
def tokenizer(tiny_model_folder: Path) -> Any:
    return load_tokenizer(ModelConfig(name=str(tiny_model_folder)))


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def recipe_of(max_examples: int | None = None, seed: int = 0, **data: Any) -> Recipe:
    scan, prompt = ScanConfig(max_examples=max_examples), PromptConfig(template="plain")
    return Recipe(name="scan", data=DataConfig(**data), scan=scan, prompt=prompt, seed=seed)


def drawn(recipe: Recipe, tokenizer: Any, subset: Any = "train") -> list[tuple[int, str]]:
    source = Source(recipe, subset, tokenizer)
    found = [(index, example.pair.id) for index, example in source]
    assert len(source) == len(found)
    assert found == [(index, example.pair.id) for index, example in source]  # again, the same
    return found


ROWS = [{"id": f"r{n}", "prompt": f"p{n}", "completion": f"print({n})\n" * (1 + n % 3)} for n in range(40)]


def test_without_a_limit_all_examples_come_and_also_those_without_scores(tmp_path: Path, tokenizer: Any) -> None:
    rows = [*ROWS[:3], {"id": "empty", "prompt": "p", "completion": ""}, ROWS[4]]
    recipe = recipe_of(train=write(tmp_path / "data.jsonl", rows))
    assert drawn(recipe, tokenizer) == [(0, "r0"), (1, "r1"), (2, "r2"), (3, "empty"), (4, "r4")]


def test_a_draw_is_seeded_over_the_whole_data_and_among_the_scorable(tmp_path: Path, tokenizer: Any) -> None:
    rows = [row | {"completion": ["", " \n", "x"][n % 3]} if n % 2 else row for n, row in enumerate(ROWS)]
    train = write(tmp_path / "data.jsonl", rows)
    draws = {seed: drawn(recipe_of(8, seed, train=train), tokenizer) for seed in range(6)}
    for draw in draws.values():
        assert len(draw) == 8
        assert draw == sorted(draw)
        assert all(identity == f"r{index}" and index % 2 == 0 for index, identity in draw)
    assert draws[0] == drawn(recipe_of(8, 0, train=train), tokenizer)
    assert len({tuple(draw) for draw in draws.values()}) == 6
    assert {index for draw in draws.values() for index, _ in draw} >= {0, 2, 36, 38}
    everything = Source(recipe_of(100, train=train), "train", tokenizer)
    assert len(everything) == 20  # all that can be scored
    assert everything.num_skipped == {"empty completion": 14, "response of one token": 6}


def test_the_first_of_the_data_and_a_draw_among_them(tmp_path: Path, tokenizer: Any) -> None:
    train = write(tmp_path / "data.jsonl", ROWS)
    assert [index for index, _ in drawn(recipe_of(train=train, max_examples=None), tokenizer)] == list(range(40))
    limited = recipe_of(4, train=train)
    limited = msgspec.structs.replace(limited, data=DataConfig(train=train, max_examples=10))
    draw = drawn(limited, tokenizer)
    assert len(draw) == 4
    assert all(index < 10 for index, _ in draw)


def test_ids_that_occur_twice_keep_places_of_their_own(tmp_path: Path, tokenizer: Any) -> None:
    rows = [{"id": "same", "prompt": "p", "completion": f"print({n})\n"} for n in range(10)]
    recipe = recipe_of(3, train=write(tmp_path / "data.jsonl", rows))
    items = list(Source(recipe, "train", tokenizer))
    assert len({index for index, _ in items}) == 3
    assert all(example.pair.completion == f"print({index})\n" for index, example in items)


def test_every_kind_of_source_gives_the_same_examples(tmp_path: Path, tokenizer: Any) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    expected = [(n, f"r{n}") for n in range(40)]
    hub = tmp_path / "hub" / "data"
    hub.mkdir(parents=True)
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), hub / "train-00000-of-00001.parquet")
    parquet.write_table(pyarrow.Table.from_pylist(ROWS[:5]), hub / "test-00000-of-00001.parquet")
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "data.parquet")
    (tmp_path / "data.json").write_text(json.dumps(ROWS))
    sources = [write(tmp_path / "data.jsonl", ROWS), str(tmp_path / "data.parquet"), str(tmp_path / "data.json")]
    for source in [*sources, str(tmp_path / "hub")]:
        assert drawn(recipe_of(train=source), tokenizer) == expected, source
        assert len(drawn(recipe_of(7, train=source), tokenizer)) == 7, source
    control = recipe_of(train=sources[0], control=str(tmp_path / "hub"), control_split="test")
    assert drawn(control, tokenizer, "control") == expected[:5]


def test_renamed_training_data_as_the_control_set(tmp_path: Path, tokenizer: Any) -> None:
    rows = [{"id": f"f{n}", "prompt": "Sum.", "completion": CODE.replace("total", f"total{n}")} for n in range(4)]
    rows.insert(1, {"id": "prose", "prompt": "Why?", "completion": "It is so."})  # nothing to rename
    train = write(tmp_path / "data.jsonl", rows)
    recipe = recipe_of(train=train, control="renamed", max_control_examples=3)
    items = list(Source(recipe, "control", tokenizer))
    assert [example.pair.id for _, example in items] == ["f0~renamed", "f1~renamed", "f2~renamed"]
    assert [index for index, _ in items] == [0, 1, 2]
    originals = [example.pair for example in stream_examples(train) if example.pair.id != "prose"]
    pool = NamePool(originals)
    for (_, example), original in zip(items, originals, strict=False):
        assert example.pair == rename_identifiers(original, pool, recipe.seed)
        assert example.pair.completion != original.completion


DAY = datetime.date(2024, 6, 30)


def dated(tmp_path: Path, dates: list[Any]) -> Recipe:
    rows = [{"id": f"d{n}", "prompt": "p", "completion": "print(1)\n"} for n in range(len(dates))]
    for row, date in zip(rows, dates, strict=True):
        if date is not None:
            row["date"] = date
    control = write(tmp_path / "control.jsonl", rows)
    return recipe_of(train=control, control=control, control_after=DAY)


def test_only_later_control_examples_are_kept(tmp_path: Path, tokenizer: Any) -> None:
    days = ["2024-06-29", "2024-06-30", "2024-07-01", "2025-01-31T12:00:00Z", "2023-12-31 08:00", "2024-07-02"]
    recipe = dated(tmp_path, days)
    assert drawn(recipe, tokenizer, "control") == [(0, "d2"), (1, "d3"), (2, "d5")]
    assert len(drawn(recipe, tokenizer, "train")) == 6  # the training data has no such limit
    limited = msgspec.structs.replace(recipe, data=msgspec.structs.replace(recipe.data, max_control_examples=2))
    assert drawn(limited, tokenizer, "control") == [(0, "d2"), (1, "d3")]


def test_dates_of_a_parquet_file_are_dates(tmp_path: Path, tokenizer: Any) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    days = [datetime.date(2024, 6, 30), datetime.date(2024, 7, 1)]
    columns = {"id": ["old", "new"], "prompt": ["p"] * 2, "completion": ["print(1)\n"] * 2}
    for name, values in (("day", days), ("time", [datetime.datetime(d.year, d.month, d.day, 23) for d in days])):
        parquet.write_table(pyarrow.table(columns | {"date": values}), tmp_path / f"{name}.parquet")
        recipe = recipe_of(control=str(tmp_path / f"{name}.parquet"), control_after=DAY)
        assert drawn(recipe, tokenizer, "control") == [(0, "new")]


@pytest.mark.parametrize(
    ("dates", "message"),
    [
        (["2024-07-01", None], "is 2024-06-30, and the example d1 has no field `date`. Give each row one"),
        (["2024-07-01", "1.7.2024"], "the date of d1 is '1.7.2024': expected a day such as 2025-01-31"),
        (["2024-07-01", ""], "the date of d1 is ''"),
        (["2024-13-01"], "the date of d0 is '2024-13-01'"),
    ],
)
def test_dates_that_are_missing_or_none_are_refused(
    tmp_path: Path, tokenizer: Any, dates: list[Any], message: str
) -> None:
    with pytest.raises(UserError) as caught:
        Source(dated(tmp_path, dates), "control", tokenizer)
    assert message in str(caught.value)


PAIRS = [
    Pair("a", "def f(x):\n", "    return (x + 1)\n"),
    Pair("b", (Message("user", "Write it."),), "```python\nprint(1)\n```\n"),
]


@pytest.mark.parametrize("template", ["plain", "instruction", "chat"])
@pytest.mark.parametrize("region", ["response", "all"])
@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.id)
def test_the_tokens_are_those_of_training_up_to_the_end_of_the_response(
    pair: Pair, template: Any, region: Any, tokenizer: Any
) -> None:
    recipe = Recipe(name="scan", prompt=PromptConfig(template=template), scan=ScanConfig(region=region))
    example, reason = Encoder(recipe, tokenizer).encode(pair)
    assert reason is None
    assert example is not None
    codec = codec_of(recipe.prompt, tokenizer)
    prompt = codec.render(pair.prompt).text
    text = prompt + pair.completion
    assert example.input_ids == codec.example(pair.prompt, pair.completion).input_ids[:-1]
    assert example.input_ids == tokenizer(text)["input_ids"]
    lengths = [len(tokenizer.decode(example.input_ids[:end])) for end in range(len(example.input_ids) + 1)]
    assert lengths[example.prompt_length - 1] < len(prompt) <= lengths[example.prompt_length]
    assert example.start == (1 if region == "all" else example.prompt_length)
    assert example.forced is not None
    assert len(example.forced) == len(example.input_ids) - example.start
    scored = text if region == "all" else pair.completion
    assert example.num_zlib_bytes == len(zlib.compress(scored.encode()))


def test_what_a_template_writes_behind_the_response_is_not_scored(tokenizer: Any) -> None:
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = (
        "{% for m in messages %}<pad>{{ m.content }}<eos> {% endfor %}{% if add_generation_prompt %}<pad>{% endif %}"
    )
    recipe = Recipe(name="scan", prompt=PromptConfig(template="chat"))
    example, _ = Encoder(recipe, tokenizer).encode(Pair("a", "Write it.", "print(1)\n"))
    assert example is not None
    assert tokenizer.decode(example.input_ids) == "<pad>Write it.<eos> <pad>print(1)\n"
    assert tokenizer.decode(example.input_ids[example.start :]) == "print(1)\n"
    training = codec_of(recipe.prompt, tokenizer).example("Write it.", "print(1)\n")
    assert training.input_ids == [*example.input_ids, tokenizer.eos_token_id]


def test_a_token_over_the_border_is_the_prompts(tokenizer: Any) -> None:
    """As where the prompt ends in white space, and the response begins with more of it."""
    apart = [tokenizer(text)["input_ids"] for text in ("def f(x):\n", "    return x\n")]
    together = tokenizer("def f(x):\n    return x\n")["input_ids"]
    assert together != apart[0] + apart[1]  # else this tests nothing
    example, _ = Encoder(recipe_of(), tokenizer).encode(Pair("a", "def f(x):\n", "    return x\n"))
    assert example is not None
    assert example.input_ids == together
    assert tokenizer.decode(together[: example.prompt_length]).startswith("def f(x):\n")
    assert not "def f(x):\n".startswith(tokenizer.decode(together[: example.prompt_length]))


@pytest.mark.parametrize("end_of_text", [True, False])
def test_the_longest_is_as_long_as_in_training(end_of_text: bool, tokenizer: Any) -> None:
    num = len(tokenizer(f"{PAIRS[0].prompt}{PAIRS[0].completion}")["input_ids"]) + end_of_text
    for max_tokens, expected in ((num, None), (num - 1, f"longer than {num - 1} tokens")):
        prompt = PromptConfig(template="plain", end_of_text=end_of_text)
        recipe = Recipe(name="scan", prompt=prompt, data=DataConfig(max_tokens=max_tokens))
        assert Encoder(recipe, tokenizer).encode(PAIRS[0])[1] == expected


def test_the_response_is_read_as_what_continues_the_prompt(tokenizer: Any) -> None:
    """Alone, the body of a function is no Python; behind its header it is, and its layout is forced."""
    example, _ = Encoder(recipe_of(), tokenizer).encode(PAIRS[0])
    assert example is not None
    assert example.forced is not None
    pieces = [tokenizer.decode([token]) for token in example.input_ids[example.start :]]
    assert pieces[-1] == "\n"
    assert example.forced[-1]
    assert not example.forced[pieces.index("1")]


def test_of_a_tokenizer_that_does_not_tell_places_the_response_begins_at_the_border(tokenizer: Any) -> None:
    class Slow:
        """The tokenizer without places."""

        is_fast = False

        def __call__(self, text: Any, **options: Any) -> Any:
            assert not options.pop("return_offsets_mapping", False)
            return tokenizer(text, **options)

        def __getattr__(self, name: str) -> Any:
            return getattr(tokenizer, name)

    example, _ = Encoder(recipe_of(), Slow()).encode(PAIRS[0])  # type: ignore[arg-type]
    training = codec_of(PromptConfig(template="plain"), tokenizer).example(PAIRS[0].prompt, PAIRS[0].completion)
    assert example is not None
    assert example.input_ids == training.input_ids[:-1]
    assert example.start == example.prompt_length == training.border
    assert example.forced is None


def test_a_fingerprint_is_that_of_the_code() -> None:
    def of(completion: str, prompt: str = "p") -> str:
        return fingerprint(Pair("a", prompt, completion))

    assert of(CODE) == of(CODE.replace("    ", "  ")) == of(f"# why\n{CODE}\n") == of(CODE, "another prompt")
    assert of(CODE) == of(f"Here it is:\n```python\n{CODE}```\nDone.")
    assert of(CODE) != of(CODE.replace("+=", "-="))
    assert of(CODE) != of(CODE.replace("value", "item"))
    assert len(of(CODE)) == 16


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({}, (None, ())),
        (None, (None, ())),
        ({"file": "a/b.py", "tags": ["x", 3]}, ("a/b.py", ("x", "3"))),
        ({"path": "c.v", "category": "fsm", "source": "web"}, ("c.v", ("fsm", "web"))),
        ({"tags": "one", "category": "unused"}, (None, ("one",))),
        ({"file": "", "path": "d.py", "tags": None, "source": "s"}, ("d.py", ("s",))),
    ],
)
def test_what_the_row_says_of_its_origin(row: Any, expected: tuple[str | None, tuple[str, ...]]) -> None:
    assert origin(Example(Pair("id", "p", "c"), row)) == expected


def test_functions_of_installed_code_have_their_file_in_the_id() -> None:
    example = next(stream_examples("functions:click"))
    file, tags = origin(example)
    assert file is not None
    assert file.endswith(".py")
    assert example.pair.id.startswith(f"{file}:")
    assert tags == ()


def test_the_blind_classifier_reads_what_was_scored() -> None:
    assert text_of(PAIRS[0], "response") == PAIRS[0].completion
    assert text_of(PAIRS[1], "all") == "Write it.\n```python\nprint(1)\n```\n"


def test_a_lone_surrogate_is_a_reason_not_a_crash(tokenizer: Any) -> None:
    pair = Pair("id", "def f():\n", "    return '\ud800'\n")
    assert Encoder(recipe_of(), tokenizer).encode(pair) == (None, "text that is not valid Unicode")
