"""One row of a data set, in whichever of the usual shapes it comes, to a training example.

A turn's and a row's fields either reach the example or are refused by their name, if they carry content: what is lost
in silence is learned wrongly in silence.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ibft.artifacts.json_lines import is_encodable
from ibft.artifacts.rows import Conversation, Message, Pair, TrainingPair
from ibft.errors import RowError
from ibft.run.sections import Column, TrainOn

__all__ = ["row_id", "shape_of", "to_pair"]

# Names of prompt and answer, the most specific first; all but the last two are those of public data sets.
_PAIRS = (
    ("prompt", "completion"),
    ("prompt", "response"),
    ("instruction", "output"),
    ("instruction", "response"),
    ("Instruction", "Response"),
    ("question", "answer"),
    ("query", "response"),
    ("problem", "solution"),
    ("input", "output"),
)
_CONVERSATIONS = ("messages", "conversations", "conversation")
_SYSTEM = ("system", "system_prompt")
_ROLES = {
    **{role: role for role in ("user", "assistant", "system", "tool", "developer", "function")},
    **dict.fromkeys(("human", "prompter"), "user"),
    **dict.fromkeys(("gpt", "chatgpt", "bot", "ai", "model"), "assistant"),
    "observation": "tool",
}
_IS_TRAINED = ("weight", "train", "training", "loss")
"""How rows say whether an assistant's turn is trained: OpenAI's API, axolotl (twice), ms-swift."""

# What may belong to an example and would be missed.
_CONTENT_FIELDS = (
    *("system", "system_prompt", "history", "tools", "functions", "input", "context", "documents", "reasoning"),
    *("reasoning_content", "thinking", "thought", "thoughts", "chat_template_kwargs", "weight", "loss_mask"),
    *("image", "images", "audio", "audios", "video", "videos"),
    *("system_message", "choices", "options", "passage", "knowledge", "starter_code"),
    *(name for names in _PAIRS for name in names),
    *(*_CONVERSATIONS, "text"),
)

# Fields whose text goes into the files of a run: what names an example, and where it is from.
_NAMING_FIELDS = ("id", "file", "path", "tags", "category", "source")


def to_pair(
    row: Any, place: str, columns: Mapping[Column, str] | None = None, train_on: TrainOn = "all"
) -> TrainingPair:
    """Read one row of any of the usual shapes (docs/data.md has them all).

    Args:
        row: a JSON object.
        place: where it is, for errors; it names the example where the row has no `id`.
        columns: which column is what; all others are then left alone.
        train_on: `last` trains the last answer of a conversation only.

    Raises:
        RowError: no known shape, a field of the wrong type, content in a field that is not read, or a name that is not
            valid Unicode; names the place, and the keys or the field.
    """
    if not isinstance(row, Mapping):
        raise RowError(f"{place}: expected an object with named fields, not {type(row).__name__}.", "no known shape")
    _require_unicode_names(row, place)
    identity = row_id(row, place)
    if columns:
        missing = [column for column in columns.values() if column not in row]
        if missing:
            raise RowError(
                f"{place}: data.columns names {missing[0]}, and the row has {_keys(row)}.", f"no column {missing[0]}"
            )
        row = {name: row[column] for name, column in columns.items()}
    pair, used = _read(row, place, identity, names_input="input" in (columns or ()))
    _require_all_read(row, used, pair, place, tuple(columns or _CONTENT_FIELDS))
    if isinstance(pair, Conversation) and train_on == "last":
        last = pair.trained[-1:]
        turns = [turn if n in last else _untrained(turn) for n, turn in enumerate(pair.turns)]
        return Conversation(pair.id, tuple(turns), pair.tools)
    return pair


def shape_of(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the fields that make the example: turns, prompt and answer, or text; empty for no known shape."""
    shapes = (*((name,) for name in _CONVERSATIONS), *_PAIRS, ("text",))
    return next((names for names in shapes if all(row.get(name) is not None for name in names)), ())


def row_id(row: Mapping[str, Any], place: str) -> str:
    """Return the example's name: the row's `id` where it has one that is not null, else its place."""
    return place.rpartition("/")[2] if row.get("id") is None else str(row["id"])


