"""The index of near-copies."""

from typing import Any

import pytest

from ibft.artifacts.rows import Conversation, Message, Pair
from ibft.curation import near
from ibft.curation.near import answer_keys, exact_key


@pytest.mark.parametrize("similarity", [0.55, 0.7, 0.95, 1.0])
def test_sketches_rule_out_hardly_any_answer_of_the_similarity_asked_for(similarity: float) -> None:
    from scipy.stats import binom

    least = near._least_agreeing(similarity)
    assert binom.cdf(least - 1, 128, similarity) <= 1e-4
    assert least == 128 or binom.cdf(least, 128, similarity) > 1e-4


def talk(*turns: Message, tools: tuple[Any, ...] = ()) -> Conversation:
    return Conversation("id", turns, tools)


USER, ANSWER = Message("user", "weather?"), Message("assistant", "sunny")


def call(**function: Any) -> Message:
    return Message("assistant", None, {"tool_calls": [{"type": "function", "function": function}]})


def test_conversations_are_equal_only_with_equal_roles_calls_and_tools() -> None:
    calls = [call(name=f"w{n}", arguments={"c": n}) for n in range(5)]
    others = [
        *(talk(USER, turn) for turn in calls),
        talk(USER, ANSWER),
        talk(Message("system", "weather?"), ANSWER),
        talk(USER, ANSWER, tools=({"name": "f"},)),
        talk(USER, ANSWER, USER),
        talk(USER, ANSWER, USER, ANSWER),
        talk(USER, calls[0], Message("tool", "20"), ANSWER),
        talk(USER, calls[1], Message("tool", "20"), ANSWER),
        talk(USER, calls[0], Message("tool", "20", {"name": "w0"}), ANSWER),
    ]
    assert len({exact_key(other) for other in others}) == len(others)


def test_neither_white_space_at_ends_nor_the_order_of_keys_counts() -> None:
    one = talk(Message("user", "weather? "), call(name="f", arguments={"a": 1, "b": 2}))
    assert exact_key(one) == exact_key(talk(USER, call(arguments={"b": 2, "a": 1}, name="f")))
    pair = Pair("other", " weather?", "sunny\n")
    assert exact_key(talk(USER, ANSWER)) == exact_key(talk(USER, Message("assistant", " sunny "))) == exact_key(pair)
    surrogate = talk(Message("user", "\ud800"), ANSWER, ANSWER)
    assert exact_key(surrogate) == exact_key(surrogate)


def test_an_answer_has_the_key_of_the_turns_up_to_it() -> None:
    untrained = Message("assistant", "rain", {}, is_trained=False)
    whole = talk(USER, ANSWER, USER, untrained, USER, call(name="f"), USER)
    expected = [(exact_key(talk(*whole.turns[:end])), end != 4) for end in (2, 4, 6)]
    assert answer_keys(whole) == expected
    assert answer_keys(Pair("a", "weather?", "sunny")) == expected[:1]
