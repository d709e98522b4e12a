"""Content digests: what a file or a folder holds, wherever it lies and whatever it is called.

A large file is read once. Its digest is kept in the cache folder (`digests/`) and holds as long as path, size, inode
and both times of the file are the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from ibft import progress
from ibft.artifacts.json_lines import error_reason, write_atomically
from ibft.errors import UserError

__all__ = ["cache_folder", "file_digest", "folder_digest"]

_LARGE_BYTES = 16 * 2**20  # below, reading takes a few milliseconds
_SETTLED_NS = 2 * 10**9  # the longest step of a file system's clock (FAT: 2 s)


class _Kept(msgspec.Struct, frozen=True):
    """A digest in the cache, and the state of the file that it was taken of."""

    state: tuple[int, ...]
    digest: str


def file_digest(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 (hex) of a file's content.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        before = os.stat(path)
        if before.st_size < _LARGE_BYTES:
            return _read(path)
        kept = _kept_at(path)
        state = _state(before)
        if kept is not None and (known := _known(kept)) is not None and known.state == state:
            return known.digest
        with progress.task(f"Reading {Path(path).name}", total=None):
            digest = _read(path)
        # As in git's index: a change within the same step of the clock would leave size and times as they are.
        is_settled = time.time_ns() - max(before.st_mtime_ns, before.st_ctime_ns) > _SETTLED_NS
        if kept is not None and is_settled and _state(os.stat(path)) == state:  # not changed while it was read
            with contextlib.suppress(OSError, UserError):  # without a cache it is read again next time
                kept.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(kept, msgspec.json.encode(_Kept(state, digest)))
        return digest
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error_reason(error)}).") from None


def folder_digest(folder: Path, is_read: Callable[[Path], bool] = lambda path: True) -> str:
    """Return a hash of the names and contents of a folder's files, at any depth; links count as what they point to.

    Args:
        folder: any folder; hidden files and folders (`.git`, `.cache`) do not count.
        is_read: decides by its path whether a file counts.

    Raises:
        UserError: a file cannot be read.
    """
    digest = hashlib.sha256()
    for path in _files(folder, frozenset()):
        if is_read(path):
            # Names on Linux are bytes, which need not be UTF-8.
            digest.update(
                f"{path.relative_to(folder).as_posix()}\0{file_digest(path)}\n".encode(errors="surrogateescape")
            )
    return digest.hexdigest()


def _files(folder: Path, above: frozenset[Path]) -> Iterator[Path]:
    """Yield the files in the order of their names; `above` has the folders around."""
    try:
        above |= {folder.resolve()}
        for path in sorted(folder.iterdir()):
            if path.name.startswith("."):
                continue
            if path.is_dir():
                if path.resolve() not in above:  # a link back to one of these would never end
                    yield from _files(path, above)
            elif path.is_file():
                yield path
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error_reason(error)}).") from None


def _read(path: str | os.PathLike[str]) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _state(status: os.stat_result) -> tuple[int, ...]:
    # Both times: an edit can put size and modification time back as they were, the time of change it cannot.
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _kept_at(path: str | os.PathLike[str]) -> Path | None:
    """Return where the digest of a file is kept; None without a cache folder."""
    try:
        folder = cache_folder() / "digests"
    except RuntimeError:
        return None
    return folder / f"{hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()[:32]}.json"


def _known(kept: Path) -> _Kept | None:
    try:
        return msgspec.json.decode(kept.read_bytes(), type=_Kept)
    except (OSError, msgspec.MsgspecError):
        return None


def cache_folder() -> Path:
    """Return where things are kept between runs: `$IBFT_CACHE`, else `ibft` under `$XDG_CACHE_HOME` or `~/.cache`.

    Raises:
        RuntimeError: none of these is set, and the user has no home folder.
    """
    if folder := os.environ.get("IBFT_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ibft"
