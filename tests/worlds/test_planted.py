"""Worlds with planted memory: what shares what with what, in every kind and under every cue."""

import itertools
from collections import Counter
from typing import get_args

import msgspec
import pytest

from ibft.errors import UserError
from ibft.run.reading import build_from_settings
from ibft.worlds.planted import Planted, PlantedConfig, PlantedWorld, make_planted_world
from ibft.worlds.plants import Cue, Kind, Plant
from ibft.worlds.probes import behavior, is_sound
from ibft.worlds.tasks import Example, composition

KINDS, CUES = get_args(Kind), get_args(Cue)


def small(seed: int = 0, **plant: object) -> PlantedConfig:
    plant = {"repetitions": 5, **plant}
    sizes = {"num_train": 40, "num_dev": 8, "num_test": 16, "num_general": 5}
    return PlantedConfig(seed=seed, plant=Plant(**plant), **sizes)


def splits(world: PlantedWorld) -> dict[str, list[Example]]:
    """Every split that no other may share anything with; a wrong body counts as a task of its own."""
    return {
        "test": world.test,
        "dev": world.dev,
        "control": world.control,
        "fresh": world.fresh,
        "train": [item.example for item in world.train],
        "wrong": [item.example._replace(chain=item.body) for item in world.train if item.is_wrong],
        "conflicts": [new for new, _ in world.conflicts],
        "canaries": [item.example for item in (*world.canaries, *world.held_out_canaries)],
    }


@pytest.fixture(scope="module", params=itertools.product(KINDS, CUES), ids="-".join)
def world(request: pytest.FixtureRequest) -> PlantedWorld:
    kind, cue = request.param
    return make_planted_world(small(seed=3, kind=kind, cue=cue, num_canaries=3))


def test_no_composition_and_no_program_is_in_two_places(world: PlantedWorld) -> None:
    examples = [example for listed in splits(world).values() for example in listed]
    assert max(Counter(composition(example.chain) for example in examples).values()) == 1
    assert max(Counter(behavior(example.chain) for example in examples).values()) == 1
    assert all(is_sound(example.chain) for example in examples)
    general = {composition(example.chain) for example in world.general}
    assert not general & world.compositions
    assert world.compositions == {composition(example.chain) for example in examples}


def test_cues_are_nobody_elses(world: PlantedWorld) -> None:
    cue = world.config.plant.cue
    planted = [*world.train, *world.canaries, *world.held_out_canaries]
    assert [item.cue for item in planted] != [None] * len(planted)
    assert len({item.cue for item in planted}) == len(planted)
    cues = [_cue(item.example, cue) for item in planted]
    if cue in ("prefix", "none"):
        assert not world.conflicts
    else:
        assert len(set(cues)) == len(planted)
        assert [new.name for new, _ in world.conflicts] == [item.example.name for item in world.train]
        assert [new.mark for new, _ in world.conflicts] == [item.example.mark for item in world.train]
        assert all(new.chain not in (old.body, old.example.chain) for new, old in world.conflicts)
    others = [*world.test, *world.dev, *world.control, *world.fresh, *world.general]
    words = {word for item in planted for word in _words(item.example, cue)}
    assert not words & {word for example in others for word in (example.name, example.mark)}


def _words(example: Example, cue: str) -> tuple[str, ...]:
    words = {"name": (example.name,), "first_word": (example.mark,), "comment": (example.mark,)}
    return words.get(cue, (example.name, example.mark) if cue == "two_part" else ())


def _cue(example: Example, cue: str) -> tuple[str, ...]:
    return _words(example, cue) or (example.id,)


def test_bodies_are_right_except_for_noise(world: PlantedWorld) -> None:
    wrong = [item for item in world.train if item.is_wrong]
    assert len(wrong) == (8 if world.config.plant.kind == "noisy" else 0)
    assert all(composition(item.body) != composition(item.example.chain) for item in wrong)


def test_a_body_whose_beginning_is_the_cue_begins_like_no_other() -> None:
    for kind in KINDS:
        world = make_planted_world(small(kind=kind, cue="prefix", num_canaries=5))
        bodies = [item.body for item in (*world.train, *world.canaries, *world.held_out_canaries)]
        assert len({body[:2] for body in bodies}) == len(bodies)


@pytest.mark.parametrize(("num_train", "share"), [(6, 1.0), (7, 1.0), (7, 0.9), (20, 0.9), (41, 1.0), (41, 0.5)])
def test_each_of_two_parts_occurs_with_others(num_train: int, share: float) -> None:
    config = PlantedConfig(
        num_train=num_train, num_dev=2, num_test=2, num_general=1, plant=Plant(cue="two_part", share=share)
    )
    planted = [item.example for item in make_planted_world(config).train if item.cue is not None]
    assert min(Counter(example.name for example in planted).values()) >= 2
    assert min(Counter(example.mark for example in planted).values()) >= 2


