"""Emptying a folder that hostile code has filled: locked folders, folders thousands deep, odd names."""

from __future__ import annotations

import contextlib
import os
import stat

__all__ = ["empty"]


def empty(folder: str) -> None:
    """Remove all that is in a folder, without recursion and without following a link.

    Raises:
        OSError: something cannot be removed.
    """
    top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        # Random, so that no name that a candidate has chosen is in the way.
        prefix, number = f".{os.urandom(8).hex()}-", 0
        while names := os.listdir(top):
            for name in names:
                if not _is_folder(name, top):
                    os.unlink(name, dir_fd=top)
                    continue
                os.chmod(name, 0o700, dir_fd=top)  # it may have been made without any rights
                inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=top)
                try:
                    # Up to the top instead of down into it: 1,500 folders in one another exceed any limit on a path,
                    # and on recursion.
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
