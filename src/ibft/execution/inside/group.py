"""The control group of a sandbox's samples (`execution/cgroup.py`), by descriptors: the server sees no file of /sys."""

from __future__ import annotations

import contextlib
import os
import typing

__all__ = ["Group"]


class Group(typing.NamedTuple):
    """Descriptors of its files: where a process enters, the largest number of tasks, and the CPU time of all."""

    processes: list[int]
    max_tasks: int
    cpu_time: int
    num_tasks: int

    def enter(self) -> None:
        """Move this process into the group, in which all that it starts will be, too."""
        for descriptor in self.processes:
            os.write(descriptor, b"0")

    def cpu_time_s(self) -> float:
        """Return the CPU time of all that ever was in the group."""
        words = os.pread(self.cpu_time, 4096, 0).split()
        return int(words[1]) / 1e6 if words[0] == b"usage_usec" else int(words[0]) / 1e9  # version 2, version 1

    @contextlib.contextmanager
    def closed(self) -> typing.Iterator[None]:
        """Let nothing in the group start anything: what forks without end could not be killed one by one."""
        os.pwrite(self.max_tasks, b"0", 0)
        yield
        os.pwrite(self.max_tasks, str(self.num_tasks).encode(), 0)
