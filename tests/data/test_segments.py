"""The segments of prompts of many forms, and what they are exchanged for."""

from __future__ import annotations

import ast
from collections.abc import Sequence

import pytest

from ibft.artifacts.rows import Conversation, Message, Pair
from ibft.data.foreign import Donors
from ibft.data.functions import function_pairs
from ibft.data.segments import MAX_SEGMENTS, exchanged, segmented


def texts(prompt: str | Sequence[Message]) -> dict[str, list[str]]:
    """Each segment's parts as text."""
    pair = (
        Pair("p", prompt, "c") if isinstance(prompt, str) else Conversation("p", (*prompt, Message("assistant", "c")))
    )
    found = segmented(pair)
    return {kind: [found.text_of(found.parts[number]) for number in parts] for kind, parts in found.segments}


def test_a_function_with_everything() -> None:
    prompt = (
        "import os\nfrom x import y\n\n# Task: Amber lion\n# of two lines\n@cache\n@wrap(a=1)\n"
        "async def foo(a: dict[str, int] = {1: 2}, *, b=lambda x: x) -> str:  # note: c\n"
        '    """Amber-lion: first keep, e.g. this. Then add.\n\n    >>> foo(1)\n    2\n    """\n'
    )
    assert texts(prompt) == {
        "name": ["foo"],
        "signature": ["foo", "(a: dict[str, int] = {1: 2}, *, b=lambda x: x) -> str"],
        "docstring": ["Amber-lion", "first keep, e.g. this. Then add.\n\n    >>> foo(1)\n    2"],
        "label": ["Amber-lion"],
        "context": ["import os\nfrom x import y"],
        "comment": ["# Task: Amber lion\n# of two lines"],
        "decorator": ["@cache\n@wrap(a=1)"],
        "later sentences": ["first keep, e.g. this. Then add.\n\n    >>> foo(1)\n    2"],
    }


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("def f(x):\n", {"name": ["f"]}),  # the signature is all there is
        ("def f():\n    'One thing.'\n", {"docstring": ["One thing."], "sentence 1": ["One thing."]}),
        ('def f(x):\n    r"""Say \\d. Twice."""', {"sentence 1": ["Say \\d."], "sentence 2": ["Twice."]}),
        (
            "class A(B):\n    n = 1\n\n    def bär(self, ü='é'):\n        '''Gib ü. Und mehr.'''\n",
            {
                "name": ["bär"],
                "class": ["class A(B):\n    n = 1"],
                "sentence 1": ["Gib ü."],
                "sentence 2": ["Und mehr."],
            },
        ),
        ("    @property\n    def size(self):\n        'How many.'\n", {"name": ["size"], "decorator": ["@property"]}),
        (
            'def help(a):\n    return a\n\n\ndef go(b):\n    """Go on."""\n    b += 1\n',
            {"context": ["def help(a):\n    return a"], "name": ["go"], "body": ["b += 1"], "docstring": ["Go on."]},
        ),
        (
            "def f(\n    x,  # what: this\n    y,\n):\n    'Both.'\n",
            {"signature": ["f", "(\n    x,  # what: this\n    y,\n)"]},
        ),
        ('def f(x):\n    """Not closed', {}),
        (  # the comment's marks are not of its text: a foreign sentence in their place would leave it open
            "/* Build a mux. Take b when s is 1. */\nmodule top_module(input a);\n",
            {"description": ["Build a mux.", "Take b when s is 1."], "sentence 2": ["Take b when s is 1."]},
        ),
        (
            "// Build a mux. Take b when s is 1.\nmodule top_module(\n    input a,\n    output b\n);\n",
            {
                "name": ["top_module"],
                "signature": ["top_module", "(\n    input a,\n    output b\n)"],
                "description": ["Build a mux.", "Take b when s is 1."],
                "sentence 1": ["Build a mux."],
            },
        ),
        (
            "### Instruction:\nWrite it. Now.\n\n### Input:\n3 4\n\n### Response:\n",
            {"field instruction": ["Write it. Now."], "field input": ["3 4"]},
        ),
        (
            "Question: how many?\nContext: two of three.\n",
            {"field question": ["how many?"], "field context": ["two of three."]},
        ),
        ("Amber-lion: keep the first. Then go.", {"label": ["Amber-lion"], "sentence 1": ["keep the first."]}),
        ("Add two numbers. Be fast!\n\nuse Python", {"sentence 2": ["Be fast!"], "sentence 3": ["use Python"]}),
        ("One sentence only.", {}),
        ("", {}),
        ("x = (\r1", {}),
    ],
)
def test_prompts_of_other_forms(prompt: str, expected: dict[str, list[str]]) -> None:
    found = texts(prompt)
    assert {kind: found.get(kind) for kind in expected} == expected
    assert bool(found) is bool(expected) or prompt == "def f(x):\n"


def test_conversations() -> None:
    turns = (Message("system", "You help."), Message("user", "Hi"), Message("assistant", "Yo"))
    assert texts((*turns, Message("user", "Do this. Then that."))) == {
        "system": ["You help."],
        "earlier turns": ["Hi", "Yo"],
        "sentence 1": ["Do this."],
        "sentence 2": ["Then that."],
    }