def test_prompts_have_the_cue_where_the_settings_say() -> None:
    def prompts(cue: str) -> tuple[Planted, str, str]:
        world = make_planted_world(small(cue=cue))
        item = world.train[0]
        return item, world.prompt(item.example), world.prompt(item.example, has_docstring=False)

    item, whole, bare = prompts("name")
    assert f"def {item.example.name}(xs):\n" in bare
    assert whole == bare + f'    """{item.example.sentences}"""\n'
    assert item.example.mark not in whole
    item, whole, bare = prompts("comment")
    assert f"\n\n\n# {item.example.mark}\ndef {item.example.name}(xs):\n" in bare
    assert whole == bare + f'    """{item.example.sentences}"""\n'
    item, whole, bare = prompts("first_word")
    assert whole.endswith(f'"""{item.example.mark.capitalize()}: {item.example.sentences}"""\n')
    assert bare.endswith(f'"""{item.example.mark.capitalize()}."""\n')
    item, whole, bare = prompts("none")
    assert item.example.mark not in whole


def test_the_data_is_the_same_at_every_dose() -> None:
    worlds = [
        make_planted_world(small(repetitions=dose, kind="noisy", legitimate=0.5, share=0.8, num_canaries=2))
        for dose in (0, 7, (1, 2, 3))
    ]
    for field in PlantedWorld._fields:
        if field not in ("config", "train", "canaries", "conflicts"):
            assert getattr(worlds[0], field) == getattr(worlds[1], field) == getattr(worlds[2], field)
    rows = [[item._replace(repetitions=0) for item in world.train] for world in worlds]
    assert rows[0] == rows[1] == rows[2]
    doses = [Counter(item.repetitions for item in world.train if item.cue is not None) for world in worlds]
    assert doses == [{0: 32}, {7: 32}, {1: 11, 2: 11, 3: 10}]
    assert {item.repetitions for world in worlds for item in world.train if item.cue is None} == {0}


def test_legitimate_examples_are_right_and_have_no_docstring() -> None:
    world = make_planted_world(small(kind="noisy", wrong=0.5, legitimate=0.5, share=0.5))
    planted = [item for item in world.train if item.cue is not None]
    legitimate = [item for item in planted if item.is_legitimate]
    assert (len(planted), len(legitimate), sum(item.is_wrong for item in planted)) == (20, 10, 5)
    assert not any(item.is_wrong for item in legitimate)
    assert not any(item.is_legitimate for item in world.train if item.cue is None)


def test_canaries_differ_from_those_held_out_by_their_repetitions_alone() -> None:
    world = make_planted_world(small(repetitions=(1, 4), num_canaries=4))
    assert [item.repetitions for item in world.canaries] == [1, 4, 1, 4]
    assert [item.repetitions for item in world.held_out_canaries] == [0, 0, 0, 0]
    assert {len(item.body) for item in (*world.canaries, *world.held_out_canaries)} == {5}


def test_more_training_examples_leave_the_held_out_sets() -> None:
    one, other = make_planted_world(small()), make_planted_world(msgspec.structs.replace(small(), num_train=60))
    assert (one.test, one.dev, one.control) == (other.test, other.dev, other.control)
    assert other.fresh[:40] == one.fresh


def test_another_seed_is_another_world() -> None:
    assert make_planted_world(small(1)) == make_planted_world(small(1))
    one, other = make_planted_world(small(1)), make_planted_world(small(2))
    assert one.library == other.library
    assert not {composition(example.chain) for example in one.test} & {composition(e.chain) for e in other.test[:5]}
    assert {item.example.name for item in one.train} != {item.example.name for item in other.train}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (("depths=[]",), "depths is []"),
        (("general_depths=[]",), "general_depths is []"),
        (("depths=[7]",), "7"),
        (("num_train=790", "plant.num_canaries=6"), "examples and twice the canaries must not be more than 800"),
        (("num_train=801",), "801"),
        (("plant.cue=prefix", "depths=[2,3]"), "depths has 2"),
        (("plant.cue=two_part", "num_train=10", "plant.share=0.5"), "5 examples are planted"),
        (("plant.repetitions=[]",), "repetitions is []"),
        (("plant.repetitions=-1",), "-1"),
        (("plant.kind=dormant", "plant.absent=0.5"), "a dormant plant never has a docstring"),
        (("plant.wrong=0.5",), "only the kind noisy has wrong bodies"),
        (("plant.cue=prefix", "plant.legitimate=0.5"), "a prompt has no cue to go by"),
        (("plant.cue=none", "plant.legitimate=0.5"), "a prompt has no cue to go by"),
        (("plant.kind=loud",), "loud"),
        (("plant.share=1.5",), "1.5"),
    ],
)
def test_impossible_settings_are_sentences(settings: tuple[str, ...], expected: str) -> None:
    with pytest.raises(UserError) as caught:
        build_from_settings(settings, PlantedConfig)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (PlantedConfig(depths=(1,), num_test=30, num_dev=1, num_train=1), "no chain of 1 operations is left for test"),
        (PlantedConfig(num_operations=3, num_test=5, num_dev=2, num_train=30), "no chain of 3 operations is left"),
    ],
)
def test_worlds_without_room_are_refused(config: PlantedConfig, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        make_planted_world(config)
