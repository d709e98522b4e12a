"""Runs attacks under what an older kernel's Landlock would govern: `python old_kernel.py ABI FOLDER < sources.json`.

Prints, as JSON, how each ended. Everything but the Landlock version is as in a sample's process.
"""

from __future__ import annotations

import json
import os
import sys

from ibft.execution.inside import lockdown
from ibft.execution.isolation import readable_paths

__all__ = ["main"]


def main(abi: int, folder: str) -> None:
    """Confine a process of its own for each program on standard input, and run it there."""
    sources = json.load(sys.stdin)
    lockdown.landlock_abi = lambda: abi
    print(json.dumps([_end_of(source, f"{folder}/{number}") for number, source in enumerate(sources)]))  # noqa: T201


def _end_of(source: str, folder: str) -> str:
    os.mkdir(folder)
    answers, theirs = os.pipe()
    if os.fork() == 0:
        end = "ran to its end"
        try:
            os.chdir(folder)
            lockdown.drop_privileges()
            lockdown.confine(lockdown.build_ruleset(readable_paths(), [folder, "/dev/null"]))
            lockdown.build_filter().apply()
            exec(source, {"__name__": "__main__"})
        except BaseException as error:
            end = f"{type(error).__name__}: {error}"
        os.write(theirs, end.encode()[:1000])
        os._exit(0)
    os.close(theirs)
    os.wait()
    with open(answers) as file:
        return file.read()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
