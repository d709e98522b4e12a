import sys
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


@pytest.mark.parametrize(
    ("module", "why"),
    [
        ("import no_such_module\n", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("raise OSError('no such library')\n", "OSError: no such library"),
        ("", "AttributeError: "),
    ],
)
def test_a_package_that_cannot_be_loaded_is_named_and_only_where_it_is_used(
    tmp_path: Path,
    install_package: Callable[[Path, str, str], None],
    monkeypatch: pytest.MonkeyPatch,
    module: str,
    why: str,
) -> None:
    monkeypatch.delitem(sys.modules, "broken_package", raising=False)
    (tmp_path / "broken_package.py").write_text(module)
    install_package(tmp_path / "broken_package.py", "ibft.test_numbers", "e = broken_package:E")
    numbers = tables()
    assert numbers.names() == ["pi", "missing", "e"]
    assert "e" in numbers
    with pytest.raises(UserError) as caught:
        numbers["e"]
    assert f"The number e of broken_package (broken_package:E) cannot be loaded: {why}" in str(caught.value)
    assert numbers["pi"] == pytest.approx(3.14159, abs=1e-5)
