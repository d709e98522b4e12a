"""Prompts and answers as the text that a model sees, in which control tokens are told apart from text like them.

`plain` is the prompt as it is, `instruction` the prompt and a newline (the reference code's template:
OPTML-Group/MemorizationBarrier at 160d19d, train_ib.py), `chat` the tokenizer's chat template.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ibft.errors import UserError
from ibft.rows import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["ChatTemplate", "Rendered", "control_tokens", "render_plain", "resolve_template"]


class Rendered(NamedTuple):
    """A text and the places `(start, end)` of its control tokens; all else in it is text, whatever it looks like.

    `is_chat`: a chat template wrote the text, start token included; else the tokenizer adds its own start token.
    """

    text: str
    controls: tuple[tuple[int, int], ...] = ()
    is_chat: bool = False

    def cut(self, end: int) -> Rendered:
        """Return the text up to the character `end`."""
        return Rendered(self.text[:end], tuple(place for place in self.controls if place[1] <= end), self.is_chat)

    def with_text(self, text: str) -> Rendered:
        """Return this followed by `text`, which is text to the last character."""
        return self._replace(text=self.text + text)

    def with_control(self, token: str) -> Rendered:
        """Return this followed by a control token."""
        start = len(self.text)
        return self._replace(text=self.text + token, controls=(*self.controls, (start, start + len(token))))


def control_tokens(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Return the strings that the tokenizer reads as control tokens, the longest first."""
    added = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    return sorted({*added, *tokenizer.all_special_tokens}, key=lambda token: (-len(token), token))


def render_plain(prompt: str | Sequence[Message], template: str, example_id: str | None = None) -> Rendered:
    """Return the text before the completion without a chat template.

    Args:
        prompt: text, or a conversation of one turn, whose content is then the prompt.
        template: `plain` or `instruction`.
        example_id: whose prompt it is, for the error.

    Raises:
        UserError: a conversation of several turns.
    """
    if not isinstance(prompt, str):
        if len(prompt) != 1:
            raise UserError(
                f"prompt.template is {template}: it takes one user turn, and {_example(example_id)} has {len(prompt)} "
                "turns before its answer. Use prompt.template: chat."
            )
        prompt = prompt[0].content
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
        self._end: str | None = None

    @property
    def end_of_turn(self) -> str:
        """What the template writes behind an answer, its first control token included; "" where it writes none."""
        if self._end is None:
            probe = "Hi there"
            turns = (Message("user", "Hello"), Message("assistant", probe))
            whole = self._render(turns, False, None)
            self._end = _up_to_control(whole, whole.text.rfind(probe) + len(probe))
        return self._end

    def prompt(self, prompt: str | Sequence[Message], example_id: str | None = None) -> Rendered:
        """Return the conversation so far, up to where the model answers; a text is the user's turn.

        Raises:
            UserError: the template refuses the turns.
        """
        return self._render(_turns(prompt), True, example_id)

    def answered(
        self, prompt: str | Sequence[Message], completion: str, example_id: str | None = None
    ) -> tuple[Rendered, int]:
        """Return prompt and completion up to the end of the turn, and where the completion starts (a character).

        It is the template's own rendering of the whole conversation where that goes on from the prompt and keeps the
        completion (white space at its end aside). Else (templates that begin a thought for the model, or strip an
        answer's indentation) prompt, completion and end are joined, so that training shows what generation starts from.

        Raises:
            UserError: the template refuses the turns.
        """
        before = self.prompt(prompt, example_id)
        whole = self._render((*_turns(prompt), Message("assistant", completion)), False, example_id)
        kept = completion.rstrip()
        start = whole.text.find(kept, len(before.text)) if kept else -1
        if start < 0 or not whole.text.startswith(before.text):
            joined = before.with_text(completion)
            return self._with_end(joined), len(before.text)
        end = start + (len(completion) if whole.text.startswith(completion, start) else len(kept))
        closing = _up_to_control(whole, end)
        return (whole.cut(end + len(closing)) if closing else whole.cut(end)), start

    def _with_end(self, rendered: Rendered) -> Rendered:
        match = self._control.search(self.end_of_turn)
        if match is None:
            return rendered
        return rendered.with_text(self.end_of_turn[: match.start()]).with_control(match.group())

    def _render(self, turns: Sequence[Message], is_question: bool, example_id: str | None) -> Rendered:
        """Render the turns. What looks like a control token in them is hidden from the search for the real ones."""
        from jinja2 import TemplateError

        hidden: list[str] = []

        def hide(match: re.Match[str]) -> str:
            hidden.append(match.group())
            return f"\ue000{len(hidden) - 1}\ue001"

        messages = [{"role": turn.role, "content": self._control.sub(hide, turn.content)} for turn in turns]
        try:
            text = self._tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=is_question, **self._variables
            )
        except TemplateError as error:
            roles = ", ".join(turn.role for turn in turns)
            raise UserError(
                f"prompt.template is chat: the chat template refuses the turns of {_example(example_id)} ({roles}): "
                f"{error}. Change the roles of this row, or use prompt.template: plain."
            ) from None
        return _revealed(str(text), self._control, hidden)


def _revealed(text: str, control: re.Pattern[str], hidden: Sequence[str]) -> Rendered:
    """Put what was hidden back, and note where the control tokens stand."""
    parts: list[str] = []
    controls: list[tuple[int, int]] = []
    place = length = 0
    for match in re.finditer(rf"\ue000(\d+)\ue001|{control.pattern}", text):
        original = match.group() if match.group(1) is None else hidden[int(match.group(1))]
        parts += [text[place : match.start()], original]
        length += match.start() - place
        if match.group(1) is None:
            controls.append((length, length + len(original)))
        length += len(original)
        place = match.end()
    return Rendered("".join(parts) + text[place:], tuple(controls), is_chat=True)


def _up_to_control(rendered: Rendered, start: int) -> str:
    """Return the text from `start` to the end of the next control token; "" where there is none."""
    end = next((end for begin, end in rendered.controls if begin >= start), start)
    return rendered.text[start:end]


def _turns(prompt: str | Sequence[Message]) -> tuple[Message, ...]:
    return (Message("user", prompt),) if isinstance(prompt, str) else tuple(prompt)


def _example(example_id: str | None) -> str:
    return "an example" if example_id is None else f"the example {example_id}"


def resolve_template(
    template: str, tokenizer: PreTrainedTokenizerBase, stop_ids: frozenset[int], *, is_conversation: bool
) -> str:
    """Return what `prompt.template: auto` stands for; any other template as it is.

    `chat` for conversations and for instruct models, where the tokenizer has a chat template; else `plain`. A model is
    an instruct model where its template's end of turn is one of the tokens that end its generation: a base model may
    ship a template, too, and never ends a turn (Qwen2.5's base ends with `<|endoftext|>`, its template with
    `<|im_end|>`).

    Args:
        template: the recipe's.
        tokenizer: the model's.
        stop_ids: tokens at which the model's own generation ends, besides the tokenizer's end token.
        is_conversation: the training data are conversations.
    """
    if template != "auto":
        return template
    if not tokenizer.chat_template:
        return "plain"
    if is_conversation:
        return "chat"
    try:
        ends = ChatTemplate(tokenizer, {}).end_of_turn.strip()
    except UserError:  # a template that refuses even a question and its answer
        return "plain"
    end_id = tokenizer.convert_tokens_to_ids(ends) if ends else None
    return "chat" if end_id is not None and end_id in {*stop_ids, tokenizer.eos_token_id} else "plain"
