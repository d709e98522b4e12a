"""Text to tokens and back, for training, scan and generation alike.

Prompt and completion are encoded as one text, once: a tokenizer cuts no text where a prompt happens to end. The border
is where the tokens of the prompt alone and of the whole text first differ (as in TRL 1.16), so a token that spans it
belongs to what is learned. Generation starts from the tokens of the prompt that no continuation changes (`start`), and
is held to the characters that were taken off (token healing, `healing`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from ibft.artifacts.rows import Message
from ibft.errors import UserError
from ibft.run.sections import PromptConfig
from ibft.text.healing import Vocabulary
from ibft.text.rendered import Rendered, control_tokens
from ibft.text.start import Start, common_prefix_length, find_start
from ibft.text.templates import ChatTemplate, render_plain

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Start", "TextCodec", "codec_of", "common_prefix_length"]


class TextCodec:
    """The border between text and tokens of one model and one template.

    Args:
        tokenizer: the model's.
        template: `plain`, `instruction` or `chat`.
        has_end: the end of an answer is trained: the template's end of turn, or else the tokenizer's end token.
        chat_variables: passed to the chat template.

    Raises:
        UserError: the tokenizer has no chat template or no end token, which these arguments need.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        template: str,
        *,
        has_end: bool = True,
        chat_variables: Mapping[str, Any] | None = None,
    ) -> None:
        self.tokenizer, self.template, self.has_end = tokenizer, template, has_end
        self.chat = ChatTemplate(tokenizer, chat_variables or {}) if template == "chat" else None
        if has_end and tokenizer.eos_token_id is None:
            raise UserError(
                "prompt.end_of_text is true: this tokenizer has no end token. Set prompt.end_of_text: false."
            )
        self._controls = control_tokens(tokenizer)
        self._num_trailing = self._count_trailing()

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The text of every token."""
        return _vocabulary(self.tokenizer, len(self.tokenizer))

    @property
    def end_ids(self) -> frozenset[int]:
        """The tokens that end an answer: the tokenizer's end token, and with `chat` the template's end of turn."""
        # Qwen's base and Gemma's chat models end a turn with another token than a text: generation stops at both.
        ends = {self.tokenizer.eos_token_id}
        if self.chat is not None and self.chat.end_of_turn:
            ends.add(self._control_ids(self.chat.end_of_turn)[-1])
        return frozenset(end for end in ends if end is not None)

    def _control_ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _count_trailing(self) -> int:
        """Return how many tokens the tokenizer adds behind a text by default; they are left out."""
        # A prompt must not have an end, and an answer gets its own.
        alone = self.tokenizer("a", add_special_tokens=False)["input_ids"]
        marked = self.tokenizer("a")["input_ids"]
        starts = [place for place in range(len(marked)) if marked[place : place + len(alone)] == alone]
        return len(marked) - starts[0] - len(alone) if starts else 0

    def render(self, prompt: str | Sequence[Message], example_id: str | None = None) -> Rendered:
        """Return the text that comes before the completion.

        Raises:
            UserError: the template does not take this prompt; names the example.
        """
        if self.chat is not None:
            return self.chat.prompt(prompt, example_id)
        return render_plain(prompt, self.template, example_id)

    def encode(self, rendered: Rendered) -> list[int]:
        """Return the tokens (T,) of a text, with the start token that its template or the tokenizer gives it."""
        return self.encode_with_places(rendered)[0]

    def encode_all(self, texts: Sequence[Rendered]) -> list[list[int]]:
        """Return the tokens of many texts of one kind (all of a chat template or none), at half the cost of each."""
        if not texts[0].is_chat:
            encoded = self.tokenizer([text.text for text in texts], split_special_tokens=True)["input_ids"]
            return [ids[: len(ids) - self._num_trailing] for ids in encoded]
        if all(map(self._has_only_controls, texts)):
            return list(self.tokenizer([text.text for text in texts], add_special_tokens=False)["input_ids"])
        return [self.encode(text) for text in texts]

    def start(self, prompt: str | Sequence[Message], example_id: str | None = None) -> Start:
        """Return where generation starts after this prompt."""
        return self.start_of(self.render(prompt, example_id))

    def start_of(self, rendered: Rendered) -> Start:
        """Return where generation starts after this text."""
        return find_start(self, rendered)

    def answer(self, start: Start, token_ids: Sequence[int]) -> str:
        """Return the text that the model wrote behind the prompt, without control tokens.

        It is put together from the tokens' bytes.
        """
        # `decode` of the new tokens alone leaves out a first space in the SentencePiece family (CodeLlama's base solved
        # 0 of 3 problems so, and 3 of 3 with transformers). Behind other tokens it takes characters of the prompt apart
        # where a byte is invalid.
        if self.vocabulary.is_known:
            written = b"".join(filter(None, map(self.vocabulary.bytes_of, token_ids)))
            return written[len(start.healed.encode()) :].decode(errors="replace")
        before, whole = self._decode(start.input_ids), self._decode([*start.input_ids, *token_ids])
        return whole[len(before) :]

    def _decode(self, token_ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(token_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def encode_with_places(self, rendered: Rendered) -> tuple[list[int], list[tuple[int, int]] | None]:
        """Return the tokens (T,) of a text, and the first and last character of each; None for a tokenizer that does
        not know them.
        """
        if not rendered.is_chat:
            # Split: `<|im_end|>` in somebody's code is text, and would otherwise end an answer in the labels.
            ids, offsets = self._call(rendered.text, add_special_tokens=True, split_special_tokens=True)
            keep = len(ids) - self._num_trailing
            return ids[:keep], offsets and offsets[:keep]
        if self._has_only_controls(rendered):
            return self._call(rendered.text, add_special_tokens=False)
        return self._encode_parts(rendered)

    def _has_only_controls(self, rendered: Rendered) -> bool:
        """Decide whether every string that looks like a control token is one."""
        place = 0
        for start, end in [*rendered.controls, (len(rendered.text), len(rendered.text))]:
            if any(token in rendered.text[place:start] for token in self._controls):
                return False
            place = end
        return True

    def _encode_parts(self, rendered: Rendered) -> tuple[list[int], list[tuple[int, int]] | None]:
        """Encode a chat in which text looks like control tokens: the texts between its control tokens one by one."""
        ids: list[int] = []
        offsets: list[tuple[int, int]] = []
        is_known = True
        place = 0
        for start, end in [*rendered.controls, (len(rendered.text), len(rendered.text))]:
            text = self._part(rendered.text[place:start], is_first=not ids)
            control = self._call(rendered.text[start:end], add_special_tokens=False)
            for base, (part, places) in ((place, text), (start, control)):
                ids += part
                is_known = is_known and places is not None
                offsets += [(base + first, base + last) for first, last in places or []]
            place = end
        return ids, offsets if is_known else None

    def _part(self, text: str, *, is_first: bool) -> tuple[list[int], list[tuple[int, int]] | None]:
        """Encode a text that stands behind other text, where no tokenizer puts its dummy space before it."""
        alone, places = self._call(text, add_special_tokens=False, split_special_tokens=True)
        if is_first:
            return alone, places
        # Behind a line break there is no dummy space; the break's own tokens come off again.
        anchor, _ = self._call("\n", add_special_tokens=False)
        ids, behind = self._call("\n" + text, add_special_tokens=False, split_special_tokens=True)
        if ids[: len(anchor)] != anchor:
            return alone, places
        return ids[len(anchor) :], behind and [(max(0, a - 1), b - 1) for a, b in behind[len(anchor) :]]

    def _call(self, text: str, **arguments: bool) -> tuple[list[int], list[tuple[int, int]] | None]:
        # As a list of one: in a single text, CodeLlama's tokenizer takes "<FILL_ME>" for a gap to fill.
        encoded = self.tokenizer([text], return_offsets_mapping=self.tokenizer.is_fast, **arguments)
        offsets = encoded.get("offset_mapping")
        return list(encoded["input_ids"][0]), offsets and offsets[0]


# A tokenizer can be given further tokens, so their number is part of the key.
@lru_cache(maxsize=4)
def _vocabulary(tokenizer: PreTrainedTokenizerBase, _num_tokens: int) -> Vocabulary:
    """Return the text of every token, made once for all codecs of a tokenizer (seconds for 260,000 tokens)."""
    return Vocabulary(tokenizer)


def codec_of(config: PromptConfig, tokenizer: PreTrainedTokenizerBase) -> TextCodec:
    """Return the border that a recipe's `prompt` section asks for; `auto` has been resolved.

    Raises:
        UserError: see `TextCodec`.
    """
    assert config.template != "auto", "a command resolves it first"
    return TextCodec(tokenizer, config.template, has_end=config.end_of_text, chat_variables=config.chat_template_kwargs)
