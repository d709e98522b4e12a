"""Kills `ibft scan` again and again, until an attempt comes to its end, and compares what it left.

Not a test itself: tests/scoring/test_kill.py starts it as a program of its own. It loads the libraries once and
forks a process for each attempt.

    python killing.py RECIPE FOLDER NUM          NUM scans, each killed at random times
    python killing.py RECIPE FOLDER points       one killed at every point where it touches the disk

Prints one JSON object a scan: how often it was killed, and the files that differ from those of an undisturbed one.
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ibft.cli import main
from ibft.scoring import blocks

# Loaded once, for all that are forked.
for name in (
    "datasets",
    "ibft.stages.scan",
    "ibft.scoring.engine",
    "ibft.pages.audit",
    "matplotlib.backends.backend_svg",
    "matplotlib.figure",
    "pyarrow.parquet",
    "sklearn.feature_extraction.text",
    "sklearn.linear_model",
    "sklearn.model_selection",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.llama.modeling_llama",
):
    importlib.import_module(name)

WRITING = os.O_WRONLY | os.O_RDWR | os.O_APPEND | os.O_CREAT
blocks.BLOCK = 6


def attempt(recipe: str, output: Path, prepare: Callable[[], None] = lambda: None) -> int:
    """Start the command in a process of its own; its id."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            prepare()
            sys.stdout = sys.stderr = open(os.devnull, "w")
            main(["scan", recipe, "--set", f"output={output}"], standalone_mode=False)
            code = 0
        finally:
            os._exit(code)
    return child


def finished(child: int) -> bool:
    """Whether it came to its end; False where it was killed."""
    status = os.waitpid(child, 0)[1]
    assert status == 0 or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL), status
    return status == 0


def result(output: Path) -> dict[str, Any]:
    [folder] = output.glob("*/scan")
    files: dict[str, Any] = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*")}
    return files | {"stage.json": json.loads(files["stage.json"])["identity"]}


def tell(killed: Any, output: Path, expected: dict[str, Any]) -> None:
    found = result(output)
    differs = [name for name in {**found, **expected} if found.get(name) != expected.get(name)]
    sys.stdout.write(json.dumps({"killed": killed, "differs": differs}) + "\n")
    sys.stdout.flush()


def kill_at_random(recipe: str, output: Path, longest_s: float, chance: random.Random) -> int:
    """Attempts until one is faster than its killer, who gets slower each time; how many were killed.

    Where already the first is faster, since the machine is busier or idler than when `longest_s` was measured, all
    begins anew with half the patience.
    """
    for killed in itertools.count():
        child = attempt(recipe, output)
        time.sleep(longest_s * chance.uniform(0.3, 1) * (1 + killed / 5))
        os.kill(child, signal.SIGKILL)  # it has not been waited for, so the id is its own also if it has ended
        if finished(child):
            break
    if killed:
        return killed
    shutil.rmtree(output)
    return kill_at_random(recipe, output, longest_s / 2, chance)


def kill_at(recipe: str, output: Path, number: int) -> str | None:
    """Kill at the n-th point, then once more run to the end; the point's name, None if there are fewer."""
    note, count = output.with_suffix(".note"), itertools.count(1)

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir"):
            return
        path = arguments[0]
        if not isinstance(path, (str, os.PathLike)) or (event == "open" and not arguments[2] & WRITING):
            return
        is_in_deleted_folder = event == "os.remove" and not os.path.isabs(os.fspath(path))
        if (is_in_deleted_folder or os.fspath(path).startswith(str(output))) and next(count) == number:
            note.write_text(f"{event} {os.fspath(path).removeprefix(str(output))}")
            os.kill(os.getpid(), signal.SIGKILL)

    if finished(attempt(recipe, output, lambda: sys.addaudithook(audit))):
        return None
    assert finished(attempt(recipe, output)), note.read_text()
    return note.read_text()


def run(recipe: str, folder: Path, what: str) -> None:
    for whole in (folder / "first", folder / "whole"):  # the first takes longer than those that follow
        began = time.monotonic()
        assert finished(attempt(recipe, whole))
    took_s = time.monotonic() - began
    expected = result(folder / "whole")
    assert result(folder / "first") == expected
    if what != "points":
        for number in range(int(what)):
            output = folder / f"random-{number}"
            tell(kill_at_random(recipe, output, took_s, random.Random(number)), output, expected)
        return
    for number in itertools.count(1):
        output = folder / f"point-{number}"
        point = kill_at(recipe, output, number)
        if point is None:
            return
        tell(point, output, expected)


if __name__ == "__main__":
    run(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