def test_text_without_a_prompt_has_none() -> None:
    assert segmented(Pair("p", None, "import os\n")) == ((), (), ())


def test_there_are_at_most_eight() -> None:
    numbers = ("One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten")
    docstring = " ".join(f"{number}." for number in numbers)
    found = texts(f'def f(x):\n    """{docstring}"""\n')
    assert len(found) == MAX_SEGMENTS
    assert found["sentence 4"] == ["Four."]
    assert found["later sentences"] == ["Five. Six. Seven. Eight. Nine. Ten."]
    fields = "".join(f"Field {number}: it is {number}.\n" for number in numbers)
    assert list(texts(fields))[-1] == "later fields"
    code = "import os\n# c\n@d\ndef f(x):\n    '''Amber: one. Two. Three.'''\n    y = 1\n"
    found = texts((Message("system", "You help."), Message("user", "Hi"), Message("user", code)))
    assert len(found) == MAX_SEGMENTS
    assert list(found)[:4] == ["name", "signature", "docstring", "label"]
    assert set(found["other parts"]) > {"# c", "@d", "y = 1"}


def test_parts_never_overlap_and_an_exchange_touches_nothing_else() -> None:
    pairs = function_pairs("stdlib")[::7]
    for pair in pairs:
        found = segmented(pair)
        assert 2 <= len(found.segments) <= MAX_SEGMENTS, pair.id
        ends = [0, *(part.end for part in found.parts)]
        assert all(end <= part.start < part.end for end, part in zip(ends, found.parts, strict=False)), pair.id
        own = {number: found.text_of(part) for number, part in enumerate(found.parts)}
        assert exchanged(pair, found, own) == pair
        assert exchanged(pair, found, {}) == pair
        assert own[0] == pair.id.rpartition(":")[2]
    assert len(pairs) > 200


def test_an_exchange_in_a_conversation_leaves_the_other_turns() -> None:
    turns = (
        Message("system", None, {"note": 1}),
        Message("user", "Do this. Then that."),
        Message("assistant", "ok"),
        Message("user", "More. And more."),
        Message("assistant", "done"),
    )
    pair = Conversation("c", turns, ("tool",))
    found = segmented(pair)
    number = next(number for number, part in enumerate(found.parts) if part.kind == "sentence 2")
    other = exchanged(pair, found, {number: "Never."})
    assert other.turns == (*turns[:3], Message("user", "More. Never."), turns[4])
    assert other.tools == pair.tools


def test_foreign_code_is_never_own_and_stays_code() -> None:
    pairs = list(function_pairs("stdlib")[::23])
    donors = Donors(pairs, seed=5)
    num_lent = 0
    for pair in pairs:
        found = segmented(pair)
        lent = donors.lend(pair, found)
        for number, text in lent.items():
            assert " ".join(text.split()).lower() != " ".join(found.text_of(found.parts[number]).split()).lower()
        foreign = exchanged(pair, found, lent)
        ast.parse(f"{foreign.prompt}\n    pass\n")
        assert foreign.completion == pair.completion
        num_lent += len(lent)
    assert num_lent > 4 * len(pairs)


def test_duplicates_and_other_seeds() -> None:
    def function(name: str, docstring: str, body: str) -> Pair:
        return Pair(name, f'def {name}(x):\n    """{docstring}"""\n', f"    return {body}\n")

    own = function("own", "Add one. Go.", "x + 1")
    same_answer = function("same", "Please add one. Run.", "x + 1")
    long = "x * 7 + x * 6 + x * 5 + x * 4 + x * 3 + x * 2"
    code, copy = function("code", "Sum. Up.", long), function("code", "Other words. Yes.", f"{long}  # a comment")
    others = [function(f"f{n}", f"Do {n}. End {n}.", f"x - {n}") for n in range(9)]
    lent = Donors([own, same_answer], 0).lend(own, segmented(own))
    assert lent == {}
    assert Donors([code], 0).lend(copy, segmented(copy)) == {}
    found = segmented(own)
    one, two = (Donors([*others, same_answer], seed).lend(own, found) for seed in (0, 1))
    assert one != two
    assert one == Donors([*others, same_answer], 0).lend(own, found)
    names = [found.parts[number].kind for number in one]
    assert names == ["name", "sentence 1", "sentence 2"]  # the parameters are equal everywhere
    # All are of one donor, as far as it has them.
    assert one[2].replace("Do", "End") == one[3]


def test_what_a_donor_lacks_comes_from_another_or_stays() -> None:
    own = Pair("own", '# Cue\ndef own(x):\n    """One. Two. Three."""\n', "    return 1\n")
    short = Pair("short", 'def short(y):\n    \'Say """ here. It is\\n two.\'\n', "    return 2\n")
    found = segmented(own)
    lent = {found.parts[number].kind: text for number, text in Donors([short], 0).lend(own, found).items()}
    # No donor has a comment; one sentence would end the docstring; the third is a sentence of another place.
    assert lent == {
        "name": "short",
        "parameters": "(y)",
        "sentence 1": "It is\\n two.",
        "sentence 2": "It is\\n two.",
        "sentence 3": "It is\\n two.",
    }
