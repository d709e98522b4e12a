"""The run folder: where every stage's files live, what is complete, and what it was made from.

    runs/<name>/recipe.yaml        the latest command's recipe, as resolved
    runs/<name>/provenance.json    its versions, git commit, hardware, seed
    runs/<name>/run.json           whether the recipe's `gpu:` section applies, decided when the run was made
    runs/<name>/<stage>/           one folder a stage (and arm), with stage.json: inputs, identity, provenance
    runs/<name>/<stage>.partial/   the same while it is being made; a later run goes on from there

A stage folder appears under its final name by one rename, so a folder that exists is complete. Its identity is a hash
of everything that went in (`ibft.stages.identity`): a changed recipe, or a file or folder whose content has changed, is
refused, never silently answered with an old result. A command that is refused changes nothing here.

Where a launcher (torchrun, accelerate) has started several processes, rank 0 is the main process: it alone holds
the lock, looks at the folder and writes into it. The others learn what it found through the training stage.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from ibft.artifacts.rows import pretty_json, write_atomically
from ibft.errors import UserError
from ibft.run.inputs import difference, has_other_format, identity_of, plain
from ibft.run.provenance import provenance
from ibft.run.recipe import FORGETTING, Recipe, dump_recipe

__all__ = [
    "RunFolder",
    "RunRecord",
    "Stage",
    "StageRecord",
    "is_main_process",
    "num_processes",
    "process_index",
    "read_record",
    "read_run_record",
]


class StageRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What `stage.json` says of a stage. `seconds` is wall time, summed over interrupted attempts."""

    stage: str
    identity: str
    inputs: dict[str, Any]
    seconds: float = 0.0
    finished: str | None = None
    provenance: dict[str, Any] = {}


class RunRecord(msgspec.Struct, frozen=True):
    """`run.json`: what was decided when the run was made, and holds on every machine. See `Recipe.gpu`."""

    gpu_overrides: bool


