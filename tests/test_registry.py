from collections.abc import Callable
from pathlib import Path

import pytest

from ibft.errors import UserError
from ibft.registry import Registry


def tables() -> Registry[object]:
    return Registry("number", "ibft.test_numbers", {"pi": "math:pi", "missing": "no_such_module:x"})


def test_ours_are_loaded_when_they_are_asked_for_and_nobody_replaces_them(
    tmp_path: Path, install_package: Callable[[Path, str, str], None]
) -> None:
    (tmp_path / "numbers_package.py").write_text("PI = 3\nTAU = 6\n")
    install_package(
        tmp_path / "numbers_package.py", "ibft.test_numbers", "pi = numbers_package:PI\ntau = numbers_package:TAU"
    )
    numbers = tables()
    assert numbers.names() == ["pi", "missing", "tau"]
    assert numbers["pi"] == pytest.approx(3.14159, abs=1e-5)
    assert numbers["tau"] == 6
    assert "tau" in numbers
    assert "e" not in numbers


def test_an_unknown_name_is_refused_with_the_known_ones_and_the_group() -> None:
    with pytest.raises(UserError, match=r"'e' is not a known number\. Known are pi, missing; .*ibft\.test_numbers"):
        tables()["e"]
