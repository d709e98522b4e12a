import ast

import pytest

from ibft.errors import UserError
from ibft.worlds.chains import ChainsConfig, World, make_world
from ibft.worlds.library import OPERATIONS, Step, make_library
from ibft.worlds.probes import behavior, is_sound
from ibft.worlds.tasks import Example, describe

SETTINGS = [
    ChainsConfig(),
    ChainsConfig(seed=5, num_train=150, num_test=20, num_dev=20),
    ChainsConfig(seed=1, min_depth=3, max_depth=3, num_phrasings=1, comments=False, num_train=200),
    ChainsConfig(min_depth=1, max_depth=6, num_phrasings=4, num_train=300, num_dev=5, num_test=40),
    ChainsConfig(min_depth=2, max_depth=2, num_train=400, num_dev=10, num_test=30),
]


def compositions(examples: list[Example]) -> list[tuple[str, ...]]:
    return [tuple(step.key for step in example.chain) for example in examples]


@pytest.fixture(scope="module", params=SETTINGS, ids=lambda config: f"{config.min_depth}-{config.max_depth}")
def made(request: pytest.FixtureRequest) -> tuple[ChainsConfig, World]:
    return request.param, make_world(request.param)


def test_the_splits_share_no_composition_no_program_and_no_name(made: tuple[ChainsConfig, World]) -> None:
    _, world = made
    held_out = world.test + world.dev
    assert len(set(compositions(held_out))) == len(held_out)
    assert not set(compositions(held_out)) & set(compositions(world.train))
    behaviors = [behavior(example.chain) for example in held_out]
    assert len(set(behaviors)) == len(held_out)
    assert not set(behaviors) & {behavior(example.chain) for example in world.train}
    assert not {example.name for example in held_out} & {example.name for example in world.train}


def test_settings_are_what_is_made(made: tuple[ChainsConfig, World]) -> None:
    config, world = made
    assert (len(world.train), len(world.dev), len(world.test)) == (config.num_train, config.num_dev, config.num_test)
    everything = world.train + world.dev + world.test
    assert len({example.id for example in everything}) == len(everything)
    assert {len(example.chain) for example in everything} == set(range(config.min_depth, config.max_depth + 1))
    assert all(is_sound(example.chain) for example in everything)
    operations = OPERATIONS[: config.num_operations]
    assert {step.key for example in world.train for step in example.chain} == {op.key for op in operations}
    assert world.library.operations == operations
    texts = " ".join(example.docstring.lower() for example in everything)
    for operation in operations:
        spoken = [phrasing.partition("{n}")[0] in texts for phrasing in operation.phrasings]
        assert all(spoken[: config.num_phrasings])
    assert ("negate each" in texts, "multiply each by minus one" in texts) == (True, config.num_phrasings == 4)


def test_programs_are_valid_and_named_as_they_say(made: tuple[ChainsConfig, World]) -> None:
    _, world = made
    for example in world.train[:50] + world.test:
        importing, function = ast.parse(world.prompt(example) + world.completion(example)).body
        assert ast.unparse(importing) == f"from {world.library.name} import *"
        assert isinstance(function, ast.FunctionDef)
        assert function.name == example.name
        assert ast.get_docstring(function) == example.docstring
        assert len(function.body) == 2 + len(example.chain)


@pytest.mark.parametrize("comments", [False, True])
def test_a_task_reads_as_it_is_meant(comments: bool) -> None:
    library = make_library(0, 12)
    world = World(library, comments, [], [], [])
    chain = (Step("evens"), Step("add", 3), Step("reverse"))
    example = Example("x", "calm_fox", chain, ("keep the even numbers", "add three to each", "reverse the order"))
    assert world.prompt(example) == (
        f"from {library.name} import *\n\n\ndef calm_fox(xs):\n"
        '    """First keep the even numbers, then add three to each, then reverse the order."""\n'
    )
    lines = [
        "    # keep the even numbers\n",
        f"    xs = {library.names['evens']}(xs)\n",
        "    # add three to each\n",
        f"    xs = {library.names['add']}(xs, 3)\n",
        "    # reverse the order\n",
        f"    xs = {library.names['reverse']}(xs)\n",
        "    return xs\n",
    ]
    assert world.completion(example) == "".join(line for line in lines if comments or "#" not in line)
    assert example._replace(chain=chain[:1], clauses=example.clauses[:1]).docstring == "Keep the even numbers."
    assert describe(chain) == "evens | add 3 | reverse"


def test_a_world_is_a_function_of_its_settings_and_grows_at_its_end() -> None:
    small = ChainsConfig(num_train=100, num_dev=10, num_test=10)
    world = make_world(small)
    assert make_world(small) == world
    larger = make_world(ChainsConfig(num_train=200, num_dev=10, num_test=10))
    assert larger.train[:100] == world.train
    assert (larger.dev, larger.test) == (world.dev, world.test)
    other = make_world(ChainsConfig(seed=1, num_train=100, num_dev=10, num_test=10))
    assert not set(compositions(other.test)) <= set(compositions(world.test))
    assert other.library == world.library
    renamed = make_world(ChainsConfig(library_seed=1, num_train=100, num_dev=10, num_test=10))
    assert renamed.test == world.test
    assert renamed.library != world.library


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (ChainsConfig(min_depth=1, max_depth=1, num_dev=6, num_test=6), "no chain of 1 operations is left for train"),
        (ChainsConfig(min_depth=2, max_depth=2, num_test=200), "no chain of 2 operations is left for test"),
        (ChainsConfig(num_train=2), "num_train is 2, and train then never shows"),
    ],
)
def test_worlds_that_cannot_be_split_are_refused(config: ChainsConfig, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        make_world(config)


def test_names_may_run_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ibft.worlds.chains.NOUNS", ("fox",))
    with pytest.raises(UserError, match="no name of a function is left for test"):
        make_world(ChainsConfig())


def test_depths_must_be_in_order() -> None:
    with pytest.raises(ValueError, match="min_depth is 4 and max_depth 3"):
        ChainsConfig(min_depth=4, max_depth=3)
