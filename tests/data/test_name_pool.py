import random

import pytest

from ibft.artifacts.rows import Pair
from ibft.data.name_pool import NamePool


def pairs(*sources: str) -> list[Pair]:
    return [Pair(str(number), "", source) for number, source in enumerate(sources)]


POOL = NamePool(
    pairs(
        *["def read(path):\n    return path\n"] * 9,
        "def send(text):\n    return text\n",
        "def skip(rows):\n    for line in rows:\n        print(line)\n",
        "def catch(thing):\n    try:\n        thing()\n    except KeyError as err:\n        print(err)\n",
        "def long_one(a_very_long_parameter):\n    return a_very_long_parameter\n",
        "no code",
    )
)


def drawn(name: str, role: str, taken: frozenset[str] = frozenset(), num: int = 400) -> list[str]:
    chance = random.Random(0)
    return [POOL.draw(name, role, {name, *taken}, chance) for _ in range(num)]


def test_names_come_as_often_as_they_are_in_the_data() -> None:
    names = drawn("data", "parameter")
    assert set(names) == {"path", "text", "rows", "thing"}
    assert names.count("path") / len(names) == pytest.approx(9 / 12, abs=0.06)


@pytest.mark.parametrize(
    ("name", "role", "expected"),
    [
        ("item", "loop", {"line"}),
        ("exc", "error", {"err"}),
        ("open", "function", {"read", "send", "skip", "catch"}),
        ("x", "parameter", {"a_very_long_parameter", "err", "path", "rows", "text", "thing"}),
    ],
)
def test_role_then_length_then_whatever_there_is(name: str, role: str, expected: set[str]) -> None:
    assert set(drawn(name, role)) <= expected
    assert len(set(drawn(name, role))) >= len(expected) / 2


def test_what_is_taken_is_not_drawn() -> None:
    found = set(drawn("item", "loop", frozenset({"line"})))
    assert "path" in found
    assert "line" not in found
    assert "path" not in drawn("data", "parameter", frozenset({"path"}))


def test_a_style_that_the_data_does_not_have_gets_numbers() -> None:
    assert set(drawn("MAX_SIZE", "variable")) == {"MAX_SIZE2"}
    assert set(drawn("MAX_SIZE", "variable", frozenset({"MAX_SIZE2", "MAX_SIZE3"}))) == {"MAX_SIZE4"}
    assert NamePool([]).draw("x", "loop", {"x"}, random.Random(0)) == "x2"
