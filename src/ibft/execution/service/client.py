"""The pool that is a client of the service: jobs go there in batches, and again where a service has been lost."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import queue
import socket
import threading
import time
import urllib.parse
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from http import HTTPStatus
from typing import NamedTuple, TypeVar

import msgspec

from ibft.artifacts.rows import Problem
from ibft.errors import UserError
from ibft.execution.outcome import Job
from ibft.execution.pool import FuturePool, Verdict
from ibft.execution.service.schema import Done, Health, JobsRequest, RemoteJob
from ibft.run.futures import settle

__all__ = ["RemotePool"]

Result = TypeVar("Result")

_BATCH = 16
_SILENCE_S = 30.0
"""A service that sends nothing for so long, not even its empty lines, is lost."""

_PAUSES_S = (0.2, 0.5, 1.0, 2.0)
_MAX_WORDS_BYTES = 2000
_RETRIED = {408, 425, 429, 500, 502, 503, 504}


class _Order(NamedTuple):
    job: Job
    future: Future[Verdict]


class _Lost(Exception):
    """The service cannot be reached, is full, or ended in the middle: the same request is sent again."""


class RemotePool(FuturePool):
    """A pool at the other end of HTTP (`ibft serve judge`). A judgement that was lost on the way is asked for again.

    Args:
        url: of the service, `http://HOST:PORT`.
        token: the service's.
        patience_s: for so long, a service that cannot be reached is tried again before jobs fail.
        connections: requests at once; by default as many as the service has workers.

    Raises:
        UserError: on entry and in a job's future, if the service refuses the token, or cannot be reached in time.
    """

    def __init__(
        self, url: str, token: str | None = None, *, patience_s: float = 600.0, connections: int | None = None
    ) -> None:
        self._url, self._patience_s, self._connections = urllib.parse.urlsplit(url), patience_s, connections
        if self._url.scheme not in ("http", "https") or not self._url.hostname:
            raise UserError(f"{url!r} is not the address of a service. Give one such as http://127.0.0.1:8000.")
        self._headers = {"Content-Type": "application/json"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        self._waiting: queue.SimpleQueue[_Order | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._live: set[http.client.HTTPConnection] = set()
        self._closing = threading.Event()
        self._heard_at = 0.0
        self.num_workers = 0
        self.level = ""

    def __enter__(self) -> RemotePool:
        health = self._health()
        self.num_workers, self.level = health.workers, health.sandbox
        for _ in range(self._connections or health.workers):
            thread = threading.Thread(target=self._work, daemon=True)
            thread.start()
            self._threads.append(thread)
        return self

    def __exit__(self, *error: object) -> None:
        self._closing.set()
        for _ in self._threads:
            self._waiting.put(None)
        for connection in list(self._live):
            _hang_up(connection)
        for thread in self._threads:
            thread.join()

    def submit(self, job: Job) -> Future[Verdict]:
        """Hand in a job; see `FuturePool.submit`."""
        order = _Order(job, Future())
        self._waiting.put(order)
        return order.future

    def _health(self) -> Health:
        def ask(connection: http.client.HTTPConnection) -> Health:
            connection.request("GET", "/health", headers=self._headers)
            return msgspec.json.decode(_accepted(connection.getresponse()).read(), type=Health)

        return self._patiently(ask)

    def _work(self) -> None:
        while (first := self._waiting.get()) is not None:
            orders = [first, *self._more()]
            try:
                self._patiently(partial(self._ask, orders))
            except Exception as error:  # given to whoever waits
                for order in orders:
                    settle(order.future, error)

    def _more(self) -> list[_Order]:
        """Return what waits already, up to a batch: a share of it, so that every connection has some."""
        num = min(_BATCH, self._waiting.qsize() // max(1, len(self._threads)))
        orders: list[_Order] = []
        with contextlib.suppress(queue.Empty):
            while len(orders) < num:
                if (order := self._waiting.get_nowait()) is None:
                    self._waiting.put(None)
                    break
                orders.append(order)
        return orders

    def _ask(self, orders: list[_Order], connection: http.client.HTTPConnection) -> None:
        """Send what has no verdict yet, and give the verdicts out as they come.

        Raises:
            _Lost: some are missing.
        """
        asked = [order for order in orders if not order.future.done()]
        if not asked:
            return
        problems: dict[Problem, int] = {}
        jobs = []
        for job, _ in asked:
            number = problems.setdefault(job.problem, len(problems))
            jobs.append(RemoteJob(problem=number, limits=job.limits, sample=job.sample, reference=job.reference))
        body = msgspec.json.encode(JobsRequest(problems=[*problems], jobs=jobs))
        connection.request("POST", "/jobs", body, self._headers)
        response = _accepted(connection.getresponse())
        for order in asked:
            order.future.add_done_callback(lambda _: _hang_up_if_cancelled(connection, asked))
        while line := response.readline():
            self._heard_at = time.monotonic()
            if line.strip():
                done = msgspec.json.decode(line, type=Done)
                verdict = done.outcome or done.reference
                assert verdict is not None
                settle(asked[done.position].future, verdict)
        if not all(order.future.done() for order in asked):
            raise _Lost("the answer ended in the middle")

    def _patiently(self, ask: Callable[[http.client.HTTPConnection], Result]) -> Result:
        """Ask until there is an answer.

        Raises:
            UserError: it is refused, or the service has not been heard of for too long.
        """
        kind = http.client.HTTPSConnection if self._url.scheme == "https" else http.client.HTTPConnection
        start = time.monotonic()
        for pause_s in itertools.chain(_PAUSES_S, itertools.repeat(_PAUSES_S[-1])):
            connection = kind(self._url.hostname or "", self._url.port, timeout=_SILENCE_S)
            self._live.add(connection)
            try:
                return ask(connection)
            except (OSError, http.client.HTTPException, msgspec.MsgspecError, _Lost) as error:
                waited_s = time.monotonic() - max(start, self._heard_at)
                if waited_s > self._patience_s or self._closing.is_set():
                    url = self._url.geturl()
                    raise UserError(f"{url}: no answer for {waited_s:.0f} s ({error}). Is the service up?") from None
            finally:
                self._live.discard(connection)
                connection.close()
            self._closing.wait(pause_s)
        raise AssertionError("the pauses never end")


def _accepted(response: http.client.HTTPResponse) -> http.client.HTTPResponse:
    """Return a response that has what was asked for.

    Raises:
        _Lost: the same request may be answered later.
        UserError: it is refused.
    """
    if response.status == HTTPStatus.OK:
        return response
    words = response.read(_MAX_WORDS_BYTES).decode("utf-8", "replace")
    if response.status in _RETRIED:
        raise _Lost(f"{response.status} {words}")
    raise UserError(f"the service refuses: {response.status} {response.reason}: {words}")


def _hang_up_if_cancelled(connection: http.client.HTTPConnection, orders: list[_Order]) -> None:
    """Close a connection on which nobody waits for anything: the service then ends what it runs for it."""
    futures = [order.future for order in orders]
    if all(future.done() for future in futures) and any(future.cancelled() for future in futures):
        _hang_up(connection)


def _hang_up(connection: http.client.HTTPConnection) -> None:
    if connection.sock is not None:
        with contextlib.suppress(OSError):
            connection.sock.shutdown(socket.SHUT_RDWR)  # wakes the thread that reads from it
