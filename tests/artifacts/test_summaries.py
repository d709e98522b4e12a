from pathlib import Path

import msgspec
import pytest

from ibft.artifacts.summaries import read_json, read_summary
from ibft.errors import UserError


class Example(msgspec.Struct):
    shares: tuple[float, ...]
    pair: tuple[int, float] = (0, 0.0)


def test_null_is_nan_in_tuples_of_any_length(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    path.write_text('{"shares": [1, null, 3, 4], "pair": [1, null]}')
    found = read_summary(path, Example)
    assert str(found) == "Example(shares=(1.0, nan, 3.0, 4.0), pair=(1, nan))"


def test_a_damaged_file_is_named_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "scan" / "summary.json"
    assert read_summary(path, Example) is None
    with pytest.raises(UserError, match=r"summary\.json.*\. Do that\.$"):
        read_json(path, Example, "Do that.")
    path.parent.mkdir()
    path.write_text("{")
    with pytest.raises(UserError, match=r"Remove the folder .*scan, then run its stage again\.$"):
        read_summary(path, Example)
    with pytest.raises(UserError, match=r"summary\.json.*\. Do that\.$"):
        read_summary(path, Example, "Do that.")
