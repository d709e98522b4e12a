"""Every defense is needed: an attack that is repelled succeeds when that defense alone is left out."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hostile.arena import PRELUDE, prepared

from hostile import ATTACKS, Arena, Attack
from ibft.execution.python_run import run_python
from ibft.execution.sandbox import Limits

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the attacks are written for x86_64")

_OPENED = [(defense, attack) for attack in ATTACKS for defense in attack.opened_by]
_CHEATS = [attack for attack in ATTACKS if attack.passes_inside]


@pytest.mark.parametrize(("defense", "attack"), _OPENED, ids=str)
def test_attack_succeeds_without_the_defense(arena: Callable[..., Arena], defense: str, attack: Attack) -> None:
    if defense == "capabilities" and os.getuid() != 0:
        pytest.skip("only root has capabilities to give up")
    report = arena("landlock", defense).run(attack)
    assert report.effects or report.left, report


@pytest.mark.parametrize("attack", _CHEATS, ids=str)
def test_cheat_succeeds_where_its_tests_run_inside(arena: Callable[..., Arena], attack: Attack) -> None:
    report = arena("landlock").run(attack, inside=True)
    assert report.status == "passed", report


def test_busy_loop_meets_only_the_wall_clock_without_limits(arena: Callable[..., Arena]) -> None:
    limits = Limits(cpu_s=0.1, wall_s=1, memory_mib=512)
    tests, source = prepared("f(2)\n"), "while True: pass\n"
    limited, unlimited = (
        run_python(tests, source, arena("landlock", without).sandbox(), limits).outcome for without in ("", "limits")
    )
    assert limited.wall_time_s < 0.9 < unlimited.wall_time_s


def test_every_defense_has_attacks_that_it_alone_repels() -> None:
    assert {defense for defense, _ in _OPENED} == {"capabilities", "landlock", "limits", "seccomp"}
    assert len(_CHEATS) >= 30


@pytest.mark.parametrize("abi", [1, 2, 3, 5])
def test_what_an_older_landlock_does_not_govern_is_refused_all_the_same(
    arena: Callable[..., Arena], abi: int, tmp_path: Path
) -> None:
    baits = arena("landlock").baits
    before = baits.look()
    attacks = [attack for attack in ATTACKS if attack.family in ("file", "network", "process") and not attack.before]
    program = Path(__file__).with_name("hostile") / "old_kernel.py"
    found = subprocess.run(
        [sys.executable, str(program), str(abi), str(tmp_path)],
        input=json.dumps([PRELUDE + baits.fill_in(attack.source) for attack in attacks]),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    ends = dict(zip(map(str, attacks), json.loads(found.stdout), strict=True))
    assert {name: end for name, end in ends.items() if "EFFECT" in end} == {}
    assert baits.effects(before) == []
