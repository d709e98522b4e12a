"""Training and control pairs from files, the hub, or installed code, in whichever of the usual shapes they come."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ibft.artifacts.json_lines import is_encodable, read_content, read_lines
from ibft.artifacts.rows import Message, Pair
from ibft.data.functions import function_pairs
from ibft.data.sources import FUNCTIONS, file_of, hub_name
from ibft.errors import UserError
from ibft.run.sections import DataConfig

__all__ = [
    "Example",
    "is_conversational",
    "load_training_pairs",
    "stream_examples",
    "to_pair",
]

# Fields whose text goes into the files of a run: what names an example, and where it is from.
_NAMING_FIELDS = ("id", "file", "path", "tags", "category", "source")


class Example(NamedTuple):
    """A pair, and the row of the source that it was read from."""

    pair: Pair
    row: Any


def load_training_pairs(data: DataConfig) -> list[Pair]:
    """The first `max_examples` pairs of `data.train`.

    Raises:
        UserError: the source cannot be read, or a row has none of the known shapes; names file and line.
    """
    return [example.pair for example in stream_examples(data.train, data.split, data.max_examples)]


def is_conversational(data: DataConfig) -> bool:
    """Return whether the first training example is a conversation; installed code is none.

    Raises:
        UserError: as `load_training_pairs`.
    """
    if data.train.startswith(FUNCTIONS):
        return False
    first = next(stream_examples(data.train, data.split, data.max_examples), None)
    return first is not None and not isinstance(first.pair.prompt, str)


def stream_examples(source: str, split: str = "train", limit: int | None = None) -> Iterator[Example]:
    """The examples of a source one at a time, in its order; only one is held in memory, but for installed code.

    Args:
        source: as `data.train`.
        split: of a hub data set.
        limit: end after so many. A hub data set is then downloaded only as far as it is read, anew in each pass;
            without a limit it is downloaded as a whole, and once.

    Raises:
        UserError: as `load_training_pairs`, when it comes to the row.
    """
    return itertools.islice(_examples(source, split, is_streamed=limit is not None), limit)


def _examples(source: str, split: str, is_streamed: bool) -> Iterator[Example]:
    if source.startswith(FUNCTIONS):
        for pair in function_pairs(source.removeprefix(FUNCTIONS)):
            yield Example(pair, msgspec.to_builtins(pair))
        return
    path = file_of(source)
    rows = _rows_of_hub(source, split, is_streamed) if path is None else _rows_of_file(path)
    for place, row in rows:
        yield Example(to_pair(row, place), row)


def _rows_of_file(path: Path) -> Iterator[tuple[str, Any]]:
    name = path.name.lower()
    if name.endswith(".parquet"):
        yield from _numbered(f"{path}, row", _parquet_rows(path))
        return
    if name.endswith((".jsonl", ".jsonl.gz")):
        for number, line in read_lines(path):
            yield f"{path}, line {number}", _decode(line, f"{path}, line {number}")
        return
    content = _decode(read_content(path), str(path))
    if not isinstance(content, list):
        raise UserError(f"{path}: a .json file must hold a list of objects, not {type(content).__name__}.")
    yield from _numbered(f"{path}, item", content)


def _decode(text: bytes, place: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise UserError(f"{place}: JSON that is nested too deeply to be read. Correct or remove the line.") from None
    except ValueError as error:  # not JSONDecodeError alone: bytes may be no text, and numbers too long
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


def _rows_of_hub(source: str, split: str, is_streamed: bool) -> Iterator[tuple[str, Any]]:
    """Rows of a hub data set, or of a local folder in the hub's layout; `owner/name@revision` pins a revision."""
    is_part = "[" in split  # train[:1%], which cannot be streamed
    from datasets import load_dataset

    name, revision = hub_name(source)
    try:
        dataset = load_dataset(name, split=split, revision=revision, streaming=is_streamed and not is_part)
        yield from _numbered(f"{source}, row", dataset)
    except Exception as error:  # the hub client raises many kinds, none of which a user needs to tell apart
        raise UserError(
            f"data: {source} (split {split}) cannot be loaded as a file or hub data set "
            f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}). "
            "Check the name, the split and the network."
        ) from None


def to_pair(row: Any, place: str) -> Pair:
    """Read one row of any of the usual shapes.

    Known shapes: `prompt` + `completion` (text, or lists of messages, as in TRL); `messages` whose last turn is
    the assistant's; `instruction`, optional `input`, `output` (Alpaca); `instruction` + `response`;
    `Instruction` + `Response` (OriGen). The row's `id`, where it has one that is not null, names the example; else its
    place does.

    Raises:
        UserError: none of these, or a name that is not valid Unicode; names the place, and the keys or the field.
    """
    if isinstance(row, Mapping):
        _require_unicode_names(row, place)
        identity = place.rpartition("/")[2] if row.get("id") is None else str(row["id"])
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


def _require_unicode_names(row: Mapping[str, Any], place: str) -> None:
    """Refuse lone surrogates, which JSON can hold and no file takes, where a text names the example or its origin."""
    for field in _NAMING_FIELDS:
        value = row.get(field)
        for one in value if isinstance(value, list | tuple) else [value]:
            if isinstance(one, str) and not is_encodable(one):
                raise UserError(
                    f"{place}: the field {field} is not valid Unicode ({one!a}). Correct it or remove the row."
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