def _read(row: Mapping[str, Any], place: str, identity: str, *, names_input: bool) -> tuple[TrainingPair, set[str]]:
    """Return the example, and the fields that it was made from."""
    match shape_of(row):
        case ("text",):
            return Pair(identity, None, _text(row["text"], place, "text")), {"text"}
        case (name,):
            turns = _with_answer(_messages(row[name], place, name), place, name)
            before, used = _before(row, place, turns[:1])
            return Conversation(identity, (*before, *turns), _tools(row, place)), {name, "tools", *used}
        case (prompt_name, answer_name):
            return _read_pair(row, place, identity, prompt_name, answer_name, names_input=names_input)
    raise RowError(
        f"{place}: no known shape (found: {_keys(row)}). Expected messages, conversations, prompt + completion, "
        "instruction (+ input) + output, question + answer, or text; name other columns in data.columns "
        "({prompt: …, completion: …}).",
        "no known shape",
    )


def _read_pair(
    row: Mapping[str, Any], place: str, identity: str, prompt_name: str, answer_name: str, *, names_input: bool
) -> tuple[TrainingPair, set[str]]:
    used = {prompt_name, answer_name, "tools"}
    prompt, answer = row[prompt_name], row[answer_name]
    if (prompt_name == "instruction" or names_input) and isinstance(prompt, str) and (extra := row.get("input")):
        prompt = f"{prompt}\n\n{_text(extra, place, 'input')}"
        used.add("input")
    before, more = _before(row, place)
    tools = _tools(row, place)
    if isinstance(prompt, str) and isinstance(answer, str) and not before and not tools:
        return Pair(identity, prompt, answer), used | more
    asked = (Message("user", prompt),) if isinstance(prompt, str) else _messages(prompt, place, prompt_name)
    answers = (Message("assistant", answer),) if isinstance(answer, str) else _messages(answer, place, answer_name)
    answers = _with_answer(answers, place, answer_name)
    return Conversation(identity, (*before, *map(_untrained, asked), *answers), tools), used | more


def _before(row: Mapping[str, Any], place: str, first: Sequence[Message] = ()) -> tuple[tuple[Message, ...], set[str]]:
    """Return the turns that a row has in fields of their own: a system text, and Alpaca's earlier rounds.

    A system text that is already the `first` turn is not said twice.
    """
    turns: list[Message] = []
    used = {"history", *_SYSTEM}
    for name in _SYSTEM:
        if row.get(name) and not any(turn.content == row[name] for turn in (*turns, *first)):
            turns.append(Message("system", _text(row[name], place, name)))
    history = _decoded(row.get("history"), place, "history") or ()
    for item in history if isinstance(history, list | tuple) else (history,):
        if not isinstance(item, list | tuple) or len(item) != 2:
            raise RowError(f"{place}: history must be a list of [question, answer] pairs.", "history of another form")
        question, answer = (_text(text, place, "history") for text in item)
        turns += [Message("user", question), Message("assistant", answer)]
    return tuple(turns), used


def _with_answer(turns: tuple[Message, ...], place: str, name: str) -> tuple[Message, ...]:
    """Return the turns, of which one at least is the assistant's."""
    if not any(turn.role == "assistant" for turn in turns):
        raise RowError(f"{place}: {name} has no assistant turn, so nothing is trained.", "no assistant turn")
    return turns


def _messages(value: Any, place: str, name: str) -> tuple[Message, ...]:
    value = _decoded(value, place, name)
    if not isinstance(value, Sequence) or isinstance(value, str) or not all(isinstance(v, Mapping) for v in value):
        raise RowError(f"{place}: {name} must be a list of turns with role and content.", "turns of another form")
    return tuple(_message(turn, place, name) for turn in value)


