"""Rows of the shapes that people have, and those that would be learned wrongly in silence."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ibft.artifacts.rows import Conversation, Message, Pair
from ibft.data.shapes import to_pair
from ibft.errors import RowError, UserError

USER, ANSWER = Message("user", "p"), Message("assistant", "c")
SYSTEM = Message("system", "s")
TURNS = [{"role": "user", "content": "p"}, {"role": "assistant", "content": "c"}]
CALL = {"type": "function", "function": {"name": "run", "arguments": {"path": "t.py"}}}
TOOL = {"type": "function", "function": {"name": "run", "parameters": {"type": "object", "properties": {}}}}


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "p", "completion": "c"},
        {"prompt": "p", "response": "c"},
        {"instruction": "p", "output": "c"},
        {"instruction": "p", "input": "", "output": "c", "system": "", "history": []},
        {"instruction": "p", "response": "c"},
        {"Instruction": "p", "Response": "c"},
        {"question": "p", "answer": "c"},
        {"query": "p", "response": "c"},
        {"problem": "p", "solution": "c"},
        {"input": "p", "output": "c"},
        {"prompt": "p", "completion": "c", "category": "math", "tests": ["assert x"], "score": 3, "context": " "},
        {"prompt": "p", "completion": "c", "messages": None, "text": None, "weight": 1},
        {"prompt": "p", "completion": "c", "thinking": "p", "tools": "", "system_prompt": None},
        {"instruction": "p", "output": "c", "text": "Below is an instruction.\n### p\n### c"},
        {"problem": "p", "solution": "c", "answer": "c"},
    ],
)
def test_a_prompt_and_its_answer_are_text(row: dict[str, Any]) -> None:
    assert to_pair(row, "here") == Pair("here", "p", "c")


def test_an_input_stands_behind_its_instruction() -> None:
    assert to_pair({"instruction": "p", "input": "i", "output": "c"}, "here") == Pair("here", "p\n\ni", "c")
    assert to_pair({"instruction": "p", "input": "i", "response": "c"}, "here") == Pair("here", "p\n\ni", "c")


def test_text_has_no_prompt() -> None:
    assert to_pair({"text": "all of it"}, "here") == Pair("here", None, "all of it")


@pytest.mark.parametrize(
    ("row", "turns"),
    [
        ({"messages": TURNS}, [USER, ANSWER]),
        ({"messages": json.dumps(TURNS)}, [USER, ANSWER]),
        ({"messages": TURNS, "prompt": "p", "source": "x"}, [USER, ANSWER]),
        ({"prompt": TURNS[:1], "completion": TURNS[1:]}, [Message("user", "p", {}, False), ANSWER]),
        ({"prompt": TURNS[:1], "completion": "c"}, [Message("user", "p", {}, False), ANSWER]),
        ({"conversations": [{"from": "human", "value": "p"}, {"from": "gpt", "value": "c"}]}, [USER, ANSWER]),
        ({"conversation": [{"from": "Human", "value": "p"}, {"from": "GPT", "value": "c"}]}, [USER, ANSWER]),
        ({"conversations": TURNS, "system": "s"}, [SYSTEM, USER, ANSWER]),
        ({"instruction": "p", "output": "c", "system": "s"}, [SYSTEM, Message("user", "p", {}, False), ANSWER]),
        (
            {"instruction": "p", "output": "c", "history": [["q", "a"]]},
            [Message("user", "q"), Message("assistant", "a"), Message("user", "p", {}, False), ANSWER],
        ),
        (
            {"messages": [{"role": "human", "content": [{"type": "text", "text": "p"}]}, TURNS[1]]},
            [USER, ANSWER],
        ),
        ({"messages": [*TURNS, TURNS[0]]}, [USER, ANSWER, USER]),
        ({"messages": [{"role": "prompter", "content": "p"}, {"role": "Assistant", "content": "c"}]}, [USER, ANSWER]),
        ({"messages": [{"from": None, **TURNS[0]}, TURNS[1]]}, [USER, ANSWER]),
        ({"messages": [{"role": "system", "content": "s"}, *TURNS], "system": "s"}, [SYSTEM, USER, ANSWER]),
        (
            {"messages": [TURNS[0], {"role": "assistant", "content": None, "tool_calls": json.dumps([CALL])}]},
            [USER, Message("assistant", None, {"tool_calls": [CALL]})],
        ),
        ({"messages": TURNS[1:]}, [ANSWER]),
        (
            {"messages": [TURNS[0], {"role": "assistant", "content": "c", "reasoning_content": "r", "name": None}]},
            [USER, Message("assistant", "c", {"reasoning_content": "r"})],
        ),
        (
            {"messages": [TURNS[0], {"role": "assistant", "content": None, "tool_calls": [CALL]}]},
            [USER, Message("assistant", None, {"tool_calls": [CALL]})],
        ),
        (
            {"messages": [TURNS[0], {"role": "assistant", "tool_calls": [CALL]}]},
            [USER, Message("assistant", None, {"tool_calls": [CALL]})],
        ),
        (
            {
                "conversations": [
                    {"from": "human", "value": "p"},
                    {"from": "function_call", "value": json.dumps(CALL["function"])},
                    {"from": "observation", "value": "ok"},
                    {"from": "gpt", "value": "c"},
                ]
            },
            [USER, Message("assistant", None, {"tool_calls": [CALL]}), Message("tool", "ok"), ANSWER],
        ),
    ],
)
def test_a_conversation_has_all_of_its_turns(row: dict[str, Any], turns: list[Message]) -> None:
    assert to_pair(row, "here") == Conversation("here", tuple(turns))


@pytest.mark.parametrize("tools", [[TOOL], json.dumps([TOOL])])
def test_tools_reach_the_conversation(tools: Any) -> None:
    assert to_pair({"messages": TURNS, "tools": tools}, "here") == Conversation("here", (USER, ANSWER), (TOOL,))
    asked = Message("user", "p", {}, False)
    assert to_pair({"question": "p", "answer": "c", "tools": tools}, "here") == Conversation(
        "here", (asked, ANSWER), (TOOL,)
    )


@pytest.mark.parametrize(
    ("marks", "trained"),
    [
        ([{}, {}], (1, 3)),
        ([{"weight": 0}, {}], (3,)),
        ([{"weight": 1}, {"weight": 0.0}], (1,)),
        ([{"train": False}, {"train": True}], (3,)),
        ([{"loss": False}, {"training": False}], ()),
    ],
)
def test_turns_of_weight_0_are_not_trained(marks: list[dict[str, Any]], trained: tuple[int, ...]) -> None:
    turns = [TURNS[0], TURNS[1] | marks[0], TURNS[0], TURNS[1] | marks[1]]
    pair = to_pair({"messages": turns}, "here")
    assert isinstance(pair, Conversation)
    assert pair.trained == trained
    assert not any(turn.fields for turn in pair.turns)
    last = to_pair({"messages": turns}, "here", train_on="last")
    assert isinstance(last, Conversation)
    assert last.trained == trained[-1:]


def test_columns_say_what_is_what_and_leave_the_rest_alone() -> None:
    row = {"id": 3, "task": "p", "code": "c", "tools": "not JSON", "system": "s", "prompt": "x", "completion": "y"}
    assert to_pair(row, "here", {"prompt": "task", "completion": "code"}) == Pair("3", "p", "c")
    assert to_pair(row, "here", {"text": "code"}) == Pair("3", None, "c")
    with_system = to_pair(row, "here", {"prompt": "task", "completion": "code", "system": "system"})
    assert with_system == Conversation("3", (SYSTEM, Message("user", "p", {}, False), ANSWER))
    assert to_pair({"chat": TURNS}, "here", {"messages": "chat"}) == Conversation("here", (USER, ANSWER))
    dolly = {"instruction": "p", "ctx": "i", "response": "c"}
    columns: Any = {"prompt": "instruction", "input": "ctx", "completion": "response"}
    assert to_pair(dolly, "here", columns) == Pair("here", "p\n\ni", "c")
    lost: Any
    for lost in ({"text": "code", "system": "task"}, {"prompt": "task", "completion": "code", "text": "prompt"}):
        with pytest.raises(RowError, match="is not read"):
            to_pair(row, "here", lost)
    with pytest.raises(RowError, match=r"data\.columns names kode, and the row has code, completion"):
        to_pair(row, "here", {"prompt": "task", "completion": "kode"})


def test_a_row_keeps_its_own_id() -> None:
    assert to_pair({"id": 7, "prompt": "p", "completion": "c"}, "here").id == "7"
    assert to_pair({"id": 0, "prompt": "p", "completion": "c"}, "here").id == "0"
    row = {"id": None, "prompt": "p", "completion": "c"}
    assert to_pair(row, "folder/file.jsonl, line 3").id == "file.jsonl, line 3"


@pytest.mark.parametrize("field", ["id", "file", "path", "tags", "category", "source"])
def test_a_name_that_is_not_unicode_is_refused(field: str) -> None:
    row = {"prompt": "p", "completion": "\ud800"}
    assert to_pair({**row, field: ["a", 1, None]}, "here").completion == "\ud800"
    for value in ("a\ud800", ["a", "\ud800"]):
        with pytest.raises(
            UserError, match=rf"^file.jsonl, line 3: the field {field} is not .*\\ud800.* Corr"
        ) as error:
            to_pair({**row, field: value}, "file.jsonl, line 3")
        str(error.value).encode()


@pytest.mark.parametrize(
    ("row", "expected", "reason"),
    [
        ({"body": "x"}, "no known shape .found: body", "no known shape"),
        ("x", "expected an object", "no known shape"),
        ({"prompt": 3, "completion": "c"}, "prompt must be a list of turns", "turns of another form"),
        ({"prompt": "p", "completion": None}, "no known shape", "no known shape"),
        ({"text": ["x"]}, "text must be text, not list", "text is not text"),
        ({"messages": TURNS[:1]}, "no assistant turn", "no assistant turn"),
        ({"messages": []}, "no assistant turn", "no assistant turn"),
        ({"messages": "hello"}, "messages is text, and not JSON", "messages is not JSON"),
        ({"messages": [TURNS[0], "c"]}, "list of turns", "turns of another form"),
        ({"messages": [TURNS[0], {"content": "c"}]}, "has no role", "a turn without a role"),
        ({"messages": [TURNS[0], {"role": "assistant"}]}, "has no content", "a turn without content"),
        ({"messages": [TURNS[0], {"role": "assistant", "content": 3}]}, "not int", "content that is not text"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}, TURNS[1]]},
            "content part of type image_url",
            "content part image_url",
        ),
        ({"messages": [TURNS[0], TURNS[1] | {"weight": 0.5}]}, "weight of a turn is 0.5", "weight other than 0 or 1"),
        ({"prompt": "p", "completion": [TURNS[0]]}, "no assistant turn", "no assistant turn"),
        (
            {"prompt": "p", "completion": "c", "context": "read this"},
            "the field context carries",
            "the field context is",
        ),
        ({"prompt": "p", "completion": "c", "input": "i"}, "the field input carries", "the field input is"),
        ({"question": "p", "answer": "c", "reasoning": "so"}, "the field reasoning", "the field reasoning is"),
        ({"messages": TURNS, "images": ["a.png"]}, "the field images", "the field images is"),
        ({"question": "p", "answer": "B", "choices": ["x", "y"]}, "the field choices", "the field choices is"),
        ({"question": "p", "answer": "B", "options": "A) x B) y"}, "the field options", "the field options is"),
        ({"messages": TURNS, "completion": "other"}, "the field completion", "the field completion is"),
        ({"instruction": "p", "output": "c", "response": "no"}, "the field response", "the field response is"),
        ({"messages": TURNS, "functions": [TOOL]}, "the field functions", "the field functions is"),
        ({"prompt": "p", "completion": "c", "weight": 0}, "the field weight", "the field weight is"),
        ({"prompt": "p", "completion": "c", "weight": 0.3}, "the field weight", "the field weight is"),
        ({"messages": TURNS, "tools": {"a": 1}}, "tools must be a list", "tools of another form"),
        ({"messages": TURNS, "tools": "run"}, "tools is text, and not JSON", "tools is not JSON"),
        ({"instruction": "p", "output": "c", "history": [["q"]]}, "history must be", "history of another form"),
        ({"instruction": "p", "output": "c", "history": 1.5}, "history must be", "history of another form"),
        ({"instruction": "p", "output": "c", "system": 3}, "system must be text", "system is not text"),
        (
            {"conversations": [{"from": "function_call", "value": "run("}, {"from": "gpt", "value": "c"}]},
            "is text, and not JSON",
            "conversations is not JSON",
        ),
    ],
)
def test_what_cannot_be_read_is_named(row: Any, expected: str, reason: str) -> None:
    with pytest.raises(RowError, match=expected) as caught:
        to_pair(row, "file.jsonl, line 3")
    assert str(caught.value).startswith("file.jsonl, line 3")
    assert caught.value.reason.startswith(reason)
