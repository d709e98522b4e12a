"""The few calls to Ray that need explaining: to connect, to start an actor on one node, to say what went wrong."""

from __future__ import annotations

import contextlib
import logging
import re
import socket
from typing import Any

from ibft.errors import UserError

__all__ = ["connect", "explain", "kill", "start_actor"]

_CONNECT_S = 10.0


def connect(address: str) -> bool:
    """Connect this process to a cluster, unless it is connected; return True if it was not.

    Raises:
        UserError: Ray is not installed, or there is no such cluster.
    """
    try:
        import ray
    except ImportError:
        raise UserError("ray: Ray is not installed. Install it with `pip install 'ibft[ray]'`.") from None
    if ray.is_initialized():
        return False
    try:
        if not address:
            raise ValueError("the address is empty")
        if match := re.fullmatch(r"([^:/]+):(\d+)", address):  # Ray itself would try for minutes
            socket.create_connection((match[1], int(match[2])), timeout=_CONNECT_S).close()
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
    # None runs there, or it has another version of Ray or Python.
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(
            f"ray: cannot connect to {address!r}: {explain(error)}. Start a cluster with `ray start --head`, or give "
            "the address of one that runs."
        ) from None
    return True


def start_actor(kind: type, node: str, num_slots: int) -> Any:
    """Start an actor on one node, which has the node's CPUs for itself; waits for nothing."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    # A group of its own, so that what ends a task is heard while every thread is busy.
    made = ray.remote(concurrency_groups={"control": 2}, max_concurrency=2 * num_slots, max_restarts=0)(kind)
    strategy = NodeAffinitySchedulingStrategy(node, soft=False)
    return made.options(num_cpus=num_slots, scheduling_strategy=strategy).remote(num_slots)


def kill(actor: Any) -> None:
    """End an actor's process at once; one that is gone already is fine."""
    import ray

    with contextlib.suppress(Exception):
        ray.kill(actor)


def explain(error: BaseException) -> str:
    """Return the last line of an error of Ray's, which tend to hold whole tracebacks."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__).rstrip(".")
