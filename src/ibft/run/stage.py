"""One stage's folder: under its work name until it is complete, and what it was made from."""

from __future__ import annotations

import contextlib
import datetime
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from ibft.artifacts.json_lines import pretty_json, write_atomically
from ibft.errors import UserError
from ibft.run.inputs import difference, has_other_format, identity_of
from ibft.run.processes import is_main_process
from ibft.run.provenance import provenance

__all__ = ["Stage", "StageRecord", "dtype_remedy", "mismatch", "read_record", "work_path"]


class StageRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The content of `stage.json`. `seconds` is wall time, summed over interrupted attempts."""

    stage: str
    identity: str
    inputs: dict[str, Any]
    seconds: float = 0.0
    finished: str | None = None
    provenance: dict[str, Any] = {}


class Stage:
    """One stage's folder, under its work name until it is complete."""

    def __init__(self, path: Path, name: str, inputs: dict[str, Any], seed: int) -> None:
        self.path = path
        self.work_path = work_path(path)
        self.name = name
        self.inputs = inputs
        self.has_left = False
        """True if `work` has left anything that a later command can use."""
        self._seed = seed

    @property
    def identity(self) -> str:
        """The hash by which later stages know this one: as recorded, or of its inputs where it is still to be begun."""
        # As recorded: the commit of a hub repository may be known only after its first download.
        record = self._record(self.path) or self._record(self.work_path)
        return record.identity if record else identity_of(self.inputs)

    @property
    def is_complete(self) -> bool:
        """True if an earlier run finished this stage from the same inputs."""
        return self._record(self.path) is not None

    def _record(self, folder: Path) -> StageRecord | None:
        """Return the record in a folder, if it is of the same inputs."""
        record = read_record(folder)
        return record if record and mismatch(folder, record, self.inputs) is None else None

    @contextlib.contextmanager
    def work(self) -> Iterator[Path]:
        """Yield the work folder, with whatever an interrupted run left there; on success give it its name.

        Only the main process makes and renames folders; the others get the path, and wait before they use it.
        """
        if not is_main_process():
            yield self.work_path
            return
        record = self._record(self.work_path)
        if record is None:
            shutil.rmtree(self.work_path, ignore_errors=True)
            while not self.work_path.is_dir():
                with contextlib.suppress(FileNotFoundError):  # an arm that was refused has just taken `train/` away
                    self.work_path.mkdir(parents=True, exist_ok=True)
            # Before the work: whatever interrupts it, a later command knows what the folder was made from.
            record = StageRecord(stage=self.name, identity=identity_of(self.inputs), inputs=self.inputs)
            _write_record(self.work_path, record)
        start = time.monotonic()
        finished = None
        try:
            yield self.work_path
            finished = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        except UserError:
            if [path.name for path in self.work_path.iterdir()] == ["stage.json"]:  # nothing to resume
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
        # An old result stays until the new one is complete: neither rename nor removal by half may lose both.
        replaced = self.path.with_name(f"{self.path.name}.replaced")
        shutil.rmtree(replaced, ignore_errors=True)
        if self.path.exists():
            os.replace(self.path, replaced)
        os.replace(self.work_path, self.path)
        shutil.rmtree(replaced, ignore_errors=True)


def work_path(path: Path) -> Path:
    """Return where a stage is while it is being made."""
    return path.with_name(f"{path.name}.partial")


def mismatch(
    folder: Path, record: StageRecord, inputs: Mapping[str, Any], *, is_part: bool = False, trusts_names: bool = False
) -> str | None:
    """Return how a result does not fit the inputs, as the beginning of a sentence; None if it does."""
    # First: inputs of two versions may differ in their keys, which would say nothing to a user.
    if has_other_format(record.inputs, inputs):
        return f"{folder} was made by another version of ibft, which does not give the same results"
    words = difference(record.inputs, inputs, is_part=is_part, trusts_names=trusts_names)
    return None if words is None else f"{folder} was made from a different recipe ({words})"


def read_record(folder: Path) -> StageRecord | None:
    """Return the stage record in `folder`; None where there is none or an unreadable one."""
    try:
        return msgspec.json.decode((folder / "stage.json").read_bytes(), type=StageRecord)
    except (OSError, msgspec.MsgspecError):
        return None


def _write_record(folder: Path, record: StageRecord) -> None:
    write_atomically(folder / "stage.json", pretty_json(record))


def dtype_remedy(words: str) -> str:
    """Return what else helps where `auto` stands for another dtype on this machine."""
    recorded = re.search(r"model\.dtype: (\w+) -> ", words)
    return f"set `model.dtype: {recorded[1]}` (`auto` depends on the machine), " if recorded else ""
