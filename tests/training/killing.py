"""Kills `ibft train` at every point where it touches the disk, runs it again each time, and compares the results.

Not a test itself: tests/training/test_kill.py starts it as a program of its own. It loads the libraries once and
forks a process for each attempt, which a fresh start of the interpreter would make ten times as slow.

    python killing.py RECIPE FOLDER             kill at every point, one after the other
    python killing.py RECIPE FOLDER POINT...    kill at these, named as the first form prints them

Prints one JSON object a point: where it was killed, and whether the second attempt ended as the undisturbed run.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import peft.peft_model
import torch

import ibft.training.fit as fit
from ibft.cli import main

WRITING = os.O_WRONLY | os.O_RDWR | os.O_APPEND | os.O_CREAT


class Killer:
    """Ends the process with SIGKILL at the n-th point, or the first of a name, which it leaves for the parent."""

    def __init__(self, folder: Path, at: int | str, note: Path) -> None:
        self._folder, self._at, self._note = str(folder), at, note
        self._count = 0

    def point(self, what: str) -> None:
        self._count += 1
        if self._at in (self._count, what):
            self._at = ""  # writing the note is no point
            self._note.write_text(what)
            os.kill(os.getpid(), signal.SIGKILL)

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in ("open", "os.rename", "os.remove", "os.rmdir") or not isinstance(
            arguments[0], (str, os.PathLike)
        ):
            return
        if event == "open" and not arguments[2] & WRITING:
            return
        path = os.fspath(arguments[0])
        # Deleting a folder names its files relative to it.
        is_in_deleted_folder = event == "os.remove" and not os.path.isabs(path)
        if is_in_deleted_folder or path.startswith(self._folder):
            self.point(f"{event} {path.removeprefix(self._folder)}")

    def install(self) -> None:
        sys.addaudithook(self.audit)
        save, save_safely, step_end = torch.save, peft.peft_model.safe_save_file, fit.ProgressBar.on_step_end

        def save_half(value: Any, file: Any, *arguments: Any, **keywords: Any) -> None:
            """A kill in the middle of a file."""
            if isinstance(file, (str, os.PathLike)):
                whole = io.BytesIO()
                save(value, whole)
                Path(file).write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
                self.point(f"half of {Path(file).name}")
            save(value, file, *arguments, **keywords)

        def save_half_safely(tensors: Any, file: Any, *arguments: Any, **keywords: Any) -> None:
            save_safely(tensors, file, *arguments, **keywords)
            os.truncate(file, os.path.getsize(file) // 2)
            self.point(f"half of {Path(file).name}")
            save_safely(tensors, file, *arguments, **keywords)

        def after_step(callback: Any, args: Any, state: Any, control: Any, **keywords: Any) -> None:
            self.point(f"after step {state.global_step}")
            step_end(callback, args, state, control, **keywords)

        torch.save, peft.peft_model.safe_save_file = save_half, save_half_safely
        fit.ProgressBar.on_step_end = after_step  # type: ignore[method-assign]


def attempt(recipe: str, output: Path, killer: Killer | None = None) -> int:
    """Run the command in a process of its own; its wait status."""
    child = os.fork()
    if child == 0:
        if killer is not None:
            killer.install()
        code = 1
        try:
            main(["train", recipe, "--set", f"output={output}"], standalone_mode=False)
            code = 0
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1]


def result(arm: Path) -> dict[str, Any]:
    """What the arm's folder holds, but for times, memory and folder names."""
    files: dict[str, Any] = {str(path.relative_to(arm)): path.read_bytes() for path in arm.rglob("*") if path.is_file()}
    summary = json.loads(files.pop("summary.json"))
    files["summary.json"] = {key: summary[key] for key in summary if key not in ("seconds", "peak_memory_mib")}
    files["stage.json"] = json.loads(files["stage.json"])["identity"]
    return files


def kill_at(recipe: str, folder: Path, points: list[str]) -> None:
    whole = folder / "whole"
    assert attempt(recipe, whole) == 0
    (arm,) = whole.glob("*/train/*")
    expected = result(arm)
    for number, at in enumerate(points or itertools.count(1)):
        output, note = folder / f"killed-{number}", folder / "note"
        again = output / arm.relative_to(whole)
        status = attempt(recipe, output, Killer(again.parent, at, note))
        if status == 0 and not points:
            return
        assert os.WIFSIGNALED(status), f"{at}: no such point ({status})"
        assert os.WTERMSIG(status) == signal.SIGKILL, status
        assert attempt(recipe, output) == 0, note.read_text()
        found = result(again)
        differs = [name for name in {**found, **expected} if found.get(name) != expected.get(name)]
        sys.stdout.write(json.dumps({"point": note.read_text(), "differs": differs}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    kill_at(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
