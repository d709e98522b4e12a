"""Choose what `prompt.template: auto` stands for, for one model and its data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from ibft.errors import UserError
from ibft.text.templates import ChatTemplate

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["choose_template"]


def choose_template(
    tokenizer: PreTrainedTokenizerBase, stop_ids: frozenset[int], *, is_conversation: bool
) -> Literal["chat", "plain"]:
    """Return `chat` for conversations and instruct models where the tokenizer has a chat template, else `plain`.

    A model is an instruct model where its template's end of turn is one of the tokens that end its generation.

    Args:
        tokenizer: the model's.
        stop_ids: tokens at which the model's own generation ends, besides the tokenizer's end token.
        is_conversation: the training data are conversations.
    """
    if not tokenizer.chat_template:
        return "plain"
    if is_conversation:
        return "chat"
    try:
        end = ChatTemplate(tokenizer, {}).end_of_turn.strip()
    except UserError:  # a template that refuses even a question and its answer
        return "plain"
    # A base model may ship a template, too, and never ends a turn: Qwen2.5's base ends with `<|endoftext|>`, its
    # template with `<|im_end|>`.
    end_id = tokenizer.convert_tokens_to_ids(end) if end else None
    return "chat" if end_id is not None and end_id in {*stop_ids, tokenizer.eos_token_id} else "plain"
