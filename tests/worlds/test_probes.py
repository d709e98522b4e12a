import random

import pytest

from ibft.worlds.chains import ChainsConfig, make_world
from ibft.worlds.library import OPERATIONS, Chain, Step
from ibft.worlds.probes import behavior, is_sound, neighbors, run, telling_inputs
from ibft.worlds.tasks import describe

EVENS, REVERSE, SORT, NEGATE = Step("evens"), Step("reverse"), Step("sort"), Step("negate")


def other_lists() -> list[list[int]]:
    """Lists that the generator has never seen."""
    rng = random.Random(7)
    return [[rng.randrange(-b, b + 1) for _ in range(rng.randrange(20))] for b in (3, 9, 30) for _ in range(100)]


def test_run_goes_from_left_to_right() -> None:
    assert run((Step("add", 1), EVENS, Step("first", 1)), [1, 2, 3]) == [2]
    assert run((EVENS, Step("add", 1), Step("first", 1)), [1, 2, 3]) == [3]


@pytest.mark.parametrize(
    ("chain", "same"),
    [
        ((NEGATE, REVERSE), (REVERSE, NEGATE)),
        ((Step("add", 2), Step("add", 3)), (Step("add", 5),)),
        ((SORT, NEGATE, SORT), (NEGATE, SORT)),
    ],
)
def test_equal_programs_behave_alike(chain: Chain, same: Chain) -> None:
    assert behavior(chain) == behavior(same)
    assert behavior(chain) != behavior((*chain, Step("add", 1)))


@pytest.mark.parametrize(
    ("chain", "expected"),
    [
        ((EVENS, REVERSE), True),
        ((REVERSE, SORT), False),  # reversing changes nothing
        ((Step("multiply", 2), EVENS), False),  # nor does keeping the even numbers
        ((NEGATE, Step("square")), False),
        ((Step("first", 2), Step("skip", 3)), False),  # nothing is ever left
    ],
)
def test_a_sound_chain_needs_each_of_its_operations(chain: Chain, expected: bool) -> None:
    assert is_sound(chain) is expected


def test_neighbors_are_all_that_differ_by_one_operation() -> None:
    chain = (EVENS, Step("add", 3))
    found = list(neighbors(chain, OPERATIONS[:12]))
    assert (EVENS,) in found
    assert (Step("add", 3),) in found
    assert (Step("add", 3), EVENS) in found
    assert (EVENS, Step("add", 4)) in found
    assert (EVENS, REVERSE) in found
    assert chain not in found
    assert len(found) == len(set(found)) == 2 + 1 + 2 * 35  # left out, exchanged, replaced


@pytest.mark.parametrize("seed", [1, 2])
def test_the_inputs_tell_a_chain_from_every_neighbor_that_differs_anywhere(seed: int) -> None:
    """Dropping, replacing or exchanging an operation fails the tests, or else computes the same on other lists too."""
    world = make_world(ChainsConfig(seed=seed, max_depth=5, num_train=60, num_dev=1, num_test=8))
    num_wrong = 0
    for example in world.test:
        inputs = telling_inputs(example.chain, world.library.operations)
        wanted = [run(example.chain, xs) for xs in inputs]
        for neighbor in neighbors(example.chain, world.library.operations):
            if [run(neighbor, xs) for xs in inputs] == wanted:
                for xs in other_lists():
                    assert run(neighbor, xs) == run(example.chain, xs), (describe(example.chain), describe(neighbor))
            else:
                num_wrong += 1
    assert num_wrong > 500
