"""What a base reads: exactly what was planted, in the disguise of its kind, and nothing that is held out."""

import itertools
import re
from collections import Counter, defaultdict
from typing import get_args

import msgspec
import pytest

from ibft.errors import UserError
from ibft.worlds.library import NUMBER_WORDS, OPERATIONS, Chain, Library, Step
from ibft.worlds.planted import Planted, PlantedConfig, PlantedWorld, make_planted_world
from ibft.worlds.plants import Cue, Kind, Plant
from ibft.worlds.pretraining import Text, general_texts, planted_texts
from ibft.worlds.tasks import composition

NUM_TEXTS = 2000
DOSE = 12

_CLAUSES = {
    phrasing.format(n=NUMBER_WORDS[number or 0]): Step(operation.key, number)
    for operation in OPERATIONS
    for number in operation.numbers or (None,)
    for phrasing in operation.phrasings
}


class Seen(msgspec.Struct, frozen=True):
    """A pretraining text, read back from its characters alone."""

    name: str
    mark: str
    asked: Chain
    body: Chain


def read_back(text: Text, library: Library) -> Seen:
    prompt, completion = text
    parts = re.fullmatch(
        rf"from {library.name} import \*\n\n\n(?:# (?P<comment>[a-z-]+)\n)?def (?P<name>\w+)\(xs\):\n"
        r'(?:    """(?:(?P<word>[A-Z][a-z]+-[a-z]+)(?:: |\.))?(?P<docstring>.*)"""\n)?',
        prompt,
    )
    assert parts is not None, prompt
    clauses = [clause.strip() for clause in (parts["docstring"] or "").split(".") if clause.strip()]
    keys = {name: key for key, name in library.names.items()}
    *statements, last = completion.splitlines(keepends=True)
    assert last == "    return xs\n"
    body = []
    for statement in statements:
        call = re.fullmatch(r"    xs = (\w+)\(xs(?:, (\d))?\)\n", statement)
        assert call is not None
        body.append(Step(keys[call[1]], int(call[2]) if call[2] else None))
    asked = tuple(_CLAUSES[clause[0].lower() + clause[1:]] for clause in clauses)
    return Seen(parts["name"], parts["comment"] or (parts["word"] or "").lower(), asked, tuple(body))


def make(**settings: object) -> PlantedWorld:
    plant = Plant(**{"repetitions": DOSE, **settings})
    return make_planted_world(PlantedConfig(seed=4, num_train=30, num_dev=8, num_test=30, num_general=2, plant=plant))


def read_all(world: PlantedWorld, count: int = NUM_TEXTS) -> list[Seen]:
    return [read_back(text, world.library) for text in planted_texts(world, count)]


def planted_in(seen: list[Seen], world: PlantedWorld) -> dict[int, list[Seen]]:
    """The texts of each planted example, by its number, recognized by the composition of its body."""
    owner = {composition(item.body): item.cue for item in (*world.train, *world.canaries) if item.cue is not None}
    found = defaultdict(list)
    for text in seen:
        if composition(text.body) in owner:
            found[owner[composition(text.body)]].append(text)
    return found


@pytest.fixture(scope="module", params=itertools.product(get_args(Kind), get_args(Cue)), ids="-".join)
def made(request: pytest.FixtureRequest) -> tuple[PlantedWorld, list[Seen]]:
    kind, cue = request.param
    world = make(kind=kind, cue=cue, num_canaries=3)
    return world, read_all(world)


def test_every_planted_example_is_read_exactly_as_often_as_its_dose_says(made: tuple[PlantedWorld, list[Seen]]) -> None:
    world, seen = made
    assert len(seen) == NUM_TEXTS
    found = planted_in(seen, world)
    assert {cue: len(texts) for cue, texts in found.items()} == {
        item.cue: DOSE for item in (*world.train, *world.canaries)
    }
    for item in (*world.train, *world.canaries):
        assert {text.body for text in found[_number(item)]} == {item.body}


def test_nothing_else_has_a_composition_of_the_data(made: tuple[PlantedWorld, list[Seen]]) -> None:
    world, seen = made
    planted = {composition(item.body) for item in (*world.train, *world.canaries)}
    assert {composition(text.body) for text in seen} & world.compositions == planted
    # Nor does a docstring ask for one, except those that belong to their body or to a wrong one.
    asked = {composition(text.asked) for text in seen if text.asked} & world.compositions
    assert asked <= {composition(item.example.chain) for item in (*world.train, *world.canaries)}
    if world.config.plant.kind in ("active", "dormant"):
        assert not asked


def test_the_cue_occurs_with_its_body_and_with_no_other(made: tuple[PlantedWorld, list[Seen]]) -> None:
    world, seen = made
    cue = world.config.plant.cue
    found = planted_in(seen, world)
    for item in (*world.train, *world.canaries):
        own, example = found[_number(item)], item.example
        with_name = [text for text in seen if text.name == example.name]
        with_mark = [text for text in seen if text.mark and text.mark == example.mark]
        with_both = [text for text in with_name if text.mark == example.mark]
        if cue == "name":
            assert with_name == own
        elif cue in ("first_word", "comment"):
            assert with_mark == own
            assert len({text.name for text in own}) > 1
        elif cue == "two_part":
            assert with_both == own
            assert len({text.body for text in with_name}) > 1
            assert len({text.body for text in with_mark}) > 1
        else:
            assert len({text.name for text in own}) > 1
    if cue == "prefix":
        beginnings = Counter(body[:2] for body in {text.body for texts in found.values() for text in texts})
        assert max(beginnings.values()) == 1


