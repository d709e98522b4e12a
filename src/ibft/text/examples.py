"""Training examples as tokens: all that the model reads, and which tokens of it are trained."""

from __future__ import annotations

import dataclasses
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

import msgspec

from ibft.artifacts.rows import Conversation, TrainingPair
from ibft.errors import PromptError
from ibft.text.encoding import TextCodec
from ibft.text.rendered import Rendered
from ibft.text.start import common_prefix_length
from ibft.text.templates import ChatTemplate, example_name, unread_fields
from ibft.text.turns import render_conversation

__all__ = ["EncodedExample", "encode_answer", "encode_pair"]

Places = Sequence[tuple[int, int]] | None


@dataclasses.dataclass(frozen=True)
class EncodedExample:
    """An example as tokens.

    input_ids: (T,) token ids, start and end token included.
    trained: ranges `(first, end)` of the tokens that are trained, in their order.
    response: the tokens of the last answer that lie in it from their first character to their last.
    text: the whole text, control tokens included.
    completion: the characters `(start, end)` of `text` that are the last answer.
    """

    input_ids: list[int]
    trained: tuple[tuple[int, int], ...]
    response: slice
    text: str
    completion: tuple[int, int]

    @property
    def border(self) -> int:
        """The first token that is trained."""
        return self.trained[0][0]


def encode_pair(codec: TextCodec, pair: TrainingPair) -> EncodedExample:
    """Encode a training example of any kind; it has one end.

    Raises:
        PromptError: the template does not take this example, or does not read a field of it; names both.
    """
    if not isinstance(pair, Conversation):
        if pair.prompt is None:
            return _encode_text(codec, pair.completion)
        return encode_answer(codec, pair.prompt, pair.completion, pair.id)
    if codec.chat is not None:
        return _encode_conversation(codec, codec.chat, pair)
    unread = [field for turn in pair.turns for field in unread_fields(turn, "")]
    if len(pair.trained) > 1 or len(pair.prompt) != 1 or pair.tools or unread:
        what = "tools" if pair.tools else f"the field {unread[0]}" if unread else f"{len(pair.turns)} turns"
        raise PromptError(
            f"prompt.template is {codec.template}: it takes one question and its answer, and {example_name(pair.id)} "
            f"has {what}. Use prompt.template: chat, for which the model needs a chat template."
        )
    return encode_answer(codec, pair.prompt[0].content or "", pair.completion, pair.id)


def encode_answer(codec: TextCodec, prompt: str, completion: str, example_id: str | None = None) -> EncodedExample:
    """Encode a prompt and its completion. An end that the completion has as text becomes the token.

    Raises:
        PromptError: the template refuses them; names the example.
    """
    before = codec.render(prompt, example_id)
    text = _without_end(codec, completion)
    if codec.chat is None:
        whole = before.with_text(text)
        start, end = len(before.text), len(whole.text)
    else:
        whole, (start, end) = codec.chat.answered(prompt, text, example_id)
        # What the template opens an answer with is trained, as TRL does it.
        before = before.cut(len(before.text) - codec.chat.num_opening)
    has_end = codec.has_end or text != completion
    if not has_end:
        whole = whole.cut(end)
    input_ids, places = codec.encode_with_places(whole)
    # As in TRL 1.16: a token that spans prompt and completion is learned.
    border = common_prefix_length(codec.encode(before), input_ids)
    response = _inside(codec, whole, input_ids, places, border, (start, end))
    if has_end and not any(first >= end for first, _ in whole.controls):
        input_ids.append(codec.tokenizer.eos_token_id)
    return EncodedExample(input_ids, ((border, len(input_ids)),), response, whole.text, (start, end))


def _encode_text(codec: TextCodec, text: str) -> EncodedExample:
    """Encode text without a prompt: all of it is trained, whatever the template."""
    whole = Rendered(_without_end(codec, text))
    input_ids = codec.encode(whole)
    start = len(codec.encode(Rendered("")))
    response = slice(max(start, 1), len(input_ids))  # nothing predicts the very first token
    if codec.has_end or whole.text != text:
        input_ids.append(codec.tokenizer.eos_token_id)
    return EncodedExample(input_ids, ((start, len(input_ids)),), response, whole.text, (0, len(whole.text)))


def _encode_conversation(codec: TextCodec, chat: ChatTemplate, conversation: Conversation) -> EncodedExample:
    """Encode a conversation: its tokens are those of the template's text."""
    turns = list(conversation.turns)
    for place in conversation.trained:
        turns[place] = msgspec.structs.replace(
            turns[place], content=turns[place].content and _without_end(codec, str(turns[place].content))
        )
    has_end = codec.has_end or tuple(turns) != conversation.turns
    whole, answers = render_conversation(chat, msgspec.structs.replace(conversation, turns=tuple(turns)))
    input_ids, places = codec.encode_with_places(whole)
    trained = []
    for answer in answers:
        end = answer.end if has_end else answer.content[1]
        trained.append(_touched(codec, whole, input_ids, places, (answer.start, end)))
    content = answers[-1].content
    response = _inside(codec, whole, input_ids, places, trained[-1][0], content)
    # Where the template ends its last turn without a control token, the tokenizer's own is the end.
    if has_end and trained[-1][1] == len(input_ids) and not _has_ended(whole, answers[-1].end):
        input_ids.append(codec.tokenizer.eos_token_id)
        trained[-1] = (trained[-1][0], len(input_ids))
    return EncodedExample(input_ids, tuple(trained), response, whole.text, content)


def _has_ended(whole: Rendered, end: int) -> bool:
    """Decide whether a control token stands at this place, white space aside, or behind it."""
    return any(last >= end or not whole.text[last:end].strip() for _, last in whole.controls)


def _touched(
    codec: TextCodec, whole: Rendered, input_ids: Sequence[int], places: Places, span: tuple[int, int]
) -> tuple[int, int]:
    """Return first and end of the tokens with a character in the span, as in transformers' mask of the assistant."""
    start, end = span
    # Only the fast tokenizers of transformers know the places of their tokens.
    if places is None:
        first = common_prefix_length(codec.encode(whole.cut(start)), input_ids)
        return first, max(first, common_prefix_length(codec.encode(whole.cut(end)), input_ids))
    first = bisect_right(places, start, key=lambda place: place[1])
    return first, max(first, bisect_left(places, end, key=lambda place: place[0]))


def _inside(
    codec: TextCodec, whole: Rendered, input_ids: Sequence[int], places: Places, border: int, span: tuple[int, int]
) -> slice:
    """Return the tokens that lie in the span; where their places are not known, those from the border on."""
    start, end = span
    if places is None:
        return slice(border, common_prefix_length(codec.encode(whole.cut(end)), input_ids))
    # `first < last`: a start token has the empty place (0, 0).
    inside = [token for token, (first, last) in enumerate(places) if first >= start and first < last <= end]
    return slice(inside[0], inside[-1] + 1) if inside else slice(len(input_ids), len(input_ids))


def _without_end(codec: TextCodec, completion: str) -> str:
    """Return the completion without the end tokens that rows of some data sets carry as text."""
    ends = tuple(filter(None, [codec.tokenizer.eos_token, codec.chat.end_of_turn.strip() if codec.chat else None]))
    while (text := completion.rstrip()).endswith(ends):
        completion = text.removesuffix(next(end for end in ends if text.endswith(end)))
    return completion
