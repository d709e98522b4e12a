"""Hostile programs against the judge: what each achieved at both levels, as root and as nobody.

    python benchmarks/hostile.py [--verbose] [--through ray|service]

The Python programs are those of tests/execution/attacks/hostile, the Verilog ones those of its designs.py and of
tests/execution/test_verilog.py. A row is shown for each program that achieved anything, or, with --verbose, for each;
then totals. The exit code is 1 if any total is not 0, or if a place could not be tried.

With --through, the Python programs go through a Ray cluster of one node, or through the service, at the strongest
level; processes left are not looked for.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/execution/attacks"))
from hostile.run import command_as_nobody  # noqa: E402

from hostile import ATTACKS, through  # noqa: E402
from ibft.execution.isolation import detect_level  # noqa: E402

TOTALS = {
    "false_pass": "false passes",
    "wrong_verdict": "wrong verdicts",
    "effects": "effects on the host",
    "left": "processes left",
    "after": "wrong verdicts after",
}
Row = dict[str, Any]


def verilog_cheats() -> str:
    spec = importlib.util.spec_from_file_location("test_verilog", ROOT / "tests/execution/test_verilog.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    designs = {name: design for name, (design, _) in module.CHEATS.items()}
    return json.dumps({"problem": msgspec.to_builtins(module.PROBLEM), "designs": designs})


def places(folder: Path) -> dict[str, tuple[list[str], dict[str, str]] | str]:
    """How to run the programs, by who runs them and at which level; or why they cannot be run there."""
    here = [sys.executable], {**os.environ, "PYTHONPATH": str(ROOT / "tests/execution/attacks")}
    nobody = command_as_nobody(folder)
    me = "root" if os.getuid() == 0 else "user"
    found: dict[str, tuple[list[str], dict[str, str]] | str] = {}
    for level in ("bubblewrap", "landlock"):
        is_missing = level == "bubblewrap" and detect_level() != "bubblewrap"
        reason = "no bubblewrap, or no user namespaces, here" if is_missing else ""
        for who, command in ((me, here), ("nobody", nobody)):
            if not (who == "nobody" and me == "user"):  # then what ran as the user is what matters
                found[f"{level}, {who}"] = reason or command
    return found


def run(command: list[str], environment: dict[str, str], level: str, verilog: str) -> list[Row]:
    arguments = [*command, "-m", "hostile.run", "--level", level, "--verilog", verilog]
    done = subprocess.run(arguments, env=environment, cwd="/", capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"the programs could not be run: {done.stderr}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--verbose", action="store_true", help="show the programs that achieved nothing, too")
    parser.add_argument("--through", choices=["ray", "service"], help="judge by another machine's pool")
    options = parser.parse_args()
    console = Console(width=200)
    results: dict[str, dict[str, Row]] = {}
    reasons: dict[str, str] = {}
    if options.through:
        open_pool = {"ray": through.ray_pool, "service": through.service_pool}[options.through]
        with open_pool(detect_level()) as pool:
            results[f"{detect_level()}, {options.through}"] = {row["name"]: row for row in through.rows(pool, ATTACKS)}
    else:
        run_everywhere(console, results, reasons)
    show_programs(console, results, options.verbose)
    is_clean = show_totals(console, results)
    for place, reason in reasons.items():
        console.print(f"{place}: not tried: {reason}")
    raise SystemExit(0 if is_clean and not reasons else 1)


def run_everywhere(console: Console, results: dict[str, dict[str, Row]], reasons: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        for place, command in places(Path(folder)).items():
            if isinstance(command, str):
                reasons[place] = command
                continue
            start = time.monotonic()
            rows = run(*command, place.partition(",")[0], verilog_cheats())
            results[place] = {row["name"]: row for row in rows}
            console.print(f"{place}: {len(rows)} programs in {time.monotonic() - start:.0f} s")


def show_programs(console: Console, results: dict[str, dict[str, Row]], is_verbose: bool) -> None:
    table = Table("program", *results)
    for name in dict.fromkeys(name for rows in results.values() for name in rows):
        cells = [describe(rows.get(name)) for rows in results.values()]
        if is_verbose or any(": " in cell for cell in cells):
            table.add_row(name.replace("_", " "), *cells)
    if table.row_count:
        console.print(table)


def describe(row: Row | None) -> str:
    if row is None:
        return "-"
    findings = [f"{words}: {row[key]}" for key, words in TOTALS.items() if row[key]]
    return "\n".join([row["verdict"], *findings])


def show_totals(console: Console, results: dict[str, dict[str, Row]]) -> bool:
    table = Table("", *results)
    table.add_row("programs", *[str(len(rows)) for rows in results.values()])
    counts = {key: [sum(bool(row[key]) for row in rows.values()) for rows in results.values()] for key in TOTALS}
    for key, words in TOTALS.items():
        table.add_row(words, *map(str, counts[key]))
    console.print(table)
    return not any(map(sum, counts.values()))


if __name__ == "__main__":
    main()
