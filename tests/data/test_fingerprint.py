from typing import Any

import pytest

from ibft.artifacts.rows import Conversation, Message, Pair
from ibft.data.fingerprint import canonical, fingerprint, has_fingerprint

CODE = """\
def total(values, start):
    result = start
    for value in values:
        result += value
    return result
"""


def test_a_fingerprint_is_that_of_the_code() -> None:
    def of(completion: str, prompt: str = "p") -> str:
        return fingerprint(Pair("a", prompt, completion))

    assert of(CODE) == of(CODE.replace("    ", "  ")) == of(f"# why\n{CODE}\n") == of(CODE, "another prompt")
    assert of(CODE) == of(f"Here it is:\n```python\n{CODE}```\nDone.")
    assert of(CODE) != of(CODE.replace("+=", "-="))
    assert of(CODE) != of(CODE.replace("value", "item"))
    assert len(of(CODE)) == 16


def test_a_text_that_is_not_unicode_has_none() -> None:
    pair = Pair("a", "p", CODE)
    assert has_fingerprint(pair, fingerprint(pair))
    assert not has_fingerprint(Pair("a", "p", "other"), fingerprint(pair))
    assert not has_fingerprint(Pair("a", "p", "\ud800"), fingerprint(pair))


def calling(name: str, content: str | None = None, question: str = "weather?", **fields: Any) -> Conversation:
    calls = {"tool_calls": [{"type": "function", "function": {"name": name, "arguments": {}}}], **fields}
    return Conversation("a", (Message("user", question), Message("assistant", content, calls)))


@pytest.mark.parametrize("question", ["weather?", CODE])
def test_calls_of_tools_without_code_are_told_apart(question: str) -> None:
    assert fingerprint(calling("f", question=question)) == fingerprint(calling("f", question=question))
    assert fingerprint(calling("f", question=question)) != fingerprint(calling("g", question=question))
    assert fingerprint(calling("f", CODE, question)) == fingerprint(calling("g", CODE, question))


def test_turns_without_other_fields_have_the_fingerprint_of_the_pair() -> None:
    turns = (Message("user", "p"), Message("assistant", "c"))
    assert fingerprint(Conversation("a", turns)) == fingerprint(Pair("a", "p", "c")) == "cd866157f92d79b1"


def test_the_order_of_keys_does_not_count() -> None:
    assert canonical([{"a": 1, "b": {"d": 2, "c": 3}}]) == canonical([{"b": {"c": 3, "d": 2}, "a": 1}])
    assert canonical({"a": 1, 3: 4}) == canonical({3: 4, "a": 1}) != canonical({3: 5, "a": 1})
