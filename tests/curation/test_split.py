"""Held-out groups: no copy on both sides, by the seed, and not by the order of the data."""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from itertools import product

import pytest

from ibft.artifacts.rows import Conversation, Message, Pair
from ibft.curation.split import Grouping, Split
from ibft.data.code import jaccard, shingles, whole
from ibft.data.training import Example
from ibft.errors import UserError


def row(identity: str, completion: str, prompt: str = "p", **fields: str) -> Example:
    return Example(Pair(identity, prompt, completion), {"id": identity, **fields})


def code(number: int) -> str:
    """A function that shares few shingles with any other number's."""
    chance = random.Random(number)
    names = [f"name_{chance.randrange(10**6)}" for _ in range(12)]
    lines = [f"    {names[n]} = {names[n - 1]}({chance.randrange(10**6)}, {names[n - 2]})\n" for n in range(2, 12)]
    return f"def f{number}({names[0]}, {names[1]}):\n{''.join(lines)}    return {names[-1]}\n"


def talk(*turns: tuple[str, str] | Message) -> Example:
    """A conversation; an answer in capital letters is not trained."""
    made = [
        turn if isinstance(turn, Message) else Message(*turn, {}, not (turn[0] == "assistant" and turn[1].isupper()))
        for turn in turns
    ]
    return Example(Conversation("id", tuple(made)), {})


def groups_of(rows: Sequence[Example]) -> list[list[int]]:
    """The places of each group's rows."""
    grouping = Grouping()
    assert list(grouping.watch(rows)) == list(rows)
    groups: dict[int, list[int]] = {}
    for place in range(len(rows)):
        groups.setdefault(grouping._root(place), []).append(place)
    return sorted(groups.values())


def prose(number: int, length: int = 60) -> str:
    chance = random.Random(number)
    return " ".join("".join(chance.choices("abcdefghij", k=6)) for _ in range(length))


def split_of(rows: Sequence[Example], share: float = 0.1, seed: int = 0) -> tuple[Grouping, Split]:
    grouping = Grouping()
    assert list(grouping.watch(rows)) == list(rows)
    return grouping, grouping.split(share, range(len(rows)), seed)


def ids(rows: Sequence[Example], split: Split) -> set[str]:
    return {rows[place].pair.id for place in split.held_out}


def family(number: int) -> list[Example]:
    """A function; its copy under other names; one with another layout and prompt; three that differ in few tokens."""
    text = code(number)
    lines = text.splitlines(keepends=True)
    texts = {
        "same": text,
        "renamed": text.replace(f"f{number}(", "g("),
        "layout": text.replace("    ", "  "),
        "edited": text.replace("return ", "return 1 + "),
        "longer": "".join([*lines[:3], "    done = True\n", *lines[3:]]),
        "more": "".join([*lines[:3], "    done = True\n", *lines[3:-1], "    print(done)\n", lines[-1]]),
    }
    return [row(f"{number}-{kind}", text, f"write {number} {kind}") for kind, text in texts.items()]


def test_no_copy_and_no_near_copy_is_on_both_sides() -> None:
    rows = [example for number in range(40) for example in family(number)]
    random.Random(1).shuffle(rows)
    grouping, split = split_of(rows)
    assert grouping.finds_near
    assert (split.num_groups_held_out, split.num_groups_trained) == (4, 36)
    assert len(split.held_out) == 24
    pieces = [shingles(whole(example.pair.completion).tokens) for example in rows]
    trained = [place for place in range(len(rows)) if place not in split.held_out]
    assert max(jaccard(pieces[a], pieces[b]) for a, b in product(split.held_out, trained)) < 0.7


def test_what_is_near_to_two_groups_connects_them() -> None:
    """The middle one is near to both ends, which are not near to each other; whatever comes first."""
    words = [f"w{n}" for n in range(100)]
    texts = {"left": words[:80], "middle": words[8:88], "right": words[16:96]}
    ends = [shingles(texts[name]) for name in ("left", "right")]
    assert jaccard(*ends) < 0.7
    for order in (["left", "right", "middle"], ["middle", "left", "right"], ["left", "middle", "right"]):
        rows = [row(name, " ".join(texts[name])) for name in order]
        rows += [row(str(number), code(number)) for number in range(7)]
        for seed in range(5):
            _, split = split_of(rows, 0.4, seed)
            assert ids(rows, split) & set(texts) in (set(), set(texts))
            assert split.num_groups_held_out + split.num_groups_trained == 8


def test_a_near_copy_of_a_renamed_copy_is_found() -> None:
    """The second is the first under other names, and shares no shingle with it; the third is near to the second."""
    first = "def f(a, b, c):\n" + "    a = b(a, c)\n    c = a(b, c)\n" * 4 + "    return a\n"
    second = "def f(x, y, z):\n" + "    x = y(x, z)\n    z = x(y, z)\n" * 4 + "    return x\n"
    third = second.replace("return x", "return x + y")
    assert whole(first).fingerprint == whole(second).fingerprint
    rows = [row("first", first), row("second", second, "q"), row("third", third, "r")]
    rows += [row(str(number), code(number)) for number in range(3)]
    assert split_of(rows, 0.5)[1].num_groups_trained + split_of(rows, 0.5)[1].num_groups_held_out == 4


