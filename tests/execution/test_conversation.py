from collections.abc import Iterator

import pytest

from ibft.execution.conversation import Conversation, Lost, Remote, TooSlow
from ibft.execution.inside.messages import MAX_ANSWER_BYTES
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
    assert list(function.__each__(rows, [1.0] * len(rows), [])) == [text * number for text, number in rows]
    assert conversation.is_exact


def test_calls_that_are_sent_ahead_never_fill_the_channel(conversation: Conversation) -> None:
    # Either side alone would block: the questions of one row and the answers of another exceed the socket's buffer.
    function = conversation.load(PROGRAM, ["f"])["f"]
    rows = [["a" * 100, 6000], ["b" * 1_000_000, 2], ["c" * 100, 6000], ["d" * 15_000, 1]] * 10
    assert [len(text) for text in function.__each__(rows, [1.0] * len(rows), [])] == [
        600_000,
        2_000_000,
        600_000,
        15_000,
    ] * 10


def test_what_a_call_raises_is_raised_at_its_row(conversation: Conversation) -> None:
    function = conversation.load(PROGRAM, ["f"])["f"]
    answers = function.__each__([["a", 1], ["b", 2], ["c", 7], ["d", 1]], [1.0] * 4, [])
    assert [next(answers), next(answers)] == ["a", "bb"]
    with pytest.raises(KeyError, match="c"):
        next(answers)


def test_a_program_that_ends_is_lost(conversation: Conversation) -> None:
    function = conversation.load(PROGRAM, ["f"])["f"]
    with pytest.raises(Lost):
        list(function.__each__([["a", 1], ["b", 8], ["c", 1]], [1.0] * 3, []))


def test_what_was_sent_is_kept_for_the_next_program() -> None:
    rows, kept = [[str(number) * 3_000, 2] for number in range(200)], []
    for answer in ("text * number", "number"):
        with Sandbox(detect_level()) as sandbox:
            process = sandbox.run_python(Limits(cpu_s=10, wall_s=60, memory_mib=1024))
            conversation = Conversation(process, Reach(True, True, False))
            function = conversation.load(f"def f(text, number): return {answer}", ["f"])["f"]
            found = list(function.__each__(rows, [1.0] * len(rows), kept))
            process.finish()
        assert found == [eval(answer, {"text": text, "number": number}) for text, number in rows]
        before = list(kept)
    assert kept == before
    assert sum(number for number, _ in kept) == 200
    assert len(kept) > 2  # messages: 1.6 MB cross


def test_rows_that_were_not_all_made_are_made_again(conversation: Conversation) -> None:
    class Interrupted(list[list[object]]):
        def __iter__(self) -> Iterator[list[object]]:
            yield from super().__iter__()
            raise TimeoutError  # as the alarm of a run, which may ring at any time

    function = conversation.load(PROGRAM, ["f"])["f"]
    rows, kept = [["a" * 300_000, 1], ["b", 2]] * 3, []
    with pytest.raises(TimeoutError):
        list(function.__each__(Interrupted([*rows, ["c", 3]]), [1.0] * 7, kept))
    assert len(list(function.__each__(rows, [1.0] * 6, kept))) == 6


def test_a_value_that_is_too_large_is_raised_at_its_row(conversation: Conversation) -> None:
    function = conversation.load(PROGRAM, ["f"])["f"]
    answers = function.__each__([["a", 1], ["b", MAX_ANSWER_BYTES], ["c", 2]], [1.0] * 3, [])
    assert next(answers) == "a"
    with pytest.raises(ValueError, match="larger than"):
        next(answers)
    assert conversation.obstacle


def test_objects_and_arrays_cross_at_their_rows(conversation: Conversation) -> None:
    function = conversation.load("def f(kind): return {'object': object(), 'list': [1, None, 2.5]}[kind]", ["f"])["f"]
    thing, values = function.__each__([["object"], ["list"]], [1.0] * 2, [])
    assert type(thing) is Remote
    assert values == [1, None, 2.5]


def test_an_object_is_asked_before_the_next_call_is_looked_at(conversation: Conversation) -> None:
    function = conversation.load("def f(n): return n if n % 3 else (k for k in range(n))", ["f"])["f"]
    rows, kept = [[n] for n in range(200)], []
    found = [value if type(value) is int else [*value] for value in function.__each__(rows, [1.0] * 200, kept)]
    assert found == [n if n % 3 else [*range(n)] for n in range(200)]


def test_more_answers_than_questions_are_forged(conversation: Conversation) -> None:
    program = """
import sys
def f():
    candidate = next(m for n, m in sys.modules.items() if n.endswith("inside.candidate"))
    candidate.framed_json = lambda text, most: b"\\0\\0\\0\\x15" + b'[["ok",1],["ok",1]]  '
    return 1
"""
    function = conversation.load(program, ["f"])["f"]
    with pytest.raises(Lost):
        list(function.__each__([[]], [1.0], []))
    assert conversation.is_forged


def test_each_call_has_a_limit_of_its_own(conversation: Conversation) -> None:
    program = """
import time
def f(seconds, is_deaf):
    end = time.process_time() + seconds
    while time.process_time() < end:
        try:
            sum(range(1000))
        except BaseException:
            if not is_deaf:
                raise
    return seconds
"""
    function = conversation.load(program, ["f"])["f"]
    # Twice what the first is allowed, half of what the second is; the third goes on, and is stopped for another's sake.
    answers = function.__each__([[0.1, False], [0.4, False], [9.0, False]], [0.5, 0.8, 0.2], [])
    assert [next(answers), next(answers)] == [0.1, 0.4]
    with pytest.raises(TooSlow) as error:
        next(answers)
    assert error.value.limit_s == 0.2
    # The timer is off after a call, and a program that swallows its signal has the time of the whole sample.
    assert list(function.__each__([[0.1, True], [0.3, True]], [0.5, 0.1], [])) == [0.1, 0.3]
