"""A tokenizer's chat template, and prompts without one, as the text that a model sees.

`plain` is the prompt as it is, `instruction` the prompt and a newline (the reference code's template:
OPTML-Group/MemorizationBarrier at 160d19d, train_ib.py), `chat` the tokenizer's chat template.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from ibft.artifacts.rows import Message
from ibft.errors import PromptError, UserError
from ibft.text.rendered import Hidden, Rendered, control_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["PLACEHOLDER", "ChatTemplate", "example_name", "render_plain", "unread_fields"]

PLACEHOLDER = "\ue002"
"""A private-use character in the place of a content, to see where the template puts it."""

_PROBE = (Message("user", "Hello"), Message("assistant", "Hi there"))

# Fields of a turn that name or link and say nothing that a model could learn.
_LABELS = frozenset({"id", "name", "tool_call_id", "type", "model", "date", "timestamp", "language", "lang", "source"})


def render_plain(prompt: str | Sequence[Message], template: str, example_id: str | None = None) -> Rendered:
    """Return the text before the completion without a chat template.

    Args:
        prompt: text, or a conversation of one turn, whose content is then the prompt.
        template: `plain` or `instruction`.
        example_id: whose prompt it is, for the error.

    Raises:
        PromptError: a conversation of several turns.
    """
    if not isinstance(prompt, str):
        if len(prompt) != 1:
            raise PromptError(
                f"prompt.template is {template}: it takes one user turn, and {example_name(example_id)} has "
                f"{len(prompt)} turns before its answer. Use prompt.template: chat, for which the model needs a chat "
                "template."
            )
        prompt = prompt[0].content or ""
    return Rendered(prompt + "\n" if template == "instruction" else prompt)


class ChatTemplate:
    """A tokenizer's chat template.

    Args:
        tokenizer: has a chat template.
        variables: passed to the template, such as `enable_thinking`.

    Raises:
        UserError: the tokenizer has no chat template.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, variables: Mapping[str, Any]) -> None:
        if not tokenizer.chat_template:
            raise UserError("prompt.template is chat: this tokenizer has no chat template. Use plain or instruction.")
        self._tokenizer, self._variables = tokenizer, dict(variables)
        self._control = re.compile("|".join(map(re.escape, control_tokens(tokenizer))) or r"(?!)")

    @property
    def source(self) -> str:
        """The template itself."""
        return str(self._tokenizer.get_chat_template(tools=[{}]))  # of several, the one that reads tools

    @cached_property
    def header(self) -> str:
        """The text that asks for an answer; "" where it is always there, or what precedes it is then another."""
        before = self.render(_PROBE[:1], is_question=False, example_id=None).text
        asked = self.prompt(_PROBE[:1]).text
        return asked.removeprefix(before) if asked.startswith(before) else ""

    @property
    def end_of_turn(self) -> str:
        """The text behind an answer up to the end of its first control token; "" where the template writes none."""
        return self._tail.text[: _end_of_control(self._tail)]

    @cached_property
    def _tail(self) -> Rendered:
        """All that the template writes behind an answer at the end of a conversation."""
        whole = self.render(_PROBE, is_question=False, example_id=None)
        return whole.behind(whole.text.rfind(str(_PROBE[-1].content)) + len(str(_PROBE[-1].content)))

    @cached_property
    def num_opening(self) -> int:
        """The number of the last characters before an answer that the template marks as the assistant's own."""
        # Qwen2.5's line break, DeepSeek-V3's `<｜Assistant｜>`: they are trained, as TRL does.
        before, whole = self.prompt(_PROBE[:1]).text, self.render(_PROBE, is_question=False, example_id=None).text
        if self._marked is None or not whole.startswith(before):
            return 0
        return max(0, len(before) - self._marked[0])

    @cached_property
    def closing(self) -> Rendered:
        """The trained part of the tail: up to its first control token, or all that is marked as the assistant's."""
        # Most marks include the line break behind the end of a turn.
        num_marked = 0 if self._marked is None else len(self._tail.text) - self._marked[1]
        return self._tail.cut(max(_end_of_control(self._tail), num_marked))

    @cached_property
    def _marked(self) -> tuple[int, int] | None:
        """The place where the marks of an answer begin, and how many characters are behind them; None without marks."""
        text, marks = self.render_marked(_PROBE) or ("", [])
        return (marks[0][0], len(text) - marks[-1][1]) if marks else None

    def prompt(self, prompt: str | Sequence[Message], example_id: str | None = None) -> Rendered:
        """Return the conversation so far, up to where the model answers; a text is the user's turn.

        Raises:
            UserError: the template refuses the turns.
        """
        return self.render(_turns(prompt), is_question=True, example_id=example_id)

    def answered(
        self, prompt: str | Sequence[Message], completion: str, example_id: str | None = None
    ) -> tuple[Rendered, tuple[int, int]]:
        """Return prompt and completion up to the end of the turn, and the completion's first and last character.

        It is the template's own rendering of the whole conversation where that continues the prompt and keeps the
        completion (white space at its end aside). Else prompt, completion and end are joined.

        Raises:
            UserError: the template refuses the turns.
        """
        before = self.prompt(prompt, example_id)
        turns = (*_turns(prompt), Message("assistant", completion))
        whole = self.render(turns, is_question=False, example_id=example_id)
        for kept in (completion, completion.rstrip()):
            start = len(whole.text) - len(self._tail.text) - len(kept)
            is_kept = start >= len(before.text) and whole.text.endswith(kept + self._tail.text)
            if is_kept and whole.text.startswith(before.text):
                end = start + len(kept)
                return whole.cut(end + len(self.closing.text)), (start, end)
        # Templates that begin a thought for the model, or strip an answer's indentation: joined, so that training shows
        # what generation starts from.
        whole = before.with_text(completion)
        return whole.followed_by(self.closing), (len(before.text), len(whole.text))

    def render(
        self, turns: Sequence[Message], *, is_question: bool, example_id: str | None, tools: Sequence[Any] = ()
    ) -> Rendered:
        """Return the turns as the template has them; with `is_question`, up to where the model answers.

        Raises:
            PromptError: the template refuses the turns.
        """
        hidden = Hidden(self._control)
        text = self._text(turns, is_question, example_id, tools, hidden, has_parts=self._has_parts)
        for place, turn in enumerate(turns):
            if turn.content is None and "None" in text:
                # Some templates print null as "None", which nobody has said; others ask whether it is null.
                others = list(turns)
                others[place] = msgspec.structs.replace(turn, content=PLACEHOLDER)
                printed = self._text(
                    others, is_question, example_id, tools, Hidden(self._control), has_parts=self._has_parts
                )
                if printed.replace(PLACEHOLDER, "None") == text:
                    others[place] = msgspec.structs.replace(turn, content="")
                    return self.render(others, is_question=is_question, example_id=example_id, tools=tools)
        return hidden.reveal(text)[0]

    @cached_property
    def _has_parts(self) -> bool:
        """Decide whether the template reads a content only as a list of parts, as those of vision models do."""
        for has_parts in (False, True):
            try:
                text = self._text(_PROBE[:1], True, None, (), Hidden(self._control), has_parts=has_parts)
            except PromptError:
                continue
            if str(_PROBE[0].content) in text:
                return has_parts
        return False

    def _text(
        self,
        turns: Sequence[Message],
        is_question: bool,
        example_id: str | None,
        tools: Sequence[Any],
        hidden: Hidden,
        *,
        has_parts: bool,
    ) -> str:
        try:
            text = self._tokenizer.apply_chat_template(
                [_as_dict(turn, hidden, has_parts=has_parts) for turn in turns],
                tools=hidden.hide(tools) or None,
                tokenize=False,
                add_generation_prompt=is_question,
                **self._variables,
            )
        except Exception as error:  # not jinja2's alone: a template that adds text to null raises Python's own
            roles = ", ".join(turn.role for turn in turns)
            raise PromptError(
                f"prompt.template is chat: the chat template refuses the turns of {example_name(example_id)} "
                f"({roles}): {error}. Change its turns (a system text can begin the user's turn), or leave it out."
            ) from None
        return str(text)

    def render_marked(
        self, turns: Sequence[Message], tools: Sequence[Any] = ()
    ) -> tuple[str, list[tuple[int, int]]] | None:
        """Return the text of the template with marks, and the places of its marks; None without such a template."""
        from transformers.utils.chat_template_utils import render_jinja_template

        marked = _marked_template(self.source)
        if marked is None:
            return None
        hidden = Hidden(self._control)
        [text], [marks] = render_jinja_template(
            [[_as_dict(turn, hidden, has_parts=self._has_parts) for turn in turns]],
            tools=hidden.hide(tools) or None,
            chat_template=marked,
            return_assistant_tokens_mask=True,
            **self._tokenizer.special_tokens_map,
            **self._variables,
        )
        rendered, place_of = hidden.reveal(text)
        return rendered.text, [(place_of(first), place_of(last)) for first, last in marks]


