"""What a training source is called, and what its content is: a file, a folder, installed code, or the hub's.

Source names are those of `data.train`.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import msgspec

from ibft.data.files import FILE_SUFFIXES
from ibft.data.functions import function_pairs
from ibft.errors import UserError
from ibft.run.digests import file_digest, folder_digest

__all__ = ["FUNCTIONS", "data_digest", "file_of", "files_of_folder", "hub_name", "is_saved"]

FUNCTIONS = "functions:"
_COMPUTED = re.compile(r"cache-.*\.arrow|tmp[a-z0-9_]{8}|.*\.lock")
"""`Dataset.map` writes into a file of `tempfile`, which it then renames to `cache-<fingerprint>.arrow`."""
_CONFIGURES = re.compile(r"^(configs|dataset_info):", re.MULTILINE)


def data_digest(source: str) -> str | None:
    """Return a hash of the content of a file or folder, or of the pairs of installed code; None for a hub data set.

    Raises:
        UserError: the source is a file that does not exist, or of a form that is not read.
    """
    if source.startswith(FUNCTIONS):
        pairs = function_pairs(source.removeprefix(FUNCTIONS))
        return hashlib.sha256(msgspec.json.encode(pairs)).hexdigest()
    path = file_of(source)
    if path is not None:
        return file_digest(path)
    folder = Path(hub_name(source)[0])
    if not folder.is_dir():
        return None
    return folder_digest(folder, _is_of_saved) if is_saved(folder) else folder_digest(folder)


def _is_of_saved(path: Path) -> bool:
    """Return False for the files that `datasets` keeps beside a saved data set for what it computes from it."""
    return not _COMPUTED.fullmatch(path.name)


def hub_name(source: str) -> tuple[str, str | None]:
    """Return name and revision of a hub data set, `owner/name@revision`, or of a local folder in its place.

    A folder of the whole name is that folder, without a revision.
    """
    if Path(source).is_dir():
        return source, None
    name, _, revision = source.partition("@")
    return name, revision or None


def is_saved(folder: Path) -> bool:
    """Decide whether `save_to_disk` of the `datasets` library has written a folder."""
    return any((folder / name).is_file() for name in ("state.json", "dataset_dict.json"))


def files_of_folder(folder: Path, split: str) -> list[Path]:
    """Return the files of a split in a folder of data files; empty where the `datasets` library has to read it.

    It has to read Parquet alone (its types are known), a folder whose README.md configures what is in it, and parts of
    splits. Of JSON, it takes the types from the first rows and fails at a tool whose arguments are of another type.

    Raises:
        UserError: the folder has no such split; names those it has.
    """
    from datasets.data_files import DataFilesDict, EmptyDatasetError, get_data_patterns

    if "[" in split or _is_configured(folder):
        return []
    try:
        patterns = get_data_patterns(str(folder))
    except EmptyDatasetError:
        raise UserError(f"data: the folder {folder} has no data files.") from None
    found = DataFilesDict.from_patterns(patterns, base_path=str(folder))
    files = {str(name): [Path(path) for path in paths] for name, paths in found.items()}
    read = {
        name: [path for path in paths if path.name.lower().endswith(FILE_SUFFIXES)] for name, paths in files.items()
    }
    if all(path.suffix.lower() == ".parquet" for paths in read.values() for path in paths):
        return []
    if split not in read:
        raise UserError(f"data: the folder {folder} has the splits {', '.join(read)}, and not {split}. Set data.split.")
    return sorted(read[split])


def _is_configured(folder: Path) -> bool:
    readme = folder / "README.md"
    return readme.is_file() and bool(_CONFIGURES.search(readme.read_text(errors="replace")))


def file_of(source: str) -> Path | None:
    """Return the file that a source names; None for a folder or a data set of the hub.

    Raises:
        UserError: the file does not exist, or is of a form that is not read.
    """
    path = Path(source)
    if path.is_dir():
        return None
    if not source.lower().endswith(FILE_SUFFIXES):
        if path.is_file():
            forms = ", ".join(suffix for suffix in FILE_SUFFIXES if not suffix.endswith(".gz"))
            raise UserError(f"data: {path} is a file of a form that is not read. Convert it to one of {forms}.")
        return None
    if not path.is_file():
        raise UserError(
            f"data: the file {path} does not exist. Correct the path, or give a hub data set id or functions:PACKAGE."
        )
    return path
