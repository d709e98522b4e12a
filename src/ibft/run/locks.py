"""Locks on the parts of a run folder: a hidden file each, held by `flock` while a command works.

A file for each part, not ranges of one file: on NFS `flock` locks a whole file, and a POSIX range lock is lost as soon
as any descriptor of its file is closed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ibft.errors import UserError

__all__ = ["Lock", "hold"]

# A command that is refused holds what it got for a moment, for which nobody else must be refused.
_PATIENCE_S = 1.0


class Lock:
    """A lock that is held, on a file that is new or was there before.

    Args:
        path: the file's.
        file: the open file.
        changed_ns: when the folder was changed last before the file was made in it; None if it was there.
    """

    def __init__(self, path: Path, file: IO[str], changed_ns: tuple[int, int] | None) -> None:
        self._path, self._file, self._changed_ns = path, file, changed_ns

    def take_back(self) -> bool:
        """Remove the file if it is new and nobody else holds it, without a trace; return whether nobody does."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        if self._changed_ns is not None:
            # The folder's time goes back, too: a command that was refused changes nothing.
            self._path.unlink(missing_ok=True)
            os.utime(self._path.parent, ns=self._changed_ns)
        return True


@contextlib.contextmanager
def hold(path: Path, what: Path, *, shared: bool = False, patience_s: float = _PATIENCE_S) -> Iterator[Lock]:
    """Hold the lock `path`, which is made where it is missing, with its folder.

    Args:
        path: the lock's file.
        what: what it locks, for the error.
        shared: others may hold it at the same time, if shared, too.
        patience_s: how long to wait for another command.

    Raises:
        UserError: another command holds it, the file cannot be made, or its file system has no locks.
    """
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    deadline = time.monotonic() + patience_s
    while True:
        file, changed_ns = _open(path)
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
            if _is_still(path, file):
                break
            file.close()  # a command that was refused removed it before we had the lock
        except OSError as error:
            file.close()
            # A POSIX lock, which `flock` is on NFS, may give either.
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise UserError(
                    f"{path}: cannot be locked ({error.strerror}). Set `output:` to a folder on a disk that has locks."
                ) from None
            if time.monotonic() > deadline:
                raise UserError(
                    f"{what}: another ibft command is at work in this folder. Wait for it to end, or choose other arms."
                ) from None
            time.sleep(0.02)
    with file:
        yield Lock(path, file, changed_ns)


def _open(path: Path) -> tuple[IO[str], tuple[int, int] | None]:
    error: OSError | None = None
    for _ in range(5):  # a command that is refused may take the folder away in between
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            folder, is_new = path.parent.stat(), not path.exists()
            # For writing, which an exclusive lock on NFS needs; not truncated: that would be a change.
            file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666))
            return file, (folder.st_atime_ns, folder.st_mtime_ns) if is_new else None
        except OSError as caught:
            error = caught
            if not isinstance(error, FileNotFoundError):
                break
    assert error is not None
    raise UserError(f"{path.parent}: cannot be created ({error.strerror}). Set `output:` to a folder of yours.")


def _is_still(path: Path, file: IO[str]) -> bool:
    # Under the same name there may be another command's new file.
    with contextlib.suppress(OSError):
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    return False
