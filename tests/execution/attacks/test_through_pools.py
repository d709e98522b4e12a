"""Attacks through a Ray cluster and through the service: what reaches a judge by a detour is judged no worse."""

from __future__ import annotations

import importlib.util
import platform
from typing import Any

import pytest
from hostile.arena import PRELUDE, TESTS
from hostile.through import _judge, ray_pool, rows, service_pool

from hostile import ATTACKS
from ibft.execution import Limits
from ibft.execution.inside import lockdown
from ibft.execution.isolation import detect_level

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the attacks are written for x86_64"),
    pytest.mark.skipif(not lockdown.landlock_abi(), reason="this kernel has no Landlock"),
]
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")
EVERY = 12  # benchmarks/hostile.py --through has all of them
POOLS = [pytest.param(ray_pool, marks=needs_ray, id="ray"), pytest.param(service_pool, id="service")]


@pytest.mark.parametrize("open_pool", POOLS)
def test_attacks_achieve_nothing(open_pool: Any) -> None:
    with open_pool(detect_level()) as pool:
        found = list(rows(pool, ATTACKS[::EVERY]))
    assert len(found) > 30
    assert not [row for row in found if row["false_pass"] or row["wrong_verdict"] or row["effects"] or row["after"]]


REACH = """
import socket
def f(x):
    socket.create_connection(("{host}", {port}), timeout=1)
    effect("connected")
"""


@needs_ray
@pytest.mark.parametrize("level", ["bubblewrap", "landlock"])
def test_a_program_cannot_reach_the_clusters_own_ports(level: Any) -> None:
    if level == "bubblewrap" and detect_level() != level:
        pytest.skip("no bubblewrap, or no user namespaces, here")
    with ray_pool(level) as pool:
        import ray

        host, port = ray.get_runtime_context().gcs_address.split(":")
        source = PRELUDE + REACH.format(host=host, port=port)
        outcome = _judge(pool, source, TESTS, Limits(cpu_s=1, wall_s=5, memory_mib=512))
    assert outcome.status == "failed"
    assert "EFFECT" not in outcome.message
    assert "OSError" in outcome.message or "PermissionError" in outcome.message, outcome.message
