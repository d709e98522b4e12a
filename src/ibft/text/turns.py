"""Conversations as a chat template renders them, and which of their characters are trained.

The text is the template's own, to the last character. Where the template marks what the assistant writes
(`{% generation %}`), or TRL has the same template with such marks, the marks decide what is trained. Else a turn is
rendered once more with another content: what changes is the answer. It is trained from behind the header that asks for
an answer to the control token that ends the turn.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import msgspec

from ibft.artifacts.rows import Conversation, Message
from ibft.errors import PromptError
from ibft.text.rendered import Rendered
from ibft.text.templates import PLACEHOLDER, ChatTemplate, example_name, unread_fields

__all__ = ["Answer", "render_conversation"]


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
    answers = []
    for place in conversation.trained:
        if marks is not None:
            start, end = marks[place]
            written = end
        else:
            start, written, end = _span(chat, conversation, place, whole)
        content = conversation.turns[place].content or ""
        answers.append(Answer(start, _place_of(content, whole.text, start, written), end))
    return whole, answers


def _render(chat: ChatTemplate, conversation: Conversation, turns: tuple[Message, ...]) -> Rendered:
    return chat.render(turns, is_question=False, example_id=conversation.id, tools=conversation.tools)


def _with(conversation: Conversation, place: int, turn: Message) -> tuple[Message, ...]:
    return (*conversation.turns[:place], turn, *conversation.turns[place + 1 :])


def _marks(chat: ChatTemplate, conversation: Conversation, text: str) -> dict[int, tuple[int, int]] | None:
    """Return where the marks begin and end, by the place of the turn; None where they do not fit the text."""
    rendered, parts = chat.render_marked(conversation.turns, conversation.tools) or ("", [])
    marks: list[tuple[int, int]] = []
    for first, last in parts:
        if first == last:  # Gemma-4's calls have empty marks where a content would be
            continue
        # An end may have marks of its own, right behind those of its answer (Phi-3, Gemma-4).
        marks = [*marks[:-1], (marks[-1][0], last)] if marks and marks[-1][1] == first else [*marks, (first, last)]
    places = [place for place, turn in enumerate(conversation.turns) if turn.role == "assistant"]
    # TRL's version of Qwen3's template keeps the thoughts of earlier turns, which the model's own drops.
    return dict(zip(places, marks, strict=True)) if (rendered, len(marks)) == (text, len(places)) else None


def _span(chat: ChatTemplate, conversation: Conversation, place: int, whole: Rendered) -> tuple[int, int, int]:
    """Return where an answer starts, where that ends which the row gives of it, and where the turn ends."""
    text, other = whole.text, _with_other_answer(chat, conversation, place)
    start = _common_length(text, other)
    end = max(start, len(text) - _common_length(text[::-1], other[::-1]))
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


def _with_other_answer(chat: ChatTemplate, conversation: Conversation, place: int) -> str:
    # Results of tools may be refused without their calls.
    for fields in ({}, conversation.turns[place].fields):
        try:
            return _render(
                chat, conversation, _with(conversation, place, Message("assistant", PLACEHOLDER, fields))
            ).text
        except PromptError:
            continue
    raise PromptError(
        f"prompt.template is chat: in {example_name(conversation.id)}, the chat template takes no other text in turn "
        f"{place + 1}, so where the answer is cannot be found. Leave the row out, or use a model with another template."
    )


def _require_all_read(chat: ChatTemplate, conversation: Conversation, whole: Rendered) -> None:
    """Refuse content that does not reach the text.

    Raises:
        PromptError: names the field.
    """
    unread = []
    for place, turn in enumerate(conversation.turns):
        for field in unread_fields(turn, chat.source):
            fields = {name: value for name, value in turn.fields.items() if name != field}
            without = _with(conversation, place, msgspec.structs.replace(turn, fields=fields))
            unread += [field] if _render(chat, conversation, without) == whole else []
    lost = [
        turn.role
        for turn in conversation.turns
        if turn.role in ("user", "system") and (turn.content or "").strip() not in whole.text
    ]
    if lost:
        raise PromptError(
            f"prompt.template is chat: the chat template leaves out what the {lost[0]} says in "
            f"{example_name(conversation.id)}. Leave the row out, or use a model with another template."
        )
    if conversation.tools and not re.search(r"\btools\b", chat.source):
        unread.append("tools")
    if unread:
        raise PromptError(
            f"prompt.template is chat: the chat template does not read the field {unread[0]} of "
            f"{example_name(conversation.id)}. Rename it to what the template reads, remove it, or use a model whose "
            "template reads it."
        )


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
