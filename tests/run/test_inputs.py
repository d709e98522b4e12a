"""What a stage was made from: when two are the same, and how a difference reads."""

from __future__ import annotations

from typing import Any

import pytest

from ibft.run.inputs import difference, has_other_format, identity_of


def source(name: str, digest: str | None, **settings: Any) -> dict[str, Any]:
    return {"name": name, "digest": digest, **settings}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({"k": 1}, {"k": 1}, None),
        ({"scan": {"k": 20}}, {"scan": {"k": 10}}, "scan.k: 20 -> 10"),
        ({"a": 1, "b": 2}, {"a": 1}, "b: 2 -> None"),
        ({"m": source("x", "1")}, {"m": source("y", "1")}, None),
        ({"m": source("x", "1")}, {"m": source("x", "2")}, "the content of x has changed"),
        ({"m": source("x", "1")}, {"m": source("y", "2")}, "m: x -> y"),
        ({"m": source("x", "1", t=1)}, {"m": source("y", "2", t=1)}, "m.name: x -> y"),
        ({"m": source("x", "1", t=1)}, {"m": source("y", "1", t=2)}, "m.t: 1 -> 2"),
        ({"m": source("x", None)}, {"m": source("x", "2")}, None),
        ({"m": source("x", "1")}, {"m": source("y", None)}, "m: x -> y"),
        (
            {"m": source("x", "1", revision="a", t=1)},
            {"m": source("x", "2", revision="b", t=1)},
            "m.revision: a -> b",
        ),
        ({"m": source("x", "1", revision=None)}, {"m": source("x", "1", revision="main")}, None),
        ({"m": "x"}, {"m": source("x", "1")}, None),
        ({"m": None}, {"m": source("x", "1")}, "m: None -> x"),
        ({"m": source("x", "1")}, {"m": None}, "m: x -> None"),
        ({}, {"m": source("x", "1")}, None),
        ({"long": "x" * 200}, {"long": 1}, f"long: {'x' * 99}… -> 1"),
    ],
)
def test_the_first_difference_in_words(old: dict[str, Any], new: dict[str, Any], expected: str | None) -> None:
    assert difference(old, new) == expected


def test_a_part_is_compared_at_every_level() -> None:
    old = {"a": {"b": 1, "c": 2}, "m": source("x", "1", t=1, u=2), "d": 3}
    assert difference(old, {"a": {"b": 1}, "m": source("y", "1", t=1)}, is_part=True) is None
    assert difference(old, {"a": {"b": 2}}, is_part=True) == "a.b: 1 -> 2"


def test_names_can_be_trusted() -> None:
    old = {"m": source("x", "1", t=1)}
    assert difference(old, {"m": source("x", "2", t=1)}, trusts_names=True) is None
    assert difference(old, {"m": source("y", "1", t=1)}, trusts_names=True) is None
    assert difference(old, {"m": source("y", "2", t=1)}, trusts_names=True) == "m.name: x -> y"
    assert difference(old, {"m": source("x", "2", t=2)}, trusts_names=True) == "m.t: 1 -> 2"


def test_the_identity_follows_contents_and_settings_alone() -> None:
    before = identity_of({"m": source("x", "1", t=[1]), "s": 0})
    assert identity_of({"s": 0, "m": source("y", "1", t=[1])}) == before
    for other in (source("x", "2", t=[1]), source("x", "1", t=[2])):
        assert identity_of({"m": other, "s": 0}) != before
    assert identity_of({"m": source("x", None)}) != identity_of({"m": source("y", None)})


def test_a_version_of_the_code_is_asked_for_where_there_is_one() -> None:
    assert has_other_format({}, {"format": 2})
    assert has_other_format({"format": 1}, {"format": 2})
    assert not has_other_format({"format": 2}, {"format": 2})
    assert not has_other_format({"format": 1}, {"k": 1})
