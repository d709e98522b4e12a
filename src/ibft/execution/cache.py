"""Verdicts that are already known, kept on disk, so that no sample is run twice.

The cache helps and is never needed: where it cannot be opened, read or written, or is damaged, judging continues
without it, and one warning says so.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import sqlite3
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from ibft.execution.outcome import Outcome, Reference
from ibft.run.digests import cache_folder

__all__ = ["VerdictCache", "default_cache_path", "verdict_key"]

_log = logging.getLogger(__name__)

Verdict = TypeVar("Verdict", Outcome, Reference)

# What might come out otherwise another time: time and memory depend on the machine and on what else runs there.
_NEVER_KEPT = {"timeout_cpu", "timeout_wall", "memory", "infrastructure_error", "excluded"}
_MAX_VALUE_BYTES = 16_384
_MAX_ROWS = 500_000  # those added last
_MAX_KEYS_PER_QUERY = 500  # SQLite's own limit on variables was 999 before version 3.32
_LOCK_TIMEOUT_S = 10.0
_CHECKSUM_BYTES = 4
_SCHEMA = """CREATE TABLE IF NOT EXISTS verdicts (
    number INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, value BLOB NOT NULL
)"""


def default_cache_path() -> Path | None:
    """Return the cache file among the other things that ibft keeps; None for a user without a home folder."""
    try:
        return cache_folder() / "verdicts.sqlite3"
    except RuntimeError:
        return None


def verdict_key(**parts: Any) -> str:
    """Return the SHA-256, in hexadecimal, of everything that a verdict depends on, each part under its name.

    Parts are what JSON has, structs or dataclasses; text may hold lone surrogates. Their order does not matter.
    """
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=msgspec.to_builtins)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


class VerdictCache:
    """A table from `verdict_key` to a verdict as JSON, in one SQLite file for all processes.

    Args:
        path: the file, made if missing; None keeps nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        if path is not None:
            with self._tolerating_failure():
                self._open(path)

    def get_many(self, keys: Sequence[str], kind: type[Verdict]) -> dict[str, Verdict]:
        """Return the verdicts that are known, by key."""
        known: dict[str, Verdict] = {}
        for start in range(0, len(keys), _MAX_KEYS_PER_QUERY):
            blobs = [bytes.fromhex(key) for key in keys[start : start + _MAX_KEYS_PER_QUERY]]
            query = f"SELECT key, value FROM verdicts WHERE key IN ({','.join('?' * len(blobs))})"
            with self._lock, self._tolerating_failure():
                if self._connection is None:
                    break
                for key, sealed in self._connection.execute(query, blobs):
                    if sealed == _sealed(key, value := sealed[_CHECKSUM_BYTES:]):
                        known[key.hex()] = msgspec.json.decode(value, type=kind)
        return known

    def put_many(self, verdicts: Mapping[str, Outcome | Reference]) -> None:
        """Keep the verdicts, except those that might come out otherwise another time."""
        rows = []
        for key, verdict in verdicts.items():
            value = msgspec.json.encode(verdict)
            if verdict.status not in _NEVER_KEPT and len(value) <= _MAX_VALUE_BYTES:
                rows.append((blob := bytes.fromhex(key), _sealed(blob, value)))
        with self._lock, self._tolerating_failure():
            if self._connection is None or not rows:
                return
            with self._connection as transaction:
                transaction.executemany("INSERT OR REPLACE INTO verdicts (key, value) VALUES (?, ?)", rows)
                transaction.execute(
                    "DELETE FROM verdicts WHERE number <= (SELECT max(number) FROM verdicts) - ?", (_MAX_ROWS,)
                )

    def close(self) -> None:
        """Close the file; nothing is looked up or kept from then on."""
        with self._lock, self._tolerating_failure():
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    def __enter__(self) -> VerdictCache:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # One lock guards the connection here, so that it may be used from any thread.
        self._connection = sqlite3.connect(path, timeout=_LOCK_TIMEOUT_S, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = WAL")  # readers do not wait for the writer of another process
        self._connection.execute("PRAGMA synchronous = NORMAL")  # a power cut may lose the last verdicts, no others
        with self._connection:
            self._connection.execute(_SCHEMA)

    @contextlib.contextmanager
    def _tolerating_failure(self) -> Iterator[None]:
        """Continue without the cache, after one warning, whatever goes wrong with its file inside."""
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            connection, self._connection = self._connection, None
            # A full disk or a folder without rights is not damage, but deleting the file does no harm there either.
            _log.warning(
                "%s: judging goes on without the cache of verdicts (%s). If the file is damaged, delete it.",
                self.path,
                error,
            )
            if connection is not None:
                with contextlib.suppress(sqlite3.Error):
                    connection.close()


def _sealed(key: bytes, value: bytes) -> bytes:
    # SQLite does not notice a changed byte within a value: each carries a checksum of itself and its key.
    return zlib.crc32(key + value).to_bytes(_CHECKSUM_BYTES, "big") + value
