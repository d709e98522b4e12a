from __future__ import annotations

import pytest
from transformers import AutoTokenizer

from ibft.artifacts.rows import Conversation, Message, Pair, Problem
from ibft.generation.formats import NUM_EXAMPLES, applicable_formats, ask, draw_examples
from ibft.run.sections import FORMATS
from ibft.text.templates import ChatTemplate

OPEN = Problem(task_id="t/0", prompt='def f(x):\n    """Add 1."""\n', tests="", entry_point="f")
CLOSED = Problem(task_id="t/1", prompt="Write f, which adds 1.", tests="", entry_point="f")
PAIRS = [Pair(f"{n}", f"def g{n}(x):\n", f"    return x + {n}\n") for n in range(9)]
TURNS = [
    Conversation(
        "c",
        (
            Message("user", "Hi"),
            Message("assistant", "Yes?"),
            Message("user", "g"),
            Message("assistant", "def g(): pass"),
        ),
    )
]


@pytest.fixture(scope="module")
def chat(tiny_model_folder: object) -> ChatTemplate:
    return ChatTemplate(AutoTokenizer.from_pretrained(tiny_model_folder), {})


def test_formats_that_apply() -> None:
    assert applicable_formats(True, PAIRS) == FORMATS
    assert applicable_formats(False, PAIRS) == ("plain", "instruction", "examples")
    assert applicable_formats(False, TURNS) == ("plain", "instruction")  # turns need a template
    assert applicable_formats(True, []) == ("plain", "instruction", "chat", "chat_begun")


def test_texts_without_a_template() -> None:
    assert ask(OPEN, "plain", None).rendered.text == OPEN.prompt
    assert ask(OPEN, "instruction", None).rendered.text == OPEN.prompt + "\n"
    shown = ask(OPEN, "examples", None, PAIRS[:2])
    assert shown.rendered.text == ("def g0(x):\n    return x + 0\n\n\ndef g1(x):\n    return x + 1\n\n\n" + OPEN.prompt)
    assert {one.form for one in (ask(OPEN, "plain", None), shown)} == {"completion"}


def test_chats(chat: ChatTemplate) -> None:
    plain = ask(OPEN, "chat", chat)
    assert (plain.form, plain.begun) == ("chat", "")
    assert plain.rendered == chat.prompt(OPEN.prompt)
    begun = ask(OPEN, "chat_begun", chat)
    assert begun.rendered.is_chat
    assert begun.rendered.text.endswith("```python\n" + OPEN.prompt)
    assert begun.form == "completion"  # it goes on with the function that the prompt leaves open
    whole = ask(CLOSED, "chat_begun", chat)
    assert whole.rendered.text.endswith("```python\n")
    assert (whole.form, whole.begun) == ("chat", "```python\n")  # a program of its own


def test_examples_of_conversations_are_earlier_turns(chat: ChatTemplate) -> None:
    asked = ask(OPEN, "examples", chat, TURNS)
    assert asked.form == "chat"
    assert asked.rendered == chat.prompt([*TURNS[0].turns, Message("user", OPEN.prompt)])


def test_examples_with_fences_are_answered_with_fences() -> None:
    fenced = [Pair("f", "Write g.", "```python\ndef g(): pass\n```")]
    assert ask(CLOSED, "examples", None, fenced).form == "chat"


def test_examples_are_drawn_by_seed_among_the_short_ones() -> None:
    long = Pair("long", "x" * 2000, "y")
    first, again, other = (draw_examples([*PAIRS, long], seed) for seed in (0, 0, 1))
    assert first == again != other
    assert len(first) == NUM_EXAMPLES
    assert long not in draw_examples([long, PAIRS[0]], 0)
