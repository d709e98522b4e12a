"""Work on a Ray cluster: one host on each node, and what a lost host was doing is done again on another.

It knows nothing of the work itself (`Work` does). One thread has all of the state; whatever happens reaches it as an
event, so there are no locks, and nothing is asked of Ray inside one of Ray's own callbacks.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import queue
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, Generic, TypeVar

from ibft.errors import UserError
from ibft.run.cluster_work import Work
from ibft.run.futures import settle
from ibft.run.ray_nodes import connect, explain, kill, start_actor

__all__ = ["Cluster"]

_log = logging.getLogger(__name__)

Task = TypeVar("Task")
Answer = TypeVar("Answer")

_MAX_LOSSES = 3
"""A task whose host is lost this often is given up: it may well be what ends them."""

_LOOK_S = 2.0
"""How often new nodes, and nodes without a host, are looked for."""

_START_S = 120.0
_LATE_S = 10.0
"""The first hosts begin without those that take longer to start: their nodes may be busy with something else."""

_CLOSE_S = 5.0
_QUEUED_PER_SLOT = 2
"""Tasks sent to a host for each of its slots: one that runs, and one that waits so that the slot is never idle."""


class _Order(Generic[Task, Answer]):
    """A task that was handed in. `answers` are those of the nodes that could not do it."""

    def __init__(self, number: int, task: Task) -> None:
        self.number, self.task = number, task
        self.future: Future[Answer] = Future()
        self.num_losses = 0
        self.answers: dict[str, Answer] = {}


class _Place(Generic[Task, Answer]):
    """A node's host, as the driver sees it: without a description until it has started."""

    def __init__(self, node: str, actor: Any, num_slots: int) -> None:
        self.node, self.actor, self.num_slots = node, actor, num_slots
        self.description: dict[str, Any] | None = None
        self.orders: dict[int, _Order[Task, Answer]] = {}

    @property
    def num_free(self) -> int:
        """The tasks that can be sent now."""
        return 0 if self.description is None else self.num_slots * _QUEUED_PER_SLOT - len(self.orders)


