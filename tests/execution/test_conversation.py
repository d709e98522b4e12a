from collections.abc import Iterator

import pytest

from ibft.execution.conversation import Conversation, Lost
from ibft.execution.isolation import detect_level
from ibft.execution.python_reach import Reach
from ibft.execution.sandbox import Limits, Sandbox

PROGRAM = """
def f(text, number):
    if number == 7:
        raise KeyError(text)
    if number == 8:
        import os
        os._exit(3)
    return text * number
"""


@pytest.fixture
def conversation() -> Iterator[Conversation]:
    with Sandbox(detect_level()) as sandbox:
        process = sandbox.run_python(Limits(cpu_s=10, wall_s=60, memory_mib=1024))
        yield Conversation(process, Reach(True, True, False))
        process.finish()


def test_calls_that_are_sent_ahead_are_answered_in_order(conversation: Conversation) -> None:
    function = conversation.load(PROGRAM, ["f"])["f"]
    rows = [[str(number), number % 7] for number in range(500)]
    assert list(function.__each__(rows)) == [text * number for text, number in rows]
    assert conversation.is_exact


def test_calls_that_are_sent_ahead_never_fill_the_channel(conversation: Conversation) -> None:
    # Either side alone would block: the questions of one row and the answers of another exceed the socket's buffer.
    function = conversation.load(PROGRAM, ["f"])["f"]
    rows = [["a" * 100, 6000], ["b" * 1_000_000, 2], ["c" * 100, 6000], ["d" * 15_000, 1]] * 10
    assert [len(text) for text in function.__each__(rows)] == [600_000, 2_000_000, 600_000, 15_000] * 10


def test_what_a_call_raises_is_raised_at_its_row(conversation: Conversation) -> None:
    function = conversation.load(PROGRAM, ["f"])["f"]
    answers = function.__each__([["a", 1], ["b", 2], ["c", 7], ["d", 1]])
    assert [next(answers), next(answers)] == ["a", "bb"]
    with pytest.raises(KeyError, match="c"):
        next(answers)


def test_a_program_that_ends_is_lost(conversation: Conversation) -> None:
    function = conversation.load(PROGRAM, ["f"])["f"]
    with pytest.raises(Lost):
        list(function.__each__([["a", 1], ["b", 8], ["c", 1]]))
