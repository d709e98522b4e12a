"""Which tool wrote a file of samples, by its content; and in words, what is not read, and the way around it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from ibft.artifacts.json_lines import decode_foreign, opened, read_values
from ibft.artifacts.readers import bigcode, evalplus_folder
from ibft.artifacts.readers.inspect_log import InspectLog, InspectSample, archived_samples
from ibft.artifacts.readers.livecodebench import LiveCodeBenchRow
from ibft.artifacts.readers.lm_eval import LmEvalRow
from ibft.artifacts.readers.multipl_e import MultiplERow, completion_files
from ibft.artifacts.readers.openai_batch import OpenAIBatchRow
from ibft.artifacts.readers.plain import PlainRow
from ibft.artifacts.readers.row import SampleRow
from ibft.artifacts.readers.tasks import Tasks
from ibft.artifacts.readers.vllm import VllmRow
from ibft.artifacts.rows import Sample
from ibft.errors import UserError

__all__ = ["Samples", "detect"]

_KINDS: tuple[tuple[frozenset[str], type[SampleRow]], ...] = (
    (frozenset({"doc", "resps"}), LmEvalRow),
    (frozenset({"custom_id", "response"}), OpenAIBatchRow),
    (frozenset({"eval", "version"}), InspectLog),
    (frozenset({"outputs"}), VllmRow),
    (frozenset({"question_id", "code_list"}), LiveCodeBenchRow),
    (frozenset({"name", "completions"}), MultiplERow),
)
"""The fields by which the rows of a tool are known; others with an answer are `PlainRow`s."""

_REFUSED: tuple[tuple[frozenset[str], str], ...] = (
    (
        frozenset({"task_id", "passed"}),
        "results, not samples: compare them with `ibft judge diff`, or judge the samples that they were made from",
    ),
    (
        frozenset({"eval", "hash"}),
        "EvalPlus's eval_results.json, not samples: compare it with `ibft judge diff`, or judge EvalPlus's samples",
    ),
    (
        frozenset({"results", "configs"}),
        "results of lm-evaluation-harness, not samples: run it with --log_samples, and judge samples_TASK_DATE.jsonl",
    ),
    (
        frozenset({"custom_id", "body"}),
        "requests to OpenAI's batch API, not answers: judge the output file of the batch",
    ),
    (
        frozenset({"custom_id", "result"}),
        "results of Anthropic's batch API, which are not read: write a row with `task_id` and `completion` for each",
    ),
    (frozenset({"task_id", "tests"}), "problems, not samples: give the file as --problems"),
    (frozenset({"task_id", "test_list"}), "problems of MBPP, not samples: give the file as --problems mbpp:PATH"),
    (frozenset({"prompt", "canonical_solution"}), "problems, not samples: give the file as --problems"),
)
"""What is known, and not read, with the way around it."""

_MAGIC = {
    b"PAR1": "a Parquet file, which is not read. Convert it: pandas.read_parquet(PATH).to_json('samples.jsonl', "
    "orient='records', lines=True)",
    b"ARROW1": "an Arrow file, which is not read. Convert it: datasets.load_from_disk(FOLDER).to_json('samples.jsonl')",
    b"\x80": "a pickle, which is not read, since that would run code. Write it as JSON Lines",
}


class Samples(NamedTuple):
    """The samples in a file or folder: the tool that wrote them, and a function that reads them, again each time.

    Each sample comes with its place in the file, for messages. Its task id is the benchmark's where that has the task.
    """

    tool: str
    read: Callable[[], Iterator[tuple[str, Sample]]]


def detect(path: Path, tasks: Tasks) -> Samples:
    """Find out which tool wrote the samples.

    Args:
        path: a file or folder.
        tasks: of the benchmark.

    Raises:
        UserError: it cannot be read, or is of a kind that is not read. Reading raises it, too, where a row is not like
            the first, or has no answer.
    """
    if path.is_dir():
        return _in_folder(path, tasks)
    with opened(path) as file:
        start = file.read(8)
    for magic, words in _MAGIC.items():
        if start.startswith(magic):
            raise UserError(f"{path}: {words}.")
    if start.startswith(b"PK"):
        return Samples(InspectSample.tool, lambda: _answers(path, archived_samples(path), tasks))
    first = next(read_values(path), None)
    if first is None:
        raise UserError(f"{path}: has no samples in it.")
    if first[1].lstrip().startswith(b"["):
        return Samples(bigcode.TOOL, lambda: _generations(path, tasks))
    kind = _kind_of(path, *first)
    return Samples(kind.tool, lambda: _answers(path, _rows(path, kind), tasks))


def _in_folder(path: Path, tasks: Tasks) -> Samples:
    if evalplus_folder.is_program_folder(path):
        return Samples(evalplus_folder.TOOL, lambda: evalplus_folder.programs(path, tasks))
    if list(path.glob("**/*.arrow")) or list(path.glob("**/*.parquet")):
        raise UserError(
            f"{path}: a data set of Hugging Face, which is not read. Convert it: "
            "datasets.load_from_disk(FOLDER).to_json('samples.jsonl')."
        )
    files = completion_files(path)
    first = next(read_values(files[0]), None) if files else None
    if first is not None and _kind_of(files[0], *first) is MultiplERow:
        return Samples(MultiplERow.tool, lambda: _completions(files, tasks))
    raise UserError(
        f"{path}: a folder without EvalPlus's programs (HumanEval_0/0.py) or MultiPL-E's completions "
        "(HumanEval_0_has_close_elements.json.gz). Name the file of samples in it."
    )


def _completions(files: list[Path], tasks: Tasks) -> Iterator[tuple[str, Sample]]:
    for file in files:
        for _, sample in _answers(file, _rows(file, MultiplERow), tasks):
            yield file.name, sample


def _kind_of(path: Path, place: str, value: bytes) -> type[SampleRow]:
    try:
        row = decode_foreign(value, dict[str, object])
    except ValueError as error:
        raise UserError(f"{path}, {place}: {error}. {PlainRow.expected}") from None
    fields = frozenset(row)
    for known, kind in _KINDS:
        if known <= fields:
            return kind
    if fields & {"completion", "solution"} and "passed" not in fields:
        return PlainRow
    for known, words in _REFUSED:
        if known <= fields:
            raise UserError(f"{path}: {words}.")
    names = ", ".join(f"`{name}`" for name in itertools.islice(row, 8)) or "none"
    raise UserError(
        f"{path}, {place}: samples of a tool that is not known (the fields are {names}). {PlainRow.expected} "
        "docs/problems.md has the tools."
    )


def _rows(path: Path, kind: type[SampleRow]) -> Iterator[tuple[str, SampleRow]]:
    for place, value in read_values(path):
        try:
            yield place, decode_foreign(value, kind)
        except ValueError as error:
            raise UserError(f"{path}, {place}: {error}. {kind.expected}") from None


def _answers(path: Path, rows: Iterator[tuple[str, SampleRow]], tasks: Tasks) -> Iterator[tuple[str, Sample]]:
    variant = None
    for place, row in rows:
        if variant is None:
            variant = row.variant
        if row.variant != variant:
            continue
        try:
            for sample in row.answers(tasks):
                yield place, sample
        except (ValueError, msgspec.ValidationError) as error:
            raise UserError(f"{path}, {place}: {error}. {row.expected}") from None


def _generations(path: Path, tasks: Tasks) -> Iterator[tuple[str, Sample]]:
    generations = []
    for place, value in read_values(path):
        try:
            generations.append(decode_foreign(value, list[str]))
        except ValueError as error:
            raise UserError(f"{path}, {place}: {error}. Each item must be the list of a problem's answers.") from None
    try:
        yield from bigcode.generated_samples(generations, tasks)
    except ValueError as error:
        raise UserError(f"{path}: {error}.") from None
