"""Conversations as a chat template renders them, and which of their characters are trained.

The text is the template's own, to the last character. Where the template marks what the assistant writes
(`{% generation %}`), or TRL has the same template with such marks, the marks decide what is trained. Else the turns are
rendered once more with other contents, all at once, or one by one where that does not show it: what changes is the
answer. It is trained from behind the header that asks for an answer to the control token that ends the turn.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

import msgspec

from ibft.artifacts.rows import Conversation, Message
from ibft.errors import PromptError
from ibft.text.rendered import Rendered
from ibft.text.templates import PLACEHOLDER, ChatTemplate, example_name, unread_fields

__all__ = ["Answer", "render_conversation"]

_THOUGHTS = ("reasoning_content", "reasoning", "thinking")


class Answer(NamedTuple):
    """A turn that is trained, as places in the rendered text: from `start` to `end`, its own content in between."""

    start: int
    content: tuple[int, int]
    end: int


def render_conversation(chat: ChatTemplate, conversation: Conversation) -> tuple[Rendered, list[Answer]]:
    """Return the whole text, and the turns that are trained.

    Raises:
        PromptError: the template refuses the turns, or does not read a field that carries content.
    """
    whole = _render(chat, conversation, conversation.turns)
    _require_all_read(chat, conversation, whole)
    marks = _marks(chat, conversation, whole.text)
    if marks is None:
        places = _aligned(chat, conversation, whole.text)
        if places is None:
            places = [_changed(chat, conversation, place, whole.text) for place in conversation.trained]
        spans = [_span(chat, whole, start, end) for start, end in places]
    else:
        spans = [(start, end, end) for start, end in marks]
    *_, last = (conversation.turns[place].content or "" for place in conversation.trained)
    contents = [(start, written) for start, written, _ in spans]
    # Only the last answer's own content is asked for: it is what a scan scores.
    contents[-1] = _place_of(last, whole.text, *contents[-1])
    return whole, [Answer(start, content, end) for (start, _, end), content in zip(spans, contents, strict=True)]


def _render(chat: ChatTemplate, conversation: Conversation, turns: tuple[Message, ...]) -> Rendered:
    return chat.render(turns, is_question=False, example_id=conversation.id, tools=conversation.tools)


def _with(conversation: Conversation, place: int, turn: Message) -> tuple[Message, ...]:
    return (*conversation.turns[:place], turn, *conversation.turns[place + 1 :])


def _marks(chat: ChatTemplate, conversation: Conversation, text: str) -> list[tuple[int, int]] | None:
    """Return where the marks of what is trained begin and end; None where they do not say it."""
    rendered, marks = chat.render_marked(conversation.turns, conversation.tools) or ("", [])
    marks = [(first, last) for first, last in marks if first < last]
    places = [place for place, turn in enumerate(conversation.turns) if turn.role == "assistant"]
    # TRL's version of Qwen3's template keeps the thoughts of earlier turns, which the model's own drops.
    if rendered != text or not marks:
        return None
    if len(conversation.trained) == len(places):  # then it does not matter whose the marks are
        return marks
    joined: list[tuple[int, int]] = []
    for first, last in marks:
        # An end may have marks of its own, right behind those of its answer (Phi-3, Gemma-4).
        joined = (
            [*joined[:-1], (joined[-1][0], last)] if joined and joined[-1][1] == first else [*joined, (first, last)]
        )
    of_turn = dict(zip(places, joined, strict=False))
    return [of_turn[place] for place in conversation.trained] if len(joined) == len(places) else None


def _aligned(chat: ChatTemplate, conversation: Conversation, text: str) -> list[tuple[int, int]] | None:
    """Return where the answers are, found with all of them changed at once; None where that does not show it.

    A conversation of 100 calls of tools takes 0.09 s so, and 1.0 s one by one, each with the whole rendered again.
    """
    turns = list(conversation.turns)
    for place in conversation.trained:
        turns[place] = Message("assistant", PLACEHOLDER)
    try:
        first, *between = _render(chat, conversation, tuple(turns)).text.split(PLACEHOLDER)
    except PromptError:
        return None
    if len(between) != len(conversation.trained) or not text.startswith(first):
        return None
    found: list[tuple[int, int]] = []
    start = len(first)
    for place, literal in zip(conversation.trained, between, strict=True):
        content = (conversation.turns[place].content or "").strip()
        behind = text.find(content, start) + len(content)
        is_last = len(found) == len(between) - 1
        end = len(text) - len(literal) if is_last else text.find(literal, behind)
        if behind < start or end < behind or not text.startswith(literal, end):
            return None
        found.append((start, end))
        start = end + len(literal)
    return found


def _changed(chat: ChatTemplate, conversation: Conversation, place: int, text: str) -> tuple[int, int]:
    """Return where the answer of a turn starts and ends: what changes with it."""
    other = _with_other_answer(chat, conversation, place, text)
    start = _common_length(text, other)
    end = max(start, len(text) - _common_length(text[::-1], other[::-1]))
    behind = conversation.turns[place + 1 : place + 2]
    if behind and behind[0].role == "tool" and _is_written(behind[0].content, text[start:end]):
        # Gemma-4's template writes a tool's result within the turn that calls it, and another way without the call.
        alone = _common_length(text, _render(chat, conversation, conversation.turns[: place + 1]).text)
        turn = conversation.turns[place]
        # Not where the turn is written in another way when it is the last (Qwen3's begins with an empty thought).
        if _is_written((turn.content, turn.fields), text[start:alone]):
            end = min(end, alone)
    return start, end


def _span(chat: ChatTemplate, whole: Rendered, start: int, end: int) -> tuple[int, int, int]:
    """Return where an answer that changes from start to end is asked for, where it ends, and where its turn ends."""
    text = whole.text
    begins = text.rfind(chat.header, 0, start) + len(chat.header)
    # Between a header and its answer there may be white space and words (`<think>`), but no control token.
    has_header = chat.header and begins >= len(chat.header)
    if has_header and not any(begins <= first < start for first, _ in whole.controls):
        start = begins - chat.num_opening
    if text.startswith(chat.closing.text, end):
        return start, end, end + len(chat.closing.text)
    if any(start < last == end for _, last in whole.controls):  # calls of tools have an end of their own
        return start, end, end
    first, last = next((control for control in whole.controls if control[0] >= end), (end, end))
    return start, end, end if text[end:first].strip() else last


def _with_other_answer(chat: ChatTemplate, conversation: Conversation, place: int, text: str) -> str:
    # Results of tools may be refused without their calls.
    for fields in ({}, conversation.turns[place].fields):
        try:
            other = _render(
                chat, conversation, _with(conversation, place, Message("assistant", PLACEHOLDER, fields))
            ).text
        except PromptError:
            continue
        if other != text:
            return other
    raise PromptError(
        f"prompt.template is chat: in {example_name(conversation.id)}, the chat template takes no other text in turn "
        f"{place + 1}, so where the answer is cannot be found. Leave the row out, or use a model with another template."
    )


def _require_all_read(chat: ChatTemplate, conversation: Conversation, whole: Rendered) -> None:
    """Refuse content that does not reach the text.

    Raises:
        PromptError: names the field, or who says it.
    """
    name = example_name(conversation.id)
    unread = ["tools"] if conversation.tools and not re.search(r"\btools\b", chat.source) else []
    for place, turn in enumerate(conversation.turns):
        unnamed = unread_fields(turn, chat.source)
        for field in unread_fields(turn, ""):
            # Templates drop the thoughts of earlier turns on purpose: for these it is enough that they are named.
            is_thought = field in _THOUGHTS and field not in unnamed
            if not is_thought and not _is_written(turn.fields[field], whole.text):
                unread += [field] if _is_unread(chat, conversation, place, field, whole) else []
    if unread:
        raise PromptError(
            f"prompt.template is chat: the chat template does not read the field {unread[0]} of {name}. Rename it to "
            "what the template reads, remove it, or use a model whose template reads it."
        )
    for turn in conversation.turns:
        text = (turn.content or "").strip()
        # Words beside calls too: some templates write the calls alone. (Other answers may be changed, as by Qwen3's.)
        is_kept = turn.role == "assistant" and "tool_calls" not in turn.fields
        if not is_kept and not _is_written(text, whole.text):
            raise PromptError(
                f"prompt.template is chat: the chat template leaves out what the {turn.role} says in {name}. Leave "
                "the row out, or use a model with another template."
            )


def _is_written(value: Any, text: str) -> bool:
    """Decide whether all texts in a value are in the text, as they are or as JSON; types and ids aside."""
    if isinstance(value, dict):
        return all(_is_written(item, text) for key, item in value.items() if key not in ("type", "id"))
    if isinstance(value, list | tuple):
        return all(_is_written(item, text) for item in value)
    return not isinstance(value, str) or value in text or json.dumps(value, ensure_ascii=False)[1:-1] in text


def _is_unread(chat: ChatTemplate, conversation: Conversation, place: int, field: str, whole: Rendered) -> bool:
    """Decide whether the text is the same without a field."""
    turn = conversation.turns[place]
    fields = {name: value for name, value in turn.fields.items() if name != field}
    try:
        return (
            _render(chat, conversation, _with(conversation, place, msgspec.structs.replace(turn, fields=fields)))
            == whole
        )
    except PromptError:  # the template needs it
        return False


def _common_length(a: str, b: str) -> int:
    """Return how many characters two texts have in common from the first on."""
    low, high = 0, min(len(a), len(b))
    # By halves: 800,000 characters (a row of 200,000 tokens) take 0.2 ms, in a loop over them 200 ms for each turn.
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if a[low:middle] == b[low:middle] else (low, middle - 1)
    return low


def _place_of(content: str, text: str, start: int, end: int) -> tuple[int, int]:
    """Return where the content of a turn is, up to `end`; from start to end where the template changes it."""
    for kept in (content, content.strip()):
        if kept and (place := text.rfind(kept, start, end)) >= 0:
            return place, place + len(kept)
    return start, end