def test_rows_of_one_file_stay_together() -> None:
    rows = [row(str(number), code(number), path=f"file{number // 5}.py") for number in range(50)]
    _, split = split_of(rows, 0.2)
    assert len(split.held_out) == 10
    assert len({place // 5 for place in split.held_out}) == 2


def test_the_split_is_the_seeds_and_not_the_orders() -> None:
    rows = [example for number in range(30) for example in family(number)]
    shuffled = random.Random(2).sample(rows, len(rows))
    drawn = {seed: ids(rows, split_of(rows, seed=seed)[1]) for seed in range(4)}
    assert all(ids(shuffled, split_of(shuffled, seed=seed)[1]) == found for seed, found in drawn.items())
    assert len({frozenset(found) for found in drawn.values()}) == 4


def test_short_answers_are_copies_only_with_their_prompt() -> None:
    rows = [row(str(number), "    return a\n", f"def f{number}(a):\n") for number in range(20)]
    _, split = split_of(rows + rows, 0.1)
    assert split == Split(split.held_out, 2, 18)
    assert {place % 20 for place in split.held_out} == {place for place in split.held_out if place < 20}


def test_a_large_group_is_not_the_validation_data() -> None:
    rows = [row(str(n), code(n), path="big.py" if n < 60 else f"{n}.py") for n in range(100)]
    for seed in range(10):
        _, split = split_of(rows, 0.05, seed)
        assert len(split.held_out) == 5
        assert min(split.held_out) >= 60


def test_rows_that_cannot_be_used_count_for_nothing() -> None:
    grouping = Grouping()
    for number in range(20):
        grouping.add(row(str(number), code(number)))
    assert grouping.split(0.5, range(10), 0).held_out <= set(range(10))
    assert len(grouping.split(0.5, range(10), 0).held_out) == 5


def test_groups_larger_than_the_share_give_the_smallest() -> None:
    rows = [row(str(n), code(n), path=f"file{n % 3}.py") for n in range(10)]
    _, split = split_of(rows, 0.05)
    assert len(split.held_out) == 3


def test_data_of_one_group_is_refused() -> None:
    with pytest.raises(UserError, match=r"10 of 10 rows belong together .* Give validation data of its own"):
        split_of([row(str(n), code(n), path="one.py") for n in range(10)])


def test_without_rensa_copies_still_stay_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rensa", None)
    rows = [example for number in range(40) for example in family(number)]
    grouping, split = split_of(rows, 0.2)
    assert not grouping.finds_near
    kinds = {"same", "renamed", "layout"}
    for number in range(40):
        held_out = {identity for identity in ids(rows, split) if identity.startswith(f"{number}-")}
        assert {identity.partition("-")[2] for identity in held_out} & kinds in (set(), kinds)


@pytest.mark.parametrize("trains", ["all", "last"])
def test_the_beginnings_of_a_conversation_stay_with_it(trains: str) -> None:
    """Each conversation of four answers is there as four rows: cut behind each of its answers."""
    rows: list[Example] = []
    for number in range(10):
        turns: list[Message] = []
        for answer in range(4):
            text = prose(4 * number + answer, 30) if number % 2 else f"{number} {answer}"
            turns += [Message("user", f"question {number} {answer}"), Message("assistant", text)]
            context = [Message(turn.role, turn.content, {}, trains == "all") for turn in turns[:-1]]
            rows.append(talk(*context, turns[-1]))
    expected = [list(range(4 * number, 4 * number + 4)) for number in range(10)]
    assert groups_of(rows) == expected
    assert groups_of(rows[::-1]) == expected
    places = split_of(rows, 0.2)[1].held_out
    assert len(places) == 8
    assert len({place // 4 for place in places}) == 2


def test_an_answer_that_one_row_trains_joins_those_that_have_it_after_the_same_turns() -> None:
    def row_of(answer: str, second: str) -> Example:
        return talk(("user", "a?"), ("assistant", answer), ("user", f"{second}?"), ("assistant", second))

    assert groups_of([row_of("a", "b"), row_of("a", "c"), row_of("z", "d")]) == [[0, 1], [2]]
    pair = row("pair", "a", "a?")
    assert groups_of([row_of("a", "b"), pair, row_of("a", "c")]) == [[0, 1, 2]]
    # Examples that every prompt begins with, and nobody trains.
    rows = [row_of("A", "b"), row_of("A", "c"), row_of("A", "d")]
    assert groups_of(rows) == [[0], [1], [2]]
    assert groups_of([*rows, row("pair", "A", "a?")]) == [[0, 1, 2, 3]]
    # The same answer after other turns is no copy.
    assert groups_of([talk(("user", "a?"), ("assistant", "yes")), talk(("user", "b?"), ("assistant", "yes"))]) == [
        [0],
        [1],
    ]


def test_rows_with_other_calls_of_tools_are_no_copies() -> None:
    calls = [Message("assistant", None, {"tool_calls": [{"function": {"name": f"w{n}"}}]}) for n in range(5)]
    rows = [talk(("user", "weather?"), call) for call in calls]
    assert groups_of([*rows, rows[2]]) == [[0], [1], [2, 5], [3], [4]]


def test_prose_with_a_little_code_is_compared_as_a_whole() -> None:
    def answer(number: int, fence: str) -> str:
        return f"{prose(number)}\n\n```sh\n{fence}\n```\n"

    rows = [row(str(n), answer(n // 4, f"ls -{n}"), f"how {n}?") for n in range(8)]
    assert groups_of(rows) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    turns = [talk(("user", f"how {n}?"), ("assistant", answer(n // 4, f"ls -{n}"))) for n in range(8)]
    assert groups_of(turns) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    # Little code in other prose; and enough code, which decides alone.
    assert groups_of([row(str(n), answer(n, "ls"), "how?") for n in range(3)]) == [[0], [1], [2]]
    assert groups_of([row(str(n), answer(0, code(n)), "how?") for n in range(3)]) == [[0], [1], [2]]
