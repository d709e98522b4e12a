"""Emptying a folder that hostile code has filled: locked folders, folders thousands deep, odd names."""

from __future__ import annotations

import contextlib
import os
import stat

__all__ = ["empty"]


def empty(folder: str) -> None:
    """Remove all that is in a folder, without recursion and without ever following a link.

    What stands inside a folder is moved up to the top before that folder is removed, so no path is ever deeper
    than one step.

    Raises:
        OSError: something cannot be removed.
    """
    top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        prefix, number = f".{os.urandom(8).hex()}-", 0
        while names := os.listdir(top):
            for name in names:
                if not _is_folder(name, top):
                    os.unlink(name, dir_fd=top)
                    continue
                os.chmod(name, 0o700, dir_fd=top)
                inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=top)
                try:
                    for child in os.listdir(inner):
                        if _is_folder(child, inner):
                            os.chmod(child, 0o700, dir_fd=inner)  # moving a folder writes to it
                        os.rename(child, f"{prefix}{number}", src_dir_fd=inner, dst_dir_fd=top)
                        number += 1
                finally:
                    os.close(inner)
                os.rmdir(name, dir_fd=top)
    finally:
        with contextlib.suppress(OSError):
            os.close(top)


def _is_folder(name: str, descriptor: int) -> bool:
    return stat.S_ISDIR(os.lstat(name, dir_fd=descriptor).st_mode)