class Cluster(Generic[Task, Answer]):
    """The hosts of a cluster. Nodes that join are used, and hosts that are lost are replaced.

    Args:
        work: what the hosts do.
        address: of the cluster, as `ray.init` takes it; `auto` is the one that runs on this machine.
        max_slots: tasks done at once on a node; by default its CPUs, as Ray counts them.
    """

    def __init__(self, work: Work[Task, Answer], address: str = "auto", max_slots: int | None = None) -> None:
        self._work, self._address, self._max_slots = work, address, max_slots
        self._events: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._waiting: deque[_Order[Task, Answer]] = deque()
        self._places: dict[str, _Place[Task, Answer]] = {}
        self._num_failed_starts: Counter[str] = Counter()
        self._refused: dict[str, str] = {}
        self._numbers = itertools.count()
        self._thread = threading.Thread(target=self._drive, daemon=True)
        self._is_settled = threading.Event()
        self._end_reason = "the pool is ending"
        self._owns_connection = False

    def start(self) -> list[dict[str, Any]]:
        """Connect, start the hosts, and return what those that can be used say of themselves.

        Raises:
            UserError: Ray is not installed, there is no cluster, or none of its nodes can be used; says why.
        """
        self._owns_connection = connect(self._address)
        self._thread.start()
        self._is_settled.wait(_START_S)
        descriptions = [place.description for place in list(self._places.values()) if place.description is not None]
        if not descriptions:
            self.close()
            reasons = "; ".join(self._refused.values()) or "no node has free CPUs"
            raise UserError(f"ray: no node of the cluster {self._address!r} can be used: {reasons}.")
        return descriptions

    def submit(self, task: Task) -> Future[Answer]:
        """Hand in a task. Cancelling its future ends it, even while it runs."""
        order: _Order[Task, Answer] = _Order(next(self._numbers), task)
        self._events.put(partial(self._waiting.append, order))

        def stop_if_cancelled(future: Future[Answer]) -> None:
            if future.cancelled():
                self._events.put(partial(self._stop, order))

        order.future.add_done_callback(stop_if_cancelled)
        return order.future

    def close(self) -> None:
        """End what runs, and the hosts; what has no answer yet is given up."""
        self._events.put(None)
        if self._thread.ident is not None:
            self._thread.join()
        if self._owns_connection:
            import ray

            ray.shutdown()

    def _drive(self) -> None:
        next_look, late = 0.0, time.monotonic() + _LATE_S
        try:
            while True:
                if time.monotonic() >= next_look:
                    self._look_for_nodes()
                    next_look = time.monotonic() + _LOOK_S
                starting = [place for place in self._places.values() if place.description is None]
                if not starting or (len(starting) < len(self._places) and time.monotonic() > late):
                    self._is_settled.set()
                self._hand_out()
                with contextlib.suppress(queue.Empty):
                    if (event := self._events.get(timeout=_LOOK_S)) is None:
                        return
                    event()
        except Exception as error:  # the cluster itself is gone: without an answer whoever waits would wait forever
            self._end_reason = f"the cluster was lost: {error}"
        finally:
            self._end()

    def _look_for_nodes(self) -> None:
        """Start a host on each node that has none, and give up the hosts of nodes that are gone."""
        import ray

        alive = {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}
        for place in list(self._places.values()):
            if place.node not in alive:
                self._lose(place)
        for name, node in alive.items():
            num_slots = min(int(node["Resources"].get("CPU", 0)), self._max_slots or sys.maxsize)
            if num_slots and name not in self._places and name not in self._refused:
                actor = start_actor(self._work.host, name, num_slots)
                place = self._places[name] = _Place(name, actor, num_slots)
                self._when_done(actor.describe.remote(), partial(self._started, place, node["NodeManagerHostname"]))

    def _started(self, place: _Place[Task, Answer], hostname: str, described: Future[dict[str, Any]]) -> None:
        if self._places.get(place.node) is not place:
            return
        try:
            description = described.result()
            reason = self._work.refusal(description)
        except Exception as error:  # what Ray raises when a host's class cannot be loaded, or its process ends
            self._num_failed_starts[place.node] += 1
            if self._num_failed_starts[place.node] < _MAX_LOSSES:
                self._lose(place)
                self._look_for_nodes()
                return
            description, reason = {}, explain(error)
        if reason:
            self._refused[place.node] = f"{hostname}: {reason}"
            _log.warning("A node of the Ray cluster is not used: %s: %s", hostname, reason)
            self._lose(place)
        else:
            place.description = description

    def _hand_out(self) -> None:
        """Send waiting tasks to the hosts that have room, those with the most of it first."""
        put_back: list[_Order[Task, Answer]] = []
        while self._waiting:
            free = [place for place in self._places.values() if place.num_free > 0]
            if not free:
                break
            order = self._waiting.popleft()
            if order.future.done():
                continue
            fit = [place for place in free if place.node not in order.answers]
            if fit:
                self._send(order, max(fit, key=lambda place: place.num_free))
            elif order.answers.keys() >= self._places.keys():
                settle(order.future, list(order.answers.values())[-1])
            else:
                put_back.append(order)
        self._waiting.extendleft(reversed(put_back))

    def _send(self, order: _Order[Task, Answer], place: _Place[Task, Answer]) -> None:
        place.orders[order.number] = order
        self._when_done(
            place.actor.do.remote(order.number, self._work.message(order.task)), partial(self._ended, place, order)
        )

    def _when_done(self, reference: Any, event: Callable[[Future[Any]], object]) -> None:
        reference.future().add_done_callback(lambda future: self._events.put(partial(event, future)))

    def _ended(self, place: _Place[Task, Answer], order: _Order[Task, Answer], result: Future[Answer]) -> None:
        from ray.exceptions import RayTaskError

        if order.number not in place.orders:  # its host was given up before, and the task sent elsewhere
            return
        try:
            answer = result.result()
        except RayTaskError as error:
            answer = self._work.give_up(order.task, explain(error))
        except Exception:  # the host or its node is gone, or cannot be reached
            self._lose(place)
            return
        del place.orders[order.number]
        if self._work.is_elsewhere(answer):
            order.answers[place.node] = answer
            self._waiting.appendleft(order)
        else:
            settle(order.future, answer)

    def _lose(self, place: _Place[Task, Answer]) -> None:
        """Give up a host: what it was doing waits for another."""
        del self._places[place.node]
        kill(place.actor)
        for order in reversed(place.orders.values()):
            order.num_losses += 1
            if order.num_losses < _MAX_LOSSES:
                self._waiting.appendleft(order)
            else:
                reason = f"the process that did it was lost {_MAX_LOSSES} times"
                settle(order.future, self._work.give_up(order.task, reason))
        place.orders.clear()

    def _stop(self, order: _Order[Task, Answer]) -> None:
        for place in self._places.values():
            if place.orders.pop(order.number, None) is not None:
                place.actor.stop.options(concurrency_group="control").remote(order.number)

    def _end(self) -> None:
        import ray

        self._is_settled.set()
        while not self._events.empty():  # what was handed in last
            if (event := self._events.get()) is not None:
                event()
        running = [order for place in self._places.values() for order in place.orders.values()]
        for order in (*running, *self._waiting):
            settle(order.future, self._work.give_up(order.task, self._end_reason))
        with contextlib.suppress(Exception):  # a cluster that is gone cannot be told
            places = self._places.values()
            closing = [place.actor.close.options(concurrency_group="control").remote() for place in places]
            ray.wait(closing, num_returns=len(closing), timeout=_CLOSE_S) if closing else None
        for place in self._places.values():
            kill(place.actor)