@lru_cache(maxsize=8)
def _marked_template(template: str) -> str | None:
    """Return the template with marks around what the assistant writes; None where there are none.

    It is the template itself, or what TRL trains in its place: `chat_templates/` of its package has the templates of
    common models, each beside a version with marks.
    """
    if re.search(r"\{%-?\s*generation\s*-?%\}", template):
        return template
    # Read as files: to import TRL takes seconds.
    package = importlib.util.find_spec("trl")
    if package is None or package.origin is None:
        return None
    for path in (Path(package.origin).parent / "chat_templates").glob("*.jinja"):
        marked = path.with_stem(f"{path.stem}_training")
        if marked.is_file() and path.read_text(encoding="utf-8") == template:
            return marked.read_text(encoding="utf-8")
    return None


def unread_fields(turn: Message, source: str) -> list[str]:
    """Return the fields of a turn that carry content and that a template's source does not name."""
    return [
        name
        for name, value in turn.fields.items()
        if isinstance(value, str | list | tuple | dict)
        and value
        and name not in _LABELS
        and not re.search(rf"\b{re.escape(name)}\b", source)
    ]


def _end_of_control(rendered: Rendered) -> int:
    """Return the end of the first control token; 0 where there is none."""
    return rendered.controls[0][1] if rendered.controls else 0


def _as_dict(turn: Message, hidden: Hidden, *, has_parts: bool) -> dict[str, Any]:
    content = hidden.hide(turn.content)
    if has_parts and content is not None:
        content = [{"type": "text", "text": content}]
    return {"role": turn.role, "content": content, **hidden.hide(turn.fields)}


def _turns(prompt: str | Sequence[Message]) -> tuple[Message, ...]:
    return (Message("user", prompt),) if isinstance(prompt, str) else tuple(prompt)


def example_name(example_id: str | None) -> str:
    """Return what an error calls the example."""
    return "an example" if example_id is None else f"the example {example_id}"
