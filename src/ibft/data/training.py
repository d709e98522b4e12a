"""Training and control pairs from files, the hub, or installed code, in whichever of the usual shapes they come."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ibft.data.functions import function_pairs
from ibft.errors import UserError
from ibft.recipe import DataConfig
from ibft.rows import Message, Pair, open_for_reading
from ibft.runs import file_digest

__all__ = ["Example", "data_digest", "load_training_pairs", "stream_examples", "to_pair"]

FUNCTIONS = "functions:"
_FILE_SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".parquet")


class Example(NamedTuple):
    """A pair, and the row of the source that it was read from."""

    pair: Pair
    row: Any


def load_training_pairs(data: DataConfig) -> list[Pair]:
    """The first `max_examples` pairs of `data.train`.

    Raises:
        UserError: the source cannot be read, or a row has none of the known shapes; names file and line.
    """
    examples = stream_examples(data.train, data.split)
    return [example.pair for example in itertools.islice(examples, data.max_examples)]


def data_digest(source: str) -> str:
    """What identifies the data behind a source: a hash of a file's content; of the pairs for installed code.

    A hub data set is known by its name and split alone: pin a revision (`owner/name@revision`) to be exact.
    """
    if source.startswith(FUNCTIONS):
        pairs = function_pairs(source.removeprefix(FUNCTIONS))
        return hashlib.sha256(msgspec.json.encode(pairs)).hexdigest()
    if _is_file(source):
        return file_digest(source)
    return source


def _is_file(source: str) -> bool:
    return source.endswith(_FILE_SUFFIXES)


def stream_examples(source: str, split: str = "train") -> Iterator[Example]:
    """The examples of a source one at a time, in its order; only one is held in memory, but for installed code.

    Raises:
        UserError: as `load_training_pairs`, when it comes to the row.
    """
    if source.startswith(FUNCTIONS):
        for pair in function_pairs(source.removeprefix(FUNCTIONS)):
            yield Example(pair, msgspec.to_builtins(pair))
        return
    rows = _rows_of_file(Path(source)) if _is_file(source) else _rows_of_hub(source, split)
    for place, row in rows:
        yield Example(to_pair(row, place), row)


def _rows_of_file(path: Path) -> Iterator[tuple[str, Any]]:
    if not path.is_file():
        raise UserError(f"data: {path} does not exist. Give a file, a hub data set id, or functions:PACKAGE.")
    if path.suffix == ".parquet":
        yield from _numbered(f"{path}, row", _parquet_rows(path))
        return
    with open_for_reading(path) as file:
        try:
            if ".jsonl" in path.name:
                for number, line in enumerate(file, start=1):
                    if line.strip():
                        yield f"{path}, line {number}", _decode(line, f"{path}, line {number}")
                return
            content = _decode(file.read(), str(path))
        except (OSError, EOFError) as error:
            raise UserError(f"{path}: cannot be read ({error}).") from None
    if not isinstance(content, list):
        raise UserError(f"{path}: a .json file must hold a list of objects, not {type(content).__name__}.")
    yield from _numbered(f"{path}, item", content)


def _decode(text: bytes, place: str) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{place}: not valid JSON ({error}). Correct or remove the line.") from None


def _numbered(label: str, rows: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    for number, row in enumerate(rows, start=1):
        yield f"{label} {number}", row


def _parquet_rows(path: Path) -> Iterator[Any]:
    import pyarrow
    import pyarrow.parquet

    try:
        for batch in pyarrow.parquet.ParquetFile(path).iter_batches(batch_size=1024):
            yield from batch.to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        raise UserError(f"{path}: not a readable Parquet file ({error}).") from None


def _rows_of_hub(source: str, split: str) -> Iterator[tuple[str, Any]]:
    """Rows of a hub data set, or of a local folder in the hub's layout; `owner/name@revision` pins a revision."""
    from datasets import load_dataset

    name, _, revision = source.partition("@")
    try:
        dataset = load_dataset(name, split=split, revision=revision or None)
    except Exception as error:  # the hub client raises many kinds, none of which a user needs to tell apart
        raise UserError(
            f"data: {source} (split {split}) cannot be loaded as a file or hub data set "
            f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}). "
            "Check the name, the split and the network."
        ) from None
    yield from _numbered(f"{source}, row", dataset)


def to_pair(row: Any, place: str) -> Pair:
    """Read one row of any of the usual shapes.

    Known shapes: `prompt` + `completion` (text, or lists of messages, as in TRL); `messages` whose last turn is
    the assistant's; `instruction`, optional `input`, `output` (Alpaca); `instruction` + `response`;
    `Instruction` + `Response` (OriGen). The row's `id`, where it has one, names the example; else its place does.

    Raises:
        UserError: none of these; names the place and the keys found.
    """
    if isinstance(row, Mapping):
        identity = str(row.get("id", place.rpartition("/")[2]))
        for prompt_key, completion_key in (
            ("prompt", "completion"),
            ("instruction", "output"),
            ("instruction", "response"),
            ("Instruction", "Response"),
        ):
            if prompt_key in row and completion_key in row:
                prompt, completion = _prompt(row[prompt_key], place), _answer(row[completion_key], place)
                extra = row.get("input") if completion_key == "output" else None
                if extra and isinstance(prompt, str):
                    prompt = f"{prompt}\n\n{extra}"
                return Pair(identity, prompt, completion)
        if "messages" in row:
            turns = _messages(row["messages"], place)
            if len(turns) < 2 or turns[-1].role != "assistant":
                raise UserError(f"{place}: messages must end with an assistant turn after at least one other turn.")
            return Pair(identity, turns[:-1], turns[-1].content)
    keys = ", ".join(sorted(map(str, row))) if isinstance(row, Mapping) else type(row).__name__
    raise UserError(
        f"{place}: no known shape (found: {keys}). Expected prompt + completion, messages, "
        "instruction (+ input) + output, or Instruction + Response."
    )


def _prompt(value: Any, place: str) -> str | tuple[Message, ...]:
    return value if isinstance(value, str) else _messages(value, place)


def _answer(value: Any, place: str) -> str:
    if isinstance(value, str):
        return value
    turns = _messages(value, place)
    if len(turns) != 1:
        raise UserError(f"{place}: a completion must be text or one assistant message, not {len(turns)} messages.")
    return turns[0].content


def _messages(value: Any, place: str) -> tuple[Message, ...]:
    try:
        return tuple(msgspec.convert(value, list[Message]))
    except msgspec.ValidationError:
        raise UserError(f"{place}: expected text or a list of {{role, content}} messages with text content.") from None
