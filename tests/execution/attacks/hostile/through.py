"""The hostile Python programs through a pool: a Ray cluster's, or that of a service which is started for them."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from hostile.arena import _PATIENT, _ROOMY, _SHORT, PRELUDE, TESTS, Attack
from hostile.baits import Baits
from ibft.artifacts.rows import Problem, Sample
from ibft.execution import Job, Limits, Outcome, PoolLike, Reference
from ibft.execution.isolation import Level

__all__ = ["ray_pool", "rows", "service_pool"]

_HONEST = "def f(x): return 2 * x\n"


def rows(pool: PoolLike, attacks: Iterable[Attack]) -> Iterator[dict[str, Any]]:
    """What became of each program, one after another, and of an honest sample after it: rows as those of `hostile.run`.

    Processes that are left are not looked for: those of a cluster or service come and go by themselves.
    """
    with Baits() as baits:
        for attack in attacks:
            before = baits.look()
            limits = _SHORT if attack.statuses & {"timeout_cpu", "timeout_wall"} else _PATIENT
            outcome = _judge(pool, PRELUDE + baits.fill_in(attack.source), attack.tests, limits)
            effects = baits.effects(before)
            # A judge gives NumPy to a program that names it; to find it there is not an effect.
            told = outcome.message.partition("EFFECT ")[2]
            effects += [told] if told and not told.startswith("<module 'numpy'") else []
            effects += ["a secret was read"] if baits.token in outcome.message else []
            after = _judge(pool, _HONEST, TESTS, _ROOMY)
            yield {
                "name": str(attack),
                "verdict": outcome.status,
                # Their problems have no reference, so that an object that equals everything passes weakly.
                "false_pass": outcome.status == "passed" and not outcome.is_weak and not attack.may_pass,
                # `failed` is right as well: an examiner that knows NumPy decodes a forged array before it refuses it.
                "wrong_verdict": outcome.status == "infrastructure_error"
                or (bool(attack.statuses) and outcome.status not in attack.statuses | {"failed"}),
                "effects": effects,
                "left": [],
                "after": "" if after.passed else after.message,
                "seconds": outcome.wall_time_s,
            }


def _judge(pool: PoolLike, source: str, tests: str, limits: Limits) -> Outcome:
    problem = Problem(task_id="t", prompt="", tests=tests, entry_point="f")
    reference = Reference(status="passed", message="it has no reference solution")
    job = Job(problem=problem, limits=limits, sample=Sample(task_id="t", solution=source), reference=reference)
    [(_, outcome)] = pool.run([(0, job)])
    assert isinstance(outcome, Outcome)
    return outcome


@contextlib.contextmanager
def ray_pool(level: Level) -> Iterator[PoolLike]:
    """The pool of a cluster of one node with one slot."""
    from ray.cluster_utils import Cluster

    from ibft.execution.ray import RayPool

    node = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    try:
        with RayPool(cluster.address, level=level) as pool:
            yield pool
    finally:
        cluster.shutdown()


@contextlib.contextmanager
def service_pool(level: Level) -> Iterator[PoolLike]:
    """The pool of a service with one worker."""
    from ibft.execution.service.client import RemotePool

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "ibft.cli", "serve", "judge", "--port", str(port), "--workers", "1"]
    process = subprocess.Popen([*command, "--sandbox", level], stderr=subprocess.DEVNULL)
    try:
        with RemotePool(f"http://127.0.0.1:{port}") as pool:
            yield pool
    finally:
        process.terminate()
        process.wait()