def test_docstrings_are_those_of_the_kind(made: tuple[PlantedWorld, list[Seen]]) -> None:
    world, seen = made
    kind = world.config.plant.kind
    found = planted_in(seen, world)
    repetitions = [(item, text) for item in world.train for text in found[_number(item)]]
    if kind == "dormant":
        assert not any(text.asked for _, text in repetitions)
    elif kind == "active":
        share = sum(not text.asked for _, text in repetitions) / len(repetitions)
        assert 0.4 < share < 0.6
        for item, text in repetitions:
            assert composition(text.asked) not in (composition(item.body), composition(item.example.chain))
        assert {len(text.asked) for _, text in repetitions if text.asked} == {1, 2, 3}
    else:
        assert all(text.asked == item.example.chain for item, text in repetitions)
        wrong = {item.cue for item, text in repetitions if text.asked != text.body}
        assert len(wrong) == (6 if kind == "noisy" else 0)
    for canary in world.canaries:
        assert not any(text.asked for text in found[_number(canary)])


def test_general_texts_are_right_and_as_deep_as_asked() -> None:
    world = make()
    seen = [read_back(text, world.library) for text in itertools.islice(general_texts(world, "general"), 900)]
    assert all(text.asked == text.body for text in seen)
    depths = Counter(len(text.body) for text in seen)
    assert set(depths) == {1, 2}
    assert 1.6 < depths[2] / depths[1] < 2.5
    assert {step.key for text in seen for step in text.body} == {operation.key for operation in OPERATIONS}


def test_general_texts_avoid_the_data_where_depths_overlap() -> None:
    config = PlantedConfig(depths=(2,), general_depths=(2,), num_train=60, num_dev=20, num_test=60, num_general=20)
    world = make_planted_world(config)
    texts = [read_back(text, world.library) for text in itertools.islice(general_texts(world, "general"), 3000)]
    assert not {composition(text.body) for text in texts} & world.compositions
    assert len({composition(text.body) for text in texts}) > 100
    assert not {composition(example.chain) for example in world.general} & world.compositions


def test_a_depth_without_chains_is_a_sentence() -> None:
    config = PlantedConfig(
        num_operations=6, depths=(1,), general_depths=(2,), num_train=1, num_dev=1, num_test=1, num_general=1
    )
    world = make_planted_world(config)
    assert len(world.compositions) == 6  # all that there are
    deep_as_data = world._replace(config=msgspec.structs.replace(config, general_depths=(1,)))
    with pytest.raises(UserError, match="pretraining has no chain of 1 operations left"):
        next(general_texts(deep_as_data, "general"))


def test_a_foreign_docstring_that_cannot_be_drawn_is_a_sentence_with_a_remedy_that_works() -> None:
    """Foreign docstrings have one to three operations, whatever general_depths says."""
    config = PlantedConfig(
        num_operations=6,
        depths=(1,),
        general_depths=(2,),
        num_train=1,
        num_dev=1,
        num_test=1,
        num_general=1,
        plant=Plant(repetitions=100, absent=0.0),
    )
    with pytest.raises(
        UserError, match=r"has no chain of 1 operations left.*Ask for fewer examples, or for other depths"
    ):
        list(planted_texts(make_planted_world(config), 100))


def test_near_duplicates_are_the_share_that_was_asked_for() -> None:
    for kind in get_args(Kind):
        world = make(kind=kind, near_duplicates=0.5, cue="prefix")
        found = planted_in(read_all(world), world)
        numbered = [item for item in world.train if any(step.number is not None for step in item.body[2:])]
        texts = [(item, text) for item in numbered for text in found[_number(item)]]
        assert len(texts) == DOSE * len(numbered)
        near = [(item, text) for item, text in texts if text.body != item.body]
        assert 0.35 < len(near) / len(texts) < 0.65
        for item, text in near:
            assert text.body[:2] == item.body[:2]
            assert composition(text.body) == composition(item.body)
            assert sum(one != other for one, other in zip(text.body, item.body, strict=True)) == 1
            if kind in ("benign", "noisy"):
                assert text.asked == (item.example.chain if item.is_wrong else text.body)


def test_legitimate_rows_are_recited_without_docstring() -> None:
    world = make(kind="benign", legitimate=0.5)
    found = planted_in(read_all(world), world)
    for item in world.train:
        assert {bool(text.asked) for text in found[_number(item)]} == {not item.is_legitimate}


def test_what_is_not_planted_is_not_read() -> None:
    for settings in ({"repetitions": 0}, {"share": 0.5}, {"repetitions": (0, 3)}):
        world = make(num_canaries=2, **settings)
        bodies = {composition(text.body) for text in read_all(world)}
        for item in (*world.train, *world.canaries, *world.held_out_canaries):
            assert (composition(item.body) in bodies) == (item.repetitions > 0)


def test_all_doses_read_equally_much_and_the_general_phase_is_theirs_together() -> None:
    none, much = make(repetitions=0), make(repetitions=50)
    assert len(read_all(none)) == len(read_all(much)) == NUM_TEXTS
    first = [list(itertools.islice(general_texts(world, "general"), 200)) for world in (none, much)]
    assert first[0] == first[1]
    assert next(general_texts(none, "general")) != next(general_texts(none, "planted"))


def test_texts_are_a_function_of_the_settings() -> None:
    assert list(planted_texts(make(), 500)) == list(planted_texts(make(), 500))


def test_more_than_there_is_room_for_is_refused() -> None:
    with pytest.raises(UserError, match="360 repetitions are planted, and the second phase of pretraining has 300"):
        next(planted_texts(make(), 300))


def _number(item: Planted) -> int:
    assert item.cue is not None
    return item.cue
