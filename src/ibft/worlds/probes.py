"""Run chains on a fixed pool of lists, and find the few of these that distinguish a chain from every neighbor.

A neighbor of a chain is the chain with one operation left out, replaced by any other (or by the same with another
number), or exchanged with another one. Tests on the inputs chosen here pass a neighbor only if it computes the same on
the whole pool.
"""

from __future__ import annotations

import functools
import hashlib
import random
from collections.abc import Iterator

from ibft.worlds.library import Chain, Operation, Step, function_of

__all__ = ["behavior", "is_sound", "neighbors", "run", "telling_inputs"]

_MIN_INPUTS = 4

# Enough that no neighbor passes the tests and differs on other lists (tests/worlds/test_probes.py).
_NUM_LISTS = 60


def run(chain: Chain, xs: list[int]) -> list[int]:
    """Return what a chain makes of a list."""
    for step in chain:
        xs = function_of(step)(xs)
    return xs


def behavior(chain: Chain) -> str:
    """Return a digest of what a chain computes on the pool: equal digests are taken for equal programs."""
    return hashlib.sha256(repr(list(_results(chain))).encode()).hexdigest()


def is_sound(chain: Chain) -> bool:
    """Decide whether a chain is worth a task.

    It has to leave something of at least half of the pool, and each operation has to matter: the chain without it
    computes something else on the pool.
    """
    results = _results(chain)
    if 2 * sum(map(bool, results)) < len(results):
        return False
    return all(results != _results(shorter) for shorter in _without_one(chain))


def neighbors(chain: Chain, operations: tuple[Operation, ...]) -> Iterator[Chain]:
    """Yield every chain that differs by one operation left out, replaced by one of `operations`, or exchanged."""
    yield from _without_one(chain)
    for i, old in enumerate(chain):
        yield from ((*chain[:i], new, *chain[i + 1 :]) for new in _steps(operations) if new != old)
        for j in range(i):
            yield (*chain[:j], old, *chain[j + 1 : i], chain[j], *chain[i + 1 :])


def telling_inputs(chain: Chain, operations: tuple[Operation, ...]) -> list[list[int]]:
    """Return the empty list and at least four lists of the pool on which the chain differs from its neighbors.

    Chosen greedily: each list distinguishes the chain from the most neighbors that no earlier list did.
    """
    pool, wanted = _pool(), _results(chain)
    differing = [
        {place for place, result in enumerate(_results(neighbor)) if result != wanted[place]}
        for neighbor in neighbors(chain, operations)
    ]
    left = [places for places in differing if places]  # a neighbor without any computes the same on the whole pool
    chosen: list[int] = []
    while left or len(chosen) < _MIN_INPUTS:
        free = [place for place in range(1, len(pool)) if place not in chosen]
        best = max(free, key=lambda place: sum(place in places for places in left))
        chosen.append(best)
        left = [places for places in left if best not in places]
    return [pool[0], *(pool[place] for place in chosen)]


def _without_one(chain: Chain) -> Iterator[Chain]:
    return (chain[:i] + chain[i + 1 :] for i in range(len(chain)))


@functools.cache
def _steps(operations: tuple[Operation, ...]) -> tuple[Step, ...]:
    return tuple(Step(operation.key, n) for operation in operations for n in operation.numbers or (None,))


@functools.lru_cache(maxsize=256)  # neighbors begin alike: most of their work has been done
def _results(chain: Chain) -> tuple[list[int], ...]:
    """Return what a chain makes of each list of the pool."""
    return tuple(map(function_of(chain[-1]), _results(chain[:-1]))) if chain else _pool()


@functools.cache
def _pool() -> tuple[list[int], ...]:
    """Return the empty list, then lists of 4 to 16 numbers."""
    rng = random.Random("probes")
    lists: list[list[int]] = [[]]
    for number in range(_NUM_LISTS):
        # The narrower the range, the more numbers repeat.
        size, bound = rng.randrange(4, 17), (3, 9, 30)[number % 3]
        lists.append([rng.randrange(-bound, bound + 1) for _ in range(size)])
    return tuple(lists)
