"""Verdicts that are already known, kept on disk, so that no sample is run twice.

The cache is an aid and never a condition: where it cannot be opened, read or written, judging goes on without it,
and one warning says so. Only what would come out the same again is kept: never a timeout, which depends on the
machine, never a lack of memory, never a failure of the sandbox.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from ibft.run.digests import cache_folder

if TYPE_CHECKING:
    import sqlite3

__all__ = ["VerdictCache", "default_cache_path", "verdict_key"]

_log = logging.getLogger(__name__)

_NEVER_KEPT = {"timeout_cpu", "timeout_wall", "memory", "infrastructure_error", "excluded"}
_MAX_VALUE_BYTES = 16_384
_MAX_KEYS_A_QUERY = 500
_LOCK_TIMEOUT_S = 10.0
_SCHEMA = """CREATE TABLE IF NOT EXISTS verdicts (
    number INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, value BLOB NOT NULL
)"""


class _Kept(msgspec.Struct):
    """What the cache itself looks at in a value."""

    status: str


def default_cache_path() -> Path | None:
    """The cache file among the other things that ibft keeps; None for a user without a home folder."""
    try:
        return cache_folder() / "verdicts.sqlite3"
    except RuntimeError:
        return None


def verdict_key(**parts: Any) -> str:
    """The SHA-256, in hexadecimal, of everything that a verdict depends on, each part under its name.

    Parts are what JSON has, structs or dataclasses; text may hold lone surrogates. Their order does not matter.
    """
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=msgspec.to_builtins)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


class VerdictCache:
    """A table from `verdict_key` to a verdict as JSON (with a `status`), in one SQLite file for all processes.

    Args:
        path: the file, made if missing; None keeps nothing.
        max_rows: how many of the verdicts added last are kept.
    """

    def __init__(self, path: str | os.PathLike[str] | None, *, max_rows: int = 500_000) -> None:
        self.path = None if path is None else Path(path)
        self._max_rows = max_rows
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._was_repaired = False
        if self.path is not None:
            with self._lock, self._tolerating_failure():
                self._open(self.path)

    @property
    def is_open(self) -> bool:
        """Whether anything is looked up and kept at all."""
        return self._connection is not None

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """The verdicts that are known, by key."""
        found: dict[str, bytes] = {}
        for start in range(0, len(keys), _MAX_KEYS_A_QUERY):
            blobs = [bytes.fromhex(key) for key in keys[start : start + _MAX_KEYS_A_QUERY]]
            query = f"SELECT key, value FROM verdicts WHERE key IN ({','.join('?' * len(blobs))})"
            with self._lock, self._tolerating_failure():
                if self._connection is None:
                    break
                for key, value in self._connection.execute(query, blobs):
                    if (verdict := _unsealed(key, value)) is not None:
                        found[key.hex()] = verdict
        return found

    def put_many(self, items: Mapping[str, bytes]) -> None:
        """Keep the verdicts, but for those that might come out otherwise another time.

        Raises:
            ValueError: a value is not a JSON object with a `status`.
        """
        rows = [(blob := bytes.fromhex(key), _sealed(blob, value)) for key, value in items.items() if _is_kept(value)]
        with self._lock, self._tolerating_failure():
            if self._connection is None or not rows:
                return
            with self._connection as transaction:
                transaction.executemany("INSERT OR REPLACE INTO verdicts (key, value) VALUES (?, ?)", rows)
                transaction.execute(
                    "DELETE FROM verdicts WHERE number <= (SELECT max(number) FROM verdicts) - ?", (self._max_rows,)
                )

    def close(self) -> None:
        """Close the file; nothing is looked up or kept after that."""
        with self._lock, self._tolerating_failure():
            self._disconnect()

    def __enter__(self) -> VerdictCache:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self, path: Path) -> None:
        import sqlite3

        path.parent.mkdir(parents=True, exist_ok=True)
        # One lock guards the connection here, so that it may be used from any thread.
        self._connection = sqlite3.connect(path, timeout=_LOCK_TIMEOUT_S, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")  # a power cut may lose the last verdicts, no others
        with self._connection:
            self._connection.execute(_SCHEMA)

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    @contextlib.contextmanager
    def _tolerating_failure(self) -> Iterator[None]:
        """Whatever goes wrong with the file inside: start a new one if it is damaged, else go on without."""
        try:
            yield
        except (OSError, ImportError) as error:
            self._give_up(error)
        except Exception as error:
            import sqlite3

            if not isinstance(error, sqlite3.Error):
                raise
            if isinstance(error, sqlite3.OperationalError) or type(error) is not sqlite3.DatabaseError:
                self._give_up(error)
            else:
                self._repair(error)

    def _give_up(self, error: Exception) -> None:
        _log.warning("%s: judging goes on without the cache of verdicts (%s).", self.path, error)
        with contextlib.suppress(Exception):
            self._disconnect()
        self._connection = None

    def _repair(self, error: Exception) -> None:
        """Start anew after damage, once; a second time something else is wrong."""
        import sqlite3

        assert self.path is not None
        if self._was_repaired:
            return self._give_up(error)
        self._was_repaired = True
        try:
            with contextlib.suppress(sqlite3.Error):
                self._disconnect()
            if not _is_sound(self.path):  # else another process has replaced it already
                for suffix in ("", "-wal", "-shm"):
                    with contextlib.suppress(FileNotFoundError):
                        os.replace(f"{self.path}{suffix}", f"{self.path}.damaged{suffix}")
                _log.warning("%s: damaged (%s), moved aside; the cache of verdicts starts anew.", self.path, error)
            self._open(self.path)
        except (OSError, sqlite3.Error) as second:
            self._give_up(second)


def _is_sound(path: Path) -> bool:
    import sqlite3

    try:
        with contextlib.closing(sqlite3.connect(path, timeout=_LOCK_TIMEOUT_S)) as connection:
            return bool(connection.execute("PRAGMA quick_check(1)").fetchone() == ("ok",))
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError:
        return False


def _is_kept(value: bytes) -> bool:
    try:
        status = msgspec.json.decode(value, type=_Kept).status
    except msgspec.MsgspecError as error:
        raise ValueError(f"a verdict must be a JSON object with a status ({error})") from None
    return status not in _NEVER_KEPT and len(value) <= _MAX_VALUE_BYTES


# SQLite does not notice a changed byte within a value: each value carries a checksum of itself and its key.
def _sealed(key: bytes, value: bytes) -> bytes:
    return zlib.crc32(key + value).to_bytes(_CHECKSUM_BYTES, _BYTE_ORDER) + value


def _unsealed(key: bytes, sealed: bytes) -> bytes | None:
    checksum, value = sealed[:_CHECKSUM_BYTES], sealed[_CHECKSUM_BYTES:]
    return value if zlib.crc32(key + value).to_bytes(_CHECKSUM_BYTES, _BYTE_ORDER) == checksum else None


_CHECKSUM_BYTES = 4
_BYTE_ORDER: Literal["big"] = "big"
