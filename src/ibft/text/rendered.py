"""A text as the model sees it, in which control tokens are set apart from text like them."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Hidden", "Rendered", "control_ids", "control_tokens"]

# Private-use characters around the number of a text that is hidden from a template.
_OPEN, _CLOSE = "\ue000", "\ue001"


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
    # The longest first, since a pattern takes the first alternative that matches.
    added = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    return sorted({*added, *tokenizer.all_special_tokens}, key=lambda token: (-len(token), token))


def control_ids(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Return the ids of the tokenizer's control tokens."""
    added = {place for place, token in tokenizer.added_tokens_decoder.items() if token.special}
    return frozenset(added | set(tokenizer.all_special_ids))


class Hidden:
    """The texts that look like control tokens, each hidden behind a number while a template renders what it is in.

    Args:
        control: matches control tokens.
    """

    def __init__(self, control: re.Pattern[str]) -> None:
        self._control, self._texts = control, list[str]()
        # A text's own private-use characters are hidden as well, or they would be taken for ours.
        self._pattern = re.compile(rf"{_OPEN}|{control.pattern}")

    def hide(self, value: Any) -> Any:
        """Return the value with numbers in the place of all such texts in it, however deep."""
        if isinstance(value, str):
            return self._pattern.sub(self._number, value)
        if isinstance(value, Mapping):
            return {key: self.hide(item) for key, item in value.items()}
        return [self.hide(item) for item in value] if isinstance(value, list | tuple) else value

    def _number(self, match: re.Match[str]) -> str:
        self._texts.append(match.group())
        return f"{_OPEN}{len(self._texts) - 1}{_CLOSE}"

    def reveal(self, text: str) -> tuple[Rendered, Callable[[int], int]]:
        """Put back what was hidden, and note where the control tokens are.

        Returns:
            The text, and a function from a place in the text before to its place now.
        """
        parts: list[str] = []
        controls: list[tuple[int, int]] = []
        ends, shifts = [0], [0]
        place = length = 0
        for match in re.finditer(rf"{_OPEN}(\d+){_CLOSE}|{self._control.pattern}", text):
            number = match.group(1)
            original = match.group() if number is None else self._texts[int(number)]
            parts += [text[place : match.start()], original]
            length += match.start() - place
            if number is None:
                controls.append((length, length + len(original)))
            length += len(original)
            place = match.end()
            ends.append(place)
            shifts.append(length - place)
        rendered = Rendered("".join(parts) + text[place:], tuple(controls), is_chat=True)
        return rendered, lambda before: before + shifts[bisect_right(ends, before) - 1]
