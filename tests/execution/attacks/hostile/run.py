"""Runs the hostile programs as whoever calls it and prints a line of JSON for each: `python -m hostile.run --level L`.

`command_as_nobody` says how to run it as the user nobody, who can read neither the project nor, often, the interpreter.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import site
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hostile
import ibft
from hostile.arena import Arena, Attack
from hostile.designs import DESIGNS, desk
from ibft.artifacts.rows import Problem

__all__ = ["command_as_nobody", "main", "rows"]

NOBODY = 65534


def rows(level: str, attacks: tuple[Attack, ...], verilog: dict[str, Any] | None = None) -> Iterator[dict[str, Any]]:
    """What became of each program: one row for each, Verilog's last.

    Args:
        level: of the sandbox.
        attacks: the Python programs.
        verilog: a `problem` and the `designs` (name to text) that attack it besides our own; none, if None.
    """
    with Arena(level) as arena:  # type: ignore[arg-type]
        for attack in attacks:
            report = arena.run(attack)
            yield {
                "name": str(attack),
                "verdict": report.status,
                "false_pass": report.is_false_pass,
                "wrong_verdict": report.is_wrong_status,
                "effects": report.effects,
                "left": report.left,
                "after": report.after,
                "seconds": report.seconds,
            }
    if verilog is None:
        return
    with desk(level, Problem(**verilog["problem"])) as seat:  # type: ignore[arg-type]
        for name, design in {**DESIGNS, **verilog["designs"]}.items():
            outcome, effects, left, after = seat.attack(design)
            yield {
                "name": f"verilog:_{name}".replace(" ", "_"),
                "verdict": outcome.status,
                "false_pass": outcome.status == "passed",
                "wrong_verdict": outcome.status == "infrastructure_error",
                "effects": effects,
                "left": left,
                "after": after,
                "seconds": outcome.wall_time_s,
            }


def command_as_nobody(folder: Path) -> tuple[list[str], dict[str, str]] | str:
    """How to run Python with all that `hostile` needs as nobody: a command and its environment, or why it cannot be.

    Args:
        folder: an empty folder that everybody may read, for copies.
    """
    if os.getuid() != 0:
        return "only root can become somebody else"
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        return "setpriv is missing"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    start = [setpriv, "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups", "--"]
    candidates = [os.path.realpath(sys.executable), shutil.which(version, path="/usr/local/bin:/usr/bin")]
    # That it starts says little: setpriv still may run what nobody may not even see.
    probe = "import ctypes, os, sys; open(os.path.realpath(sys.executable)).close()"
    for interpreter in filter(None, candidates):
        if subprocess.run([*start, interpreter, "-c", probe], check=False, capture_output=True).returncode == 0:
            break
    else:
        return f"no {version} that nobody can run"
    _copy(Path(ibft.__file__).parent, folder)
    _copy(Path(hostile.__file__).parent, folder)
    packages = [Path(path) for path in (sysconfig.get_path("purelib"), *site.getsitepackages())]
    for name in ("msgspec", "numpy", "numpy.libs"):
        found = next((path / name for path in packages if (path / name).is_dir()), None)
        if found is not None:
            _copy(found, folder)
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    return [*start, interpreter, "-s"], environment


def _copy(package: Path, folder: Path) -> None:
    shutil.copytree(package, folder / package.name, ignore=shutil.ignore_patterns("__pycache__", "tests"))
    for path in (folder / package.name, *(folder / package.name).rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def main() -> None:
    """Print the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--level", required=True)
    parser.add_argument("--families", nargs="*", help="only these")
    parser.add_argument("--verilog", help="JSON: a problem, and designs that attack it")
    options = parser.parse_args()
    attacks = tuple(attack for attack in hostile.ATTACKS if not options.families or attack.family in options.families)
    with open(os.dup(1), "w") as file, open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)  # what the programs' tests print is no row
        for row in rows(options.level, attacks, json.loads(options.verilog) if options.verilog else None):
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