def _message(turn: Mapping[str, Any], place: str, name: str) -> Message:
    role_key, content_key = ("from", "value") if turn.get("from") is not None else ("role", "content")
    role, content = turn.get(role_key), turn.get(content_key)
    if not isinstance(role, str):
        raise RowError(f"{place}: a turn of {name} has no {role_key}.", "a turn without a role")
    if isinstance(content, list | tuple):
        content = "".join(_part(part, place) for part in content)
    if content is not None and not isinstance(content, str):
        kind = type(content).__name__
        raise RowError(f"{place}: the content of a turn must be text, not {kind}.", "content that is not text")
    fields = {key: item for key, item in turn.items() if item is not None and key not in (role_key, content_key)}
    is_trained = _is_trained(fields, place)
    if isinstance(fields.get("tool_calls"), str):
        fields["tool_calls"] = _decoded(fields["tool_calls"], place, "tool_calls")
    if role == "function_call":  # LLaMA-Factory's ShareGPT: the call as JSON
        calls = _decoded(content, place, name)
        calls = [{"type": "function", "function": call} for call in (calls if isinstance(calls, list) else [calls])]
        return Message("assistant", None, {**fields, "tool_calls": calls}, is_trained)
    if content is None and not fields:
        raise RowError(f"{place}: a turn of {name} has no {content_key}.", "a turn without content")
    return Message(_ROLES.get(role.lower(), role), content, fields, is_trained)


def _part(part: Any, place: str) -> str:
    text = part.get("text") if isinstance(part, Mapping) else part
    if isinstance(text, str):
        return text
    kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
    raise RowError(f"{place}: a content part of type {kind}: only text can be trained.", f"content part {kind}")


def _is_trained(fields: dict[str, Any], place: str) -> bool:
    """Take out of a turn's fields what says whether it is trained."""
    is_trained = True
    for name in _IS_TRAINED:
        value = fields.pop(name, 1)
        if value not in (0, 1):  # False and True are these numbers
            raise RowError(f"{place}: {name} of a turn is {value!r}; it must be 0 or 1.", f"{name} other than 0 or 1")
        is_trained = is_trained and bool(value)
    return is_trained


def _untrained(turn: Message) -> Message:
    return Message(turn.role, turn.content, turn.fields, is_trained=False)


def _tools(row: Mapping[str, Any], place: str) -> tuple[Any, ...]:
    tools = _decoded(row.get("tools"), place, "tools")
    if tools is not None and not isinstance(tools, list | tuple):
        raise RowError(f"{place}: tools must be a list of JSON schemas.", "tools of another form")
    return tuple(tools or ())


def _decoded(value: Any, place: str, name: str) -> Any:
    """Return the value of a text that holds JSON, as columns of tables do."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value) if value.strip() else None
    except (ValueError, RecursionError):
        raise RowError(f"{place}: {name} is text, and not JSON.", f"{name} is not JSON") from None


def _text(value: Any, place: str, name: str) -> str:
    if not isinstance(value, str):
        raise RowError(f"{place}: {name} must be text, not {type(value).__name__}.", f"{name} is not text")
    return value


def _require_all_read(
    row: Mapping[str, Any], used: set[str], pair: TrainingPair, place: str, names: Sequence[str]
) -> None:
    """Refuse content that did not reach the example; a repetition of what did reach it is no loss."""
    for name in names:
        value = row.get(name)
        is_empty = value is None or value == 1 if name == "weight" else not value
        if name in used or is_empty:
            continue
        if isinstance(value, str) and _says_nothing_new(value.strip(), pair):
            continue
        raise RowError(
            f"{place}: the field {name} carries content and is not read beside {', '.join(sorted(used & set(row)))}. "
            "Make it part of the messages, remove it, or name the columns that count in data.columns.",
            f"the field {name} is not read",
        )


def _says_nothing_new(value: str, pair: TrainingPair) -> bool:
    """Decide whether a text is part of the example, or the example once more (as Alpaca's field `text`)."""
    texts = [turn.content for turn in pair.turns] if isinstance(pair, Conversation) else [pair.prompt, pair.completion]
    parts = [text.strip() for text in texts if text]
    return value in "\n".join(parts) or all(part in value for part in parts)


def _require_unicode_names(row: Mapping[str, Any], place: str) -> None:
    """Refuse lone surrogates, which JSON can hold and no file takes, where a text names the example or its origin."""
    for field in _NAMING_FIELDS:
        value = row.get(field)
        for text in value if isinstance(value, list | tuple) else [value]:
            if isinstance(text, str) and not is_encodable(text):
                raise RowError(
                    f"{place}: the field {field} is not valid Unicode ({text!a}). Correct it or remove the row.",
                    f"{field} is not valid Unicode",
                )


def _keys(row: Mapping[str, Any]) -> str:
    return ", ".join(sorted(map(str, row)))
