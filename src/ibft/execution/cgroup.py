"""A control group for one sandbox's samples: it bounds their processes, threads and memory, and counts their CPU time.

Version 2 needs a subtree that this user may write to and that has the controllers `pids` and `memory`, as systemd
delegates one and as containers have one; version 1 needs the hierarchies `pids`, `memory` and `cpuacct`. Whether it
works is tried, since files that exist may still refuse.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import time
from pathlib import Path
from typing import NamedTuple

from ibft.errors import UserError

__all__ = ["MAX_TASKS", "Cgroup", "require_cgroup"]

MAX_TASKS = 64
"""Processes and threads of one sample at the same time."""

_ENDING_S = 2.0
_ROOT = Path("/sys/fs/cgroup")
_numbers = itertools.count()


class _Files(NamedTuple):
    """The folders to make, and the files of one group."""

    folders: list[Path]
    processes: list[Path]
    max_tasks: Path
    max_memory: Path
    cpu_time: Path


class Cgroup:
    """A group that exists until it is closed. Its descriptors can be given to the server of a sandbox.

    Args:
        memory_mib: of all its processes together.

    Raises:
        OSError: this machine has none for us.
    """

    def __init__(self, memory_mib: int) -> None:
        self._stack = contextlib.ExitStack()
        with contextlib.ExitStack() as cleanup:
            files = _files(f"ibft-{os.getpid()}-{next(_numbers)}")
            for folder in files.folders:
                folder.mkdir()
                cleanup.callback(_remove, folder)
            files.max_tasks.write_text(str(MAX_TASKS))
            files.max_memory.write_text(str(memory_mib << 20))
            swap = files.max_memory.with_name("memory.swap.max")
            if swap.exists():
                swap.write_text("0")
            self.processes = [self._open(path, os.O_WRONLY, cleanup) for path in files.processes]
            self.max_tasks = self._open(files.max_tasks, os.O_WRONLY, cleanup)
            self.cpu_time = self._open(files.cpu_time, os.O_RDONLY, cleanup)
            self._stack = cleanup.pop_all()

    @property
    def descriptors(self) -> list[int]:
        """All that the server needs."""
        return [*self.processes, self.max_tasks, self.cpu_time]

    def close(self) -> None:
        """Remove the group, whose processes have ended."""
        self._stack.close()

    @staticmethod
    def _open(path: Path, flags: int, cleanup: contextlib.ExitStack) -> int:
        descriptor = os.open(path, flags | os.O_CLOEXEC)
        cleanup.callback(os.close, descriptor)
        return descriptor


def require_cgroup() -> None:
    """Refuse threads where nothing would bound them.

    Raises:
        UserError: says what is missing and what to do.
    """
    if not _works():
        raise UserError(
            "judge.threads: programs may start threads and processes only where a control group bounds them, and this "
            f"user can make none below {_ROOT}. Run as a service with `Delegate=pids memory` (systemd-run --user "
            "--scope -p Delegate=yes ibft judge ...), in a container whose cgroup is writable, or without "
            "judge.threads."
        )


@functools.cache
def _works() -> bool:
    try:
        Cgroup(64).close()
    except OSError:
        return False
    return True


def _files(name: str) -> _Files:
    # A line for each hierarchy: number, controllers, path. Version 2 has the number 0 and no controllers.
    lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    paths = {controller: path.lstrip("/") for _, controllers, path in lines for controller in controllers.split(",")}
    if {"pids", "memory", "cpuacct"} <= paths.keys():
        pids, memory, cpu = (_ROOT / kind / paths[kind] / name for kind in ("pids", "memory", "cpuacct"))
        processes = [folder / "cgroup.procs" for folder in (pids, memory, cpu)]
        return _Files(
            [pids, memory, cpu], processes, pids / "pids.max", memory / "memory.limit_in_bytes", cpu / "cpuacct.usage"
        )
    folder = _subtree(_ROOT / paths.get("", "")) / name
    return _Files([folder], [folder / "cgroup.procs"], folder / "pids.max", folder / "memory.max", folder / "cpu.stat")


def _subtree(folder: Path) -> Path:
    """Return the nearest group above, or this one, in which groups with both controllers can be made.

    Raises:
        OSError: there is none.
    """
    # A group that has processes hands no controllers on: a group for samples is made beside it, not in it.
    for place in (folder, *folder.parents):
        if place == _ROOT.parent:
            break
        with contextlib.suppress(OSError):
            (place / "cgroup.subtree_control").write_text("+pids +memory")
            return place
    raise PermissionError(f"{folder}: no group can be made")


def _remove(folder: Path) -> None:
    deadline = time.monotonic() + _ENDING_S
    while folder.exists() and time.monotonic() < deadline:
        with contextlib.suppress(OSError):  # a process in it may still be ending
            folder.rmdir()
            return
        time.sleep(0.01)
