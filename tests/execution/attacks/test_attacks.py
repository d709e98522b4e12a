"""One attack a test: the judge stands, at both levels, and the sample after it is judged rightly."""

from __future__ import annotations

import functools
import platform
from collections.abc import Callable

import pytest

from hostile import ATTACKS, Arena, Attack
from ibft.execution.isolation import detect_level

# The programs name system calls by their numbers on this machine.
pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the attacks are written for x86_64")


@functools.cache
def has_bubblewrap() -> bool:
    return detect_level() == "bubblewrap"


@pytest.mark.parametrize("level", ["bubblewrap", "landlock"])
@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_attack_achieves_nothing(arena: Callable[..., Arena], level: str, attack: Attack) -> None:
    if level == "bubblewrap" and not has_bubblewrap():
        pytest.skip("no bubblewrap, or no user namespaces, here")
    report = arena(level).run(attack)
    assert report.stood, report


def test_names_are_unique() -> None:
    assert len({str(attack) for attack in ATTACKS}) == len(ATTACKS) >= 60
