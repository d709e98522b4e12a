"""Prompts and answers as the text that a model sees, in which control tokens are told apart from text like them.

`plain` is the prompt as it is, `instruction` the prompt and a newline (the reference code's template:
OPTML-Group/MemorizationBarrier at 160d19d, train_ib.py), `chat` the tokenizer's chat template.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ibft.artifacts.rows import Message
from ibft.errors import PromptError, UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Private-use characters around the number of a text that is hidden from a template.
_HIDDEN = ("\ue000", "\ue001")
_PROBE = (Message("user", "Hello"), Message("assistant", "Hi there"))

__all__ = ["ChatTemplate", "Rendered", "control_tokens", "render_plain"]


class Rendered(NamedTuple):
    """A text and the places `(start, end)` of its control tokens; all else in it is text, whatever it looks like.

    `is_chat`: a chat template wrote the text, start token included; else the tokenizer adds its own start token.
    """

    text: str
    controls: tuple[tuple[int, int], ...] = ()
    is_chat: bool = False

    def cut(self, end: int) -> Rendered:
        """Return the text up to the character `end`."""
        return self._replace(text=self.text[:end], controls=tuple(place for place in self.controls if place[1] <= end))

    def behind(self, start: int) -> Rendered:
        """Return the text from the character `start` on."""
        controls = tuple((first - start, last - start) for first, last in self.controls if first >= start)
        return self._replace(text=self.text[start:], controls=controls)

    def with_text(self, text: str) -> Rendered:
        """Return this followed by `text`, which is text to the last character."""
        return self._replace(text=self.text + text)

    def followed_by(self, other: Rendered) -> Rendered:
        """Return this followed by `other`, with the control tokens of both."""
        length = len(self.text)
        controls = tuple((first + length, last + length) for first, last in other.controls)
        return self._replace(text=self.text + other.text, controls=(*self.controls, *controls))


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
                "turns before its answer. Use prompt.template: chat, for which the model needs a chat template."
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
        self._hidden = re.compile(rf"{_HIDDEN[0]}|{self._control.pattern}")

    @property
    def end_of_turn(self) -> str:
        """What the template writes behind an answer, its first control token included; "" where it writes none."""
        return self._tail.text[: _end_of_control(self._tail)]

    @cached_property
    def _tail(self) -> Rendered:
        """All that the template writes behind an answer at the end of a conversation."""
        whole = self._render(_PROBE, False, None)
        return whole.behind(whole.text.rfind(_PROBE[-1].content) + len(_PROBE[-1].content))

    @cached_property
    def num_opening(self) -> int:
        """How many of the last characters before an answer the template marks as the assistant's own.

        (Qwen2.5's line break, DeepSeek-V3's `<｜Assistant｜>`: they are trained, as TRL does.)
        """
        before, whole = self.prompt(_PROBE[:1]).text, self._render(_PROBE, False, None).text
        if self._marked is None or not whole.startswith(before):
            return 0
        return max(0, len(before) - self._marked[0])

    @cached_property
    def _closing(self) -> Rendered:
        """What of the tail is trained: up to its first control token, or all that is marked as the assistant's.

        (Most marks include the line break behind the end of a turn.)
        """
        num_marked = 0 if self._marked is None else len(self._tail.text) - self._marked[1]
        return self._tail.cut(max(_end_of_control(self._tail), num_marked))

    @cached_property
    def _marked(self) -> tuple[int, int] | None:
        """Where the marks of an answer begin, and how many characters are behind them; None without marks."""
        from transformers.utils.chat_template_utils import render_jinja_template

        marked = _marked_template(self._tokenizer.get_chat_template())
        if marked is None:
            return None
        [text], [places] = render_jinja_template(
            [[{"role": turn.role, "content": turn.content} for turn in _PROBE]],
            chat_template=marked,
            return_assistant_tokens_mask=True,
            **self._tokenizer.special_tokens_map,
            **self._variables,
        )
        return (int(places[0][0]), len(text) - int(places[-1][1])) if places else None

    def prompt(self, prompt: str | Sequence[Message], example_id: str | None = None) -> Rendered:
        """Return the conversation so far, up to where the model answers; a text is the user's turn.

        Raises:
            UserError: the template refuses the turns.
        """
        return self._render(_turns(prompt), True, example_id)

    def answered(
        self, prompt: str | Sequence[Message], completion: str, example_id: str | None = None
    ) -> tuple[Rendered, tuple[int, int]]:
        """Return prompt and completion up to the end of the turn, and the completion's first and last character.

        It is the template's own rendering of the whole conversation where that goes on from the prompt and keeps the
        completion (white space at its end aside). Else (templates that begin a thought for the model, or strip an
        answer's indentation) prompt, completion and end are joined, so that training shows what generation starts from.

        Raises:
            UserError: the template refuses the turns.
        """
        before = self.prompt(prompt, example_id)
        whole = self._render((*_turns(prompt), Message("assistant", completion)), False, example_id)
        for kept in (completion, completion.rstrip()):
            start = len(whole.text) - len(self._tail.text) - len(kept)
            is_kept = start >= len(before.text) and whole.text.endswith(kept + self._tail.text)
            if is_kept and whole.text.startswith(before.text):
                end = start + len(kept)
                return whole.cut(end + len(self._closing.text)), (start, end)
        whole = before.with_text(completion)
        return whole.followed_by(self._closing), (len(before.text), len(whole.text))

    def _render(self, turns: Sequence[Message], is_question: bool, example_id: str | None) -> Rendered:
        """Render the turns. What looks like a control token in them is hidden from the search for the real ones."""
        from jinja2 import TemplateError

        hidden: list[str] = []

        def hide(match: re.Match[str]) -> str:
            hidden.append(match.group())
            return f"{_HIDDEN[0]}{len(hidden) - 1}{_HIDDEN[1]}"

        messages = [{"role": turn.role, "content": self._hidden.sub(hide, turn.content)} for turn in turns]
        try:
            text = self._tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=is_question, **self._variables
            )
        except TemplateError as error:
            roles = ", ".join(turn.role for turn in turns)
            raise PromptError(
                f"prompt.template is chat: the chat template refuses the turns of {_example(example_id)} ({roles}): "
                f"{error}. Change its turns (a system text can begin the user's turn), or leave it out."
            ) from None
        return _revealed(str(text), self._control, hidden)


def _marked_template(template: str) -> str | None:
    """Return the template with marks around what the assistant writes; None where there are none.

    It is the template itself, or what TRL trains in its place: `chat_templates/` of its package has the templates of
    common models, each beside a version with marks. (Read as files: to import TRL takes seconds.)
    """
    if re.search(r"\{%-?\s*generation\s*-?%\}", template):
        return template
    package = importlib.util.find_spec("trl")
    if package is None or package.origin is None:
        return None
    for path in (Path(package.origin).parent / "chat_templates").glob("*.jinja"):
        marked = path.with_stem(f"{path.stem}_training")
        if marked.is_file() and path.read_text(encoding="utf-8") == template:
            return marked.read_text(encoding="utf-8")
    return None


def _revealed(text: str, control: re.Pattern[str], hidden: Sequence[str]) -> Rendered:
    """Put what was hidden back, and note where the control tokens stand."""
    parts: list[str] = []
    controls: list[tuple[int, int]] = []
    place = length = 0
    for match in re.finditer(rf"{_HIDDEN[0]}(\d+){_HIDDEN[1]}|{control.pattern}", text):
        original = match.group() if match.group(1) is None else hidden[int(match.group(1))]
        parts += [text[place : match.start()], original]
        length += match.start() - place
        if match.group(1) is None:
            controls.append((length, length + len(original)))
        length += len(original)
        place = match.end()
    return Rendered("".join(parts) + text[place:], tuple(controls), is_chat=True)


def _end_of_control(rendered: Rendered) -> int:
    """Return the end of the first control token; 0 where there is none."""
    return rendered.controls[0][1] if rendered.controls else 0


def _turns(prompt: str | Sequence[Message]) -> tuple[Message, ...]:
    return (Message("user", prompt),) if isinstance(prompt, str) else tuple(prompt)


def _example(example_id: str | None) -> str:
    return "an example" if example_id is None else f"the example {example_id}"
