"""Content digests: what they see, what they leave out, and when a kept one is believed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ibft.errors import UserError
from ibft.run import digests
from ibft.run.digests import file_digest, folder_digest


@pytest.fixture
def reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are read. Every file counts as large, and as written long ago; the cache is this test's own."""
    names: list[str] = []
    read = digests._read

    def noted(path: str | os.PathLike[str]) -> str:
        names.append(Path(path).name)
        return read(path)

    monkeypatch.setenv("IBFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(digests, "_LARGE_BYTES", 0)
    monkeypatch.setattr(digests, "_SETTLED_NS", -1)
    monkeypatch.setattr(digests, "_read", noted)
    return names


def test_a_large_file_is_read_once(reads: list[str], tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("1")
    before = file_digest(path)
    (tmp_path / "link").symlink_to(path)
    assert file_digest(path) == file_digest(tmp_path / "link") == before
    assert reads == ["x"]


def test_an_edit_is_noticed_under_the_same_size_and_time(reads: list[str], tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("1")
    before, status = file_digest(path), path.stat()
    path.write_text("2")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # as a program that restores times does
    assert file_digest(path) != before
    os.replace(tmp_path / "x", tmp_path / "y")
    (tmp_path / "x").write_text("1")
    assert file_digest(path) == before


def test_what_was_just_written_is_not_kept(reads: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "_SETTLED_NS", 10**12)
    path = tmp_path / "x"
    path.write_text("1")
    assert file_digest(path) == file_digest(path)
    assert reads == ["x", "x"]


def test_a_damaged_or_unwritable_cache_costs_time_and_no_more(reads: list[str], tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("1")
    before = file_digest(path)
    [kept] = (tmp_path / "cache" / "digests").iterdir()
    kept.write_text("{")
    assert file_digest(path) == before
    kept.unlink()
    kept.parent.rmdir()
    kept.parent.write_text("a file in the folder's place")
    assert file_digest(path) == before
    assert len(reads) == 3


def test_a_folder_is_its_names_and_contents(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    (folder / "inner").mkdir(parents=True)
    (folder / "x").write_text("1")
    (folder / "inner" / "y").write_text("2")
    before = folder_digest(folder)
    (folder / ".git").mkdir()
    (folder / ".git" / "index").write_text("hidden")
    (folder / "inner" / "loop").symlink_to(folder)
    (folder / "nowhere").symlink_to(tmp_path / "none")
    assert folder_digest(folder) == before
    os.rename(folder, tmp_path / "b")
    assert folder_digest(tmp_path / "b") == before
    os.rename(tmp_path / "b" / "x", tmp_path / "b" / "z")
    assert folder_digest(tmp_path / "b") != before
    assert folder_digest(tmp_path / "b", lambda path: path.name == "y") == folder_digest(
        tmp_path / "b", lambda path: path.parent.name == "inner"
    )


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none: cannot be read"):
        file_digest(tmp_path / "none")
    with pytest.raises(UserError, match="none: cannot be read"):
        folder_digest(tmp_path / "none")
