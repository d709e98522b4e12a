import hashlib
import logging
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from ibft.artifacts.rows import Status
from ibft.execution.cache import VerdictCache, default_cache_path, verdict_key
from ibft.execution.outcome import Outcome, Reference

PASSED = Outcome(status="passed", message="passed")
FAILED = Outcome(status="failed", message="AssertionError")


def key(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def open_warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "verdicts.sqlite3"


def test_verdicts_are_found_again_by_another_cache(path: Path) -> None:
    with VerdictCache(path) as cache:
        cache.put_many({key(1): PASSED, key(2): FAILED})
        assert cache.get_many([key(1), key(3)], Outcome) == {key(1): PASSED}
    with VerdictCache(path) as cache:
        assert cache.get_many([key(2), key(1), key(1)], Outcome) == {key(1): PASSED, key(2): FAILED}
        cache.put_many({key(1): FAILED})
        assert cache.get_many([key(1)], Outcome) == {key(1): FAILED}


def test_more_keys_than_one_query_takes(path: Path) -> None:
    items = {key(number): PASSED for number in range(1_300)}
    with VerdictCache(path) as cache:
        cache.put_many(items)
        assert cache.get_many(list(items), Outcome) == items
        assert cache.get_many([], Outcome) == {}


@pytest.mark.parametrize("status", ["timeout_cpu", "timeout_wall", "memory", "infrastructure_error", "excluded"])
def test_what_might_come_out_otherwise_is_never_kept(path: Path, status: Status) -> None:
    with VerdictCache(path) as cache:
        cache.put_many({key(1): Outcome(status=status, message=""), key(2): PASSED})
        assert cache.get_many([key(1), key(2)], Outcome) == {key(2): PASSED}


def test_a_reference_is_found_again_as_one(path: Path) -> None:
    reference = Reference(status="passed", message="passed", num_checked=3, trace="ab")
    with VerdictCache(path) as cache:
        cache.put_many({key(1): reference})
        assert cache.get_many([key(1)], Reference) == {key(1): reference}


def test_huge_values_are_not_kept(path: Path) -> None:
    with VerdictCache(path) as cache:
        cache.put_many({key(1): Outcome(status="failed", message="x" * 20_000)})
        assert cache.get_many([key(1)], Outcome) == {}


def test_only_the_latest_rows_stay(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ibft.execution.cache._MAX_ROWS", 10)
    with VerdictCache(path) as cache:
        for start in range(0, 30, 3):
            cache.put_many({key(number): PASSED for number in range(start, start + 3)})
        left = cache.get_many([key(number) for number in range(30)], Outcome)
        assert set(left) == {key(number) for number in range(20, 30)}


def test_without_a_path_nothing_is_kept() -> None:
    with VerdictCache(None) as cache:
        cache.put_many({key(1): PASSED})
        assert cache._connection is None
        assert cache.get_many([key(1)], Outcome) == {}


def test_after_closing_nothing_happens(path: Path) -> None:
    cache = VerdictCache(path)
    cache.close()
    cache.close()
    cache.put_many({key(1): PASSED})
    assert cache.get_many([key(1)], Outcome) == {}


DAMAGES = {
    "text": b"This is not a database at all. " * 300,
    "header": b"SQLite format 3\0" + b"\xff" * 5_000,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_costs_one_warning_with_its_remedy(
    path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    path.parent.mkdir()
    path.write_bytes(DAMAGES[damage])
    with VerdictCache(path) as cache:
        for _ in range(2):
            cache.put_many({key(1): PASSED})
            assert cache.get_many([key(1)], Outcome) == {}
    [warning] = open_warnings(caplog)
    assert "goes on without" in warning
    assert "delete it" in warning
    assert path.read_bytes() == DAMAGES[damage]
    path.unlink()
    with VerdictCache(path) as cache:
        cache.put_many({key(1): PASSED})
        assert cache.get_many([key(1)], Outcome) == {key(1): PASSED}


def test_damage_found_only_while_reading_costs_one_warning(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    items = {key(number): PASSED for number in range(2_000)}
    with VerdictCache(path) as cache:
        cache.put_many(items)
    content = bytearray(path.read_bytes())
    content[4096:] = random.Random(0).randbytes(len(content) - 4096)  # the first page has the schema
    path.write_bytes(content)
    with VerdictCache(path) as cache:
        assert cache.get_many(list(items), Outcome) == {}
        cache.put_many({key(1): PASSED})
        assert cache.get_many([key(1)], Outcome) == {}
    [warning] = open_warnings(caplog)
    assert "delete it" in warning


def test_a_changed_byte_within_a_verdict_is_noticed(path: Path) -> None:
    with VerdictCache(path) as cache:
        cache.put_many({key(1): FAILED, key(2): FAILED})
    connection = sqlite3.connect(path)
    connection.execute("UPDATE verdicts SET value = CAST(replace(value, 'failed', 'passed') AS BLOB) WHERE number = 1")
    connection.commit()
    connection.close()
    with VerdictCache(path) as cache:
        assert cache.get_many([key(1), key(2)], Outcome) == {key(2): FAILED}


def test_a_place_that_cannot_be_written_costs_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file" / "verdicts", tmp_path):
        caplog.clear()
        with VerdictCache(place) as cache:
            for _ in range(3):
                cache.put_many({key(1): PASSED})
                assert cache.get_many([key(1)], Outcome) == {}
        [warning] = open_warnings(caplog)
        assert "goes on without" in warning


def test_a_read_only_database_costs_one_warning(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with VerdictCache(path) as cache:
        cache.put_many({key(1): PASSED})
        assert cache._connection is not None
        cache._connection.execute("PRAGMA query_only = ON")
        cache.put_many({key(2): PASSED})
        cache.put_many({key(3): PASSED})
    [warning] = open_warnings(caplog)
    assert "readonly" in warning


@pytest.fixture
def tiny_disk() -> Iterator[None]:
    """Let no file grow past 64 KiB, as if the disk were full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("tiny_disk")
def test_a_full_disk_costs_one_warning_and_loses_nothing_written_before(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with VerdictCache(path) as cache:
        cache.put_many({key(1): PASSED})
        for start in range(10, 5_000, 500):
            cache.put_many({key(number): PASSED for number in range(start, start + 500)})
        assert cache._connection is None
    [warning] = open_warnings(caplog)
    assert "goes on without" in warning
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    with VerdictCache(path) as cache:
        assert cache.get_many([key(1)], Outcome) == {key(1): PASSED}


WRITER = """
import hashlib, sys
from pathlib import Path
from ibft.execution.cache import VerdictCache
from ibft.execution.outcome import Outcome
first, path = int(sys.argv[1]), Path(sys.argv[2])
with VerdictCache(path) as cache:
    for number in range(first, first + 200, 5):
        keys = [hashlib.sha256(str(n).encode()).hexdigest() for n in range(number, number + 5)]
        cache.put_many({key: Outcome(status="passed", message="") for key in keys})
        print(number, flush=True)
"""


def test_several_processes_write_at_once(path: Path) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(first), str(path)], stderr=subprocess.PIPE)
        for first in (0, 200, 400)
    ]
    assert [writer.communicate()[1] for writer in writers] == [b"", b"", b""]
    with VerdictCache(path) as cache:
        assert len(cache.get_many([key(number) for number in range(600)], Outcome)) == 600


def test_a_kill_loses_no_batch_that_was_handed_over(path: Path) -> None:
    command = [sys.executable, "-c", WRITER.replace("200, 5", "1000000, 5"), "0", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        for _ in range(20):
            last = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
    with VerdictCache(path) as cache:
        assert len(cache.get_many([key(number) for number in range(last + 5)], Outcome)) == last + 5


def test_threads_share_one_cache(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with VerdictCache(path) as cache:

        def work(first: int) -> None:
            for number in range(first, first + 50):
                cache.put_many({key(number): PASSED})
                assert cache.get_many([key(number)], Outcome)

        threads = [threading.Thread(target=work, args=(first,)) for first in (0, 50, 100)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(cache.get_many([key(number) for number in range(150)], Outcome)) == 150
    assert open_warnings(caplog) == []


class Limits(msgspec.Struct):
    cpu_s: float


def test_keys_depend_on_every_part_and_its_name_alone() -> None:
    same = verdict_key(code="x", limits=Limits(1.0), versions={"a": "1", "b": "2"})
    assert verdict_key(versions={"b": "2", "a": "1"}, limits={"cpu_s": 1.0}, code="x") == same
    assert len(bytes.fromhex(same)) == 32
    others = [
        verdict_key(code="y", limits=Limits(1.0), versions={"a": "1", "b": "2"}),
        verdict_key(code="x", limits=Limits(2.0), versions={"a": "1", "b": "2"}),
        verdict_key(code="x", limits=Limits(1.0), versions={"a": "1", "b": "3"}),
        verdict_key(code="x", limits=Limits(1.0)),
        verdict_key(source="x", limits=Limits(1.0), versions={"a": "1", "b": "2"}),
        verdict_key(code="\ud800"),
        verdict_key(code="\ud801"),
    ]
    assert len({same, *others}) == len(others) + 1


def test_keys_are_the_same_in_every_process_and_version() -> None:
    assert verdict_key(b=[1, None], a="é") == hashlib.sha256(b'{"a":"\\u00e9","b":[1,null]}').hexdigest()


def test_default_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("IBFT_CACHE", str(tmp_path))
    assert default_cache_path() == tmp_path / "verdicts.sqlite3"
    monkeypatch.delenv("IBFT_CACHE")

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert default_cache_path() is None