class RunFolder:
    """One run's folder. Every stage asks it for a `Stage` and writes nowhere else.

    Args:
        recipe: as resolved; names the folder.
        overwrite: make stages again that were made from another recipe.
        gpu_overrides: whether the recipe's `gpu:` section is applied; None where it has none.
    """

    def __init__(self, recipe: Recipe, *, overwrite: bool = False, gpu_overrides: bool | None = None) -> None:
        self.recipe = recipe
        self.path = Path(recipe.output) / recipe.name
        self.overwrite = overwrite
        self._gpu_overrides = gpu_overrides
        self._stages: list[Stage] = []

    @contextlib.contextmanager
    def open(self) -> Iterator[RunFolder]:
        """Hold the folder's lock (one command at a time), and record recipe and provenance of what is made in it.

        Only the main process of a command does; the others go on at once. A command that ends in a `UserError` before
        it has made anything was refused: the folder is then as it was before, and there is none if there was none.

        Raises:
            UserError: the folder cannot be written, or another command is at work in it.
        """
        if not is_main_process():
            yield self
            return
        missing = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        with self._lock() as is_first_lock:
            if self.path in missing:
                self._write_records()
            try:
                yield self
            except UserError:
                if not any(stage.has_left for stage in self._stages):
                    self._take_back(missing, is_first_lock)
                    raise
                self._write_records()
                raise
            except BaseException:
                self._write_records()
                raise
            self._write_records()

    @contextlib.contextmanager
    def _lock(self) -> Iterator[bool]:
        """Hold the lock; yield whether its file is new."""
        path = self.path / ".lock"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            is_new = not path.exists()
            lock = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666))  # not truncated: that would be a change
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
            yield is_new

    def _write_records(self) -> None:
        write_atomically(self.path / "recipe.yaml", dump_recipe(self.recipe))
        write_atomically(self.path / "provenance.json", pretty_json(provenance(self.recipe.seed)))
        if self._gpu_overrides is not None:
            write_atomically(self.path / "run.json", pretty_json(RunRecord(self._gpu_overrides)))

    def _take_back(self, missing: Sequence[Path], is_first_lock: bool) -> None:
        """Remove what `open` itself has made: the lock's file, or the folders that were missing."""
        if self.path in missing:
            shutil.rmtree(self.path, ignore_errors=True)
        elif is_first_lock:
            (self.path / ".lock").unlink(missing_ok=True)
        for folder in missing[1:]:
            with contextlib.suppress(OSError):  # another command has made something in it
                folder.rmdir()

    def stage(self, name: str, inputs: Mapping[str, Any]) -> Stage:
        """The stage `name` (such as `train/ib`) made from `inputs`, which must be plain JSON-like values.

        Raises:
            UserError: the folder holds this stage made from other inputs, and `overwrite` is off.
        """
        self.check(name, inputs)
        stage = Stage(self.path / name, name, plain(inputs), self.recipe.seed)
        self._stages.append(stage)
        return stage

    def check(self, name: str, inputs: Mapping[str, Any], *, is_part: bool = False) -> None:
        """Refuse what `stage` would refuse. With `is_part`, inputs that are not given are not compared.

        Raises:
            UserError: as `stage`.
        """
        path = self.path / name
        for folder in () if self.overwrite else (path, _work_path(path)):
            record = read_record(folder)
            if record is not None and (words := _mismatch(folder, record, plain(inputs), is_part=is_part)):
                raise UserError(
                    f"{words}. Give the recipe another `name:`, {_dtype_remedy(words)}or pass --overwrite to make this "
                    "stage again."
                )

    def asked(self) -> list[str]:
        """Return whose answers there are to judge: each arm, then what it was asked besides (`arm@format`,
        `arm@forgetting`) as far as that has been answered.
        """
        names: list[str] = []
        for arm in self.recipe.arms:
            others = [self.recipe.asked_name(arm, form) for form in self.recipe.formats_of(arm)]
            others += [arm + FORGETTING] if self.recipe.forgetting else []
            names += [arm, *(name for name in others if name != arm and read_record(self.path / "generate" / name))]
        return names

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

    def record_made_from(self, name: str, inputs: Mapping[str, Any], *, trusts_names: bool = False) -> StageRecord:
        """What a completed stage says of itself, if it was made from `inputs`, which may be a part of all.

        Args:
            name: the stage.
            inputs: what it must have been made from.
            trusts_names: do not look at contents: what the names stand for is not used here, and may be missing.

        Raises:
            UserError: the stage has not been completed in this run folder, or was made from other inputs.
        """
        record = self.record(name)
        if words := _mismatch(self.path / name, record, plain(inputs), is_part=True, trusts_names=trusts_names):
            verb = name.split("/")[0]
            raise UserError(
                f"{words}. Give the recipe that it was made from, {_dtype_remedy(words)}or make it again with "
                f"`ibft {verb} RECIPE --overwrite`."
            )
        return record


