"""The run folder: where every stage's files live, what is complete, and what it was made from.

    runs/<name>/recipe.yaml        the latest command's recipe, as resolved
    runs/<name>/provenance.json    its versions, git commit, hardware, seed
    runs/<name>/run.json           whether the recipe's `gpu:` section applies, decided when the run was made
    runs/<name>/<stage>/           one folder per stage (and arm), with stage.json: inputs, identity, provenance
    runs/<name>/<stage>.partial/   the same while it is being made; a later command resumes it

A stage folder appears under its final name by one rename, so a folder that exists is complete. Its identity is a hash
of everything that went in (`ibft.stages.identity`): a changed recipe, or a file or folder whose content has changed, is
refused, never silently answered with an old result. A command that is refused changes nothing here.

A command locks the stages that it works at, so that two arms of a run can be trained at the same time.

Where a launcher (torchrun, accelerate) has started several processes, rank 0 is the main process: it alone holds
the locks, looks at the folder and writes into it. The others learn through the training stage what it found.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from ibft.artifacts.json_lines import pretty_json, write_atomically
from ibft.errors import UserError
from ibft.run.inputs import plain
from ibft.run.locks import Lock, hold
from ibft.run.processes import is_main_process
from ibft.run.provenance import provenance
from ibft.run.recipe import FORGETTING, Recipe, dump_recipe
from ibft.run.stage import Stage, StageRecord, dtype_remedy, mismatch, read_record, work_path

__all__ = ["RunFolder", "RunRecord", "read_run_record"]


_OWN_FILES = {".locks", "recipe.yaml", "provenance.json", "run.json"}
"""The files that a command leaves in a folder in which it has made nothing."""


class RunRecord(msgspec.Struct, frozen=True):
    """`run.json`: what was decided when the run was made, and holds on every machine. See `Recipe.gpu`."""

    gpu_overrides: bool


class RunFolder:
    """One run's folder. Every stage asks it for a `Stage` and writes nowhere else.

    Args:
        recipe: as resolved; names the folder.
        overwrite: make stages again that were made from another recipe.
        gpu_overrides: whether the recipe's `gpu:` section is applied; None where it has none.
        arms: those that the command is about; all of the recipe's, if empty.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        overwrite: bool = False,
        gpu_overrides: bool | None = None,
        arms: Sequence[str] = (),
    ) -> None:
        self.recipe = recipe
        self.arms = [arm for arm in recipe.arms if not arms or arm in arms]
        self.path = Path(recipe.output) / recipe.name
        self.overwrite = overwrite
        self._gpu_overrides = gpu_overrides
        self._stages: list[Stage] = []

    @contextlib.contextmanager
    def open(self, parts: Sequence[str] | None = None, reads: Sequence[str] = ()) -> Iterator[RunFolder]:
        """Lock what is worked at, and record recipe and provenance of what is made.

        Only the main process does; the others continue at once. A command that ends in a `UserError` before it has made
        anything was refused: the folder is then as it was before, and there is none if there was none.

        Args:
            parts: the stages that are worked at, such as `train/ib`; None is the whole folder. Commands whose parts
                differ work side by side.
            reads: the stages that are read, which nobody may make meanwhile.

        Raises:
            UserError: the folder cannot be written, or another command is at work at one of the parts.
        """
        if not is_main_process():
            yield self
            return
        missing = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        with contextlib.ExitStack() as stack:
            locks: list[Lock] = []
            keeps_records, is_new = False, self.path in missing
            try:
                locks += [stack.enter_context(hold(self.path / ".lock", self.path, shared=parts is not None))]
                for part in dict.fromkeys([*(parts or ()), *reads]):
                    is_read = part not in (parts or ())
                    locks += [stack.enter_context(hold(self._lock_of(part), self.path / part, shared=is_read))]
                # Also where another command has just made the folder, and nothing in it yet.
                is_new = not (self.path / "recipe.yaml").exists()
                self._begin(is_new=is_new)
                keeps_records = True
                yield self
            except UserError:
                keeps_records = any(stage.has_left for stage in self._stages)
                raise
            finally:
                if keeps_records:
                    with self.writing():
                        self._write_records()
                elif locks:
                    self._take_back(missing, locks, is_new=is_new)

    def _begin(self, *, is_new: bool) -> None:
        """Record a new run, or refuse a decision on the `gpu:` section that differs from the recorded one."""
        # Two commands that begin a run together have both decided before there was a run.json: the first one here wins.
        # In a run that has begun nothing is written yet: no lock, whose file a refused command would leave.
        with self.writing() if is_new else contextlib.nullcontext():
            record = read_run_record(self.path)
            if record is not None and self._gpu_overrides not in (None, record.gpu_overrides):
                how = "with" if record.gpu_overrides else "without"
                raise UserError(
                    f"{self.path}: another ibft command has just begun this run {how} the recipe's `gpu:` section. "
                    "Run the same command again: it then does the same."
                )
            if is_new and record is None:
                self._write_records()

    def _lock_of(self, part: str) -> Path:
        return self.path / ".locks" / part.replace("/", ".")

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Write files that several commands share, the run's records and pages: one command at a time."""
        # Each holds it while `provenance` asks git and nvidia-smi, 10 s each at most.
        with hold(self._lock_of("records"), self.path, patience_s=60):
            yield

    def _write_records(self) -> None:
        # run.json first: a run that has a recipe.yaml counts as begun, and its decision is then to be read.
        if self._gpu_overrides is not None:
            write_atomically(self.path / "run.json", pretty_json(RunRecord(self._gpu_overrides)))
        write_atomically(self.path / "recipe.yaml", dump_recipe(self.recipe))
        write_atomically(self.path / "provenance.json", pretty_json(provenance(self.recipe.seed)))

    def _take_back(self, missing: Sequence[Path], locks: Sequence[Lock], *, is_new: bool) -> None:
        """Remove what `open` itself has made, except for what another command uses: locks, and the missing folders."""
        whole, *others = locks
        for lock in reversed(others):
            lock.take_back()
        with contextlib.suppress(OSError):
            (self.path / ".locks").rmdir()
        # Another command may have come and gone meanwhile: what it made keeps the folder.
        if whole.take_back() and is_new and {path.name for path in self.path.iterdir()} <= _OWN_FILES:
            shutil.rmtree(self.path, ignore_errors=True)
        for folder in missing[1:]:
            with contextlib.suppress(OSError):  # another command has made something in it
                folder.rmdir()

    def stage(self, name: str, inputs: Mapping[str, Any]) -> Stage:
        """Return the stage `name` (such as `train/ib`) made from `inputs`, which must be plain JSON-like values.

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
        # The unfinished work as well: it would be continued.
        for folder in () if self.overwrite else (path, work_path(path)):
            record = read_record(folder)
            if record is not None and (words := mismatch(folder, record, plain(inputs), is_part=is_part)):
                raise UserError(
                    f"{words}. Give the recipe another `name:`, {dtype_remedy(words)}or pass --overwrite to make this "
                    "stage again."
                )

    def asked(self) -> list[str]:
        """Return whose answers there are to judge: each arm, then what it was asked besides (`arm@format`,
        `arm@forgetting`) as far as that has been answered.
        """
        names: list[str] = []
        for arm in self.arms:
            others = [self.recipe.asked_name(arm, form) for form in self.recipe.formats_of(arm)]
            others += [arm + FORGETTING] if self.recipe.forgetting else []
            names += [arm, *(name for name in others if name != arm and read_record(self.path / "generate" / name))]
        return names

    def record(self, name: str) -> StageRecord:
        """Return the record of a completed stage.

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
        """Return the record of a completed stage, if it was made from `inputs`, which may be a part of all.

        Args:
            name: the stage.
            inputs: what it must have been made from.
            trusts_names: do not look at contents: what the names stand for is not used here, and may be missing.

        Raises:
            UserError: the stage has not been completed in this run folder, or was made from other inputs.
        """
        record = self.record(name)
        if words := mismatch(self.path / name, record, plain(inputs), is_part=True, trusts_names=trusts_names):
            verb = name.split("/")[0]
            raise UserError(
                f"{words}. Give the recipe that it was made from, {dtype_remedy(words)}or make it again with "
                f"`ibft {verb} RECIPE --overwrite`."
            )
        return record


def read_run_record(folder: Path) -> RunRecord | None:
    """Return what was decided when the run in `folder` was made; None where nothing was recorded."""
    try:
        return msgspec.json.decode((folder / "run.json").read_bytes(), type=RunRecord)
    except (OSError, msgspec.MsgspecError):
        return None
