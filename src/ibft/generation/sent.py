"""What is sent to a server, so that the border between prompt and answer is one at which the tokenizer cuts.

A server cannot be held to characters, as the local loop is (`local`). So it gets the prompt up to where a natural
continuation changes its tokens: as it is for the tokenizers of Llama-3, Qwen and DeepSeek, without the last line break
for GPT-2's family (SmolLM2). What was taken off is what the answer has to begin with.
"""

from __future__ import annotations

from typing import NamedTuple

from ibft.text.encoding import TextCodec, common_prefix_length
from ibft.text.rendered import Rendered

__all__ = ["Sent", "to_send", "whole_prompt"]

# How an answer begins behind white space (an indented line, or any other) and behind anything else.
_BEHIND_SPACE = ("    pass", "x")
_BEHIND_TEXT = ("\n    pass", " x")
# How many tokens further back the border may be so that a text has it, too.
_MAX_TOKENS_BACK = 8


class Sent(NamedTuple):
    """A prompt as it is sent.

    prompt: a text, or tokens.
    healed: the prompt's characters behind it, which the answer has to begin with.
    num_healed: their tokens.
    is_exact: the server's tokenizer makes of it the beginning of what training shows.
    """

    prompt: str | list[int]
    healed: str = ""
    num_healed: int = 0
    is_exact: bool = True


def to_send(codec: TextCodec, rendered: Rendered, *, as_tokens: bool) -> Sent:
    """Return the longest beginning of a prompt whose tokens a natural continuation keeps; else the whole prompt.

    Args:
        codec: the model's.
        rendered: the prompt.
        as_tokens: the server takes tokens. A text also has to be cut where the answer's own tokens, decoded without
            those before them, give the answer: some servers (`transformers serve`) decode them so, and the
            SentencePiece family then leaves out a first space.
    """
    input_ids = codec.encode(rendered)
    answers = _BEHIND_SPACE if rendered.text[-1:].isspace() else _BEHIND_TEXT
    continued = {answer: codec.encode(rendered.with_text(answer)) for answer in answers}
    kept = min(common_prefix_length(input_ids, ids) for ids in continued.values())
    for cut in range(kept, max(kept - _MAX_TOKENS_BACK, 0), -1):
        removed = input_ids[cut:]
        if not codec.vocabulary.is_known or any(codec.vocabulary.bytes_of(token) is None for token in removed):
            break
        healed = codec.vocabulary.text_of(removed)
        if healed is None:  # the cut is inside of a character
            continue
        if as_tokens:
            return Sent(input_ids[:cut], healed, len(removed))
        text = _as_served(codec, rendered.text.removesuffix(healed), input_ids[:cut])
        if text is not None and all(
            codec.tokenizer.decode(ids[cut:], clean_up_tokenization_spaces=False) == healed + answer
            for answer, ids in continued.items()
        ):
            return Sent(text, healed, len(removed))
    return whole_prompt(codec, rendered, as_tokens=as_tokens)


def whole_prompt(codec: TextCodec, rendered: Rendered, *, as_tokens: bool) -> Sent:
    """Return the prompt as it is."""
    input_ids = codec.encode(rendered)
    if as_tokens:
        return Sent(input_ids)
    text = _as_served(codec, rendered.text, input_ids)
    return Sent(rendered.text, is_exact=False) if text is None else Sent(text)


def _as_served(codec: TextCodec, text: str, input_ids: list[int]) -> str | None:
    """Return the text of which a server makes these tokens: a chat template's start token is in it, or is added."""
    start = codec.tokenizer.bos_token
    candidates = [text.removeprefix(start), text] if start else [text]
    return next((text for text in candidates if list(codec.tokenizer(text)["input_ids"]) == input_ids), None)