class Stage:
    """One stage's folder, under its work name until it is complete."""

    def __init__(self, path: Path, name: str, inputs: dict[str, Any], seed: int) -> None:
        self.path = path
        self.work_path = _work_path(path)
        self.name = name
        self.inputs = inputs
        self.has_left = False
        """Whether `work` has left anything that a later command can use."""
        self._seed = seed

    @property
    def identity(self) -> str:
        """What later stages know this one by: as recorded, or a hash of its inputs where it is still to be begun."""
        record = self._record(self.path) or self._record(self.work_path)
        return record.identity if record else identity_of(self.inputs)

    @property
    def is_complete(self) -> bool:
        """Whether an earlier run finished this stage from the same inputs."""
        return self._record(self.path) is not None

    def _record(self, folder: Path) -> StageRecord | None:
        """The record in a folder, if it is of the same inputs."""
        record = read_record(folder)
        return record if record and _mismatch(folder, record, self.inputs) is None else None

    @contextlib.contextmanager
    def work(self) -> Iterator[Path]:
        """Yield the work folder, with whatever an interrupted run left there; on success give it its name.

        A result of other inputs under that name goes when the new one is complete, and not before. Only the main
        process makes and renames folders; the others get the path, and wait before they use it.
        """
        if not is_main_process():
            yield self.work_path
            return
        record = self._record(self.work_path)
        if record is None:
            shutil.rmtree(self.work_path, ignore_errors=True)
            self.work_path.mkdir(parents=True)
            record = StageRecord(stage=self.name, identity=identity_of(self.inputs), inputs=self.inputs)
            _write_record(self.work_path, record)
        start = time.monotonic()
        finished = None
        try:
            yield self.work_path
            finished = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        except UserError:
            if [path.name for path in self.work_path.iterdir()] == ["stage.json"]:  # nothing to go on from
                self._remove_work()
            raise
        finally:
            # An interrupted attempt's time counts too; if even this cannot be written, only the time is lost.
            if self.work_path.exists():
                self.has_left = True
                with contextlib.suppress(UserError):
                    seconds = record.seconds + time.monotonic() - start
                    record = msgspec.structs.replace(
                        record, seconds=seconds, finished=finished, provenance=provenance(self._seed)
                    )
                    _write_record(self.work_path, record)
        self._give_name()

    def _remove_work(self) -> None:
        shutil.rmtree(self.work_path)
        if "/" in self.name:
            with contextlib.suppress(OSError):  # other arms are there
                self.work_path.parent.rmdir()

    def _give_name(self) -> None:
        replaced = self.path.with_name(f"{self.path.name}.replaced")
        shutil.rmtree(replaced, ignore_errors=True)
        if self.path.exists():
            os.replace(self.path, replaced)
        os.replace(self.work_path, self.path)
        shutil.rmtree(replaced, ignore_errors=True)


def _work_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.partial")


def _mismatch(
    folder: Path, record: StageRecord, inputs: Mapping[str, Any], *, is_part: bool = False, trusts_names: bool = False
) -> str | None:
    """Return how a result does not fit the inputs, as the beginning of a sentence; None if it does."""
    if has_other_format(record.inputs, inputs):
        return f"{folder} was made by another version of ibft, which does not give the same results"
    found = difference(record.inputs, inputs, is_part=is_part, trusts_names=trusts_names)
    return None if found is None else f"{folder} was made from a different recipe ({found})"


def read_record(folder: Path) -> StageRecord | None:
    """The stage record in `folder`, or None where there is none or an unreadable one."""
    try:
        return msgspec.json.decode((folder / "stage.json").read_bytes(), type=StageRecord)
    except (OSError, msgspec.MsgspecError):
        return None


def _write_record(folder: Path, record: StageRecord) -> None:
    write_atomically(folder / "stage.json", pretty_json(record))


def _dtype_remedy(words: str) -> str:
    """What else helps where `auto` stands for another dtype on this machine."""
    found = re.search(r"model\.dtype: (\w+) -> ", words)
    return f"set `model.dtype: {found[1]}` (`auto` depends on the machine), " if found else ""


def read_run_record(folder: Path) -> RunRecord | None:
    """What was decided when the run in `folder` was made; None where nothing was recorded."""
    try:
        return msgspec.json.decode((folder / "run.json").read_bytes(), type=RunRecord)
    except (OSError, msgspec.MsgspecError):
        return None


def num_processes() -> int:
    """How many processes the launcher started for this command; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def process_index() -> int:
    """Which of the launcher's processes this is, from 0; 0 without a launcher."""
    return int(os.environ.get("RANK", "0")) if num_processes() > 1 else 0


def is_main_process() -> bool:
    """Whether this process is the one that writes: alone, or rank 0 of those that a launcher started."""
    return process_index() == 0
