"""The one function that turns a prompt into the text a model sees, for training, scan and generation alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibft.errors import UserError
from ibft.rows import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["render_prompt"]


def render_prompt(
    prompt: str | tuple[Message, ...],
    template: str,
    tokenizer: PreTrainedTokenizerBase | None,
    example_id: str | None = None,
) -> str:
    r"""Return the text that comes before the completion.

    Args:
        prompt: text, or the conversation so far.
        template: `plain` (the prompt as it is), `instruction` (the prompt and a newline, the reference code's
            template: OPTML-Group/MemorizationBarrier at 160d19d, train_ib.py) or `chat` (the tokenizer's chat
            template with its generation prompt).
        tokenizer: used by `chat` alone; the other templates take None.
        example_id: whose prompt it is, for the error.

    Raises:
        UserError: a conversation of several turns without `chat`, or `chat` without a chat template.
    """
    if template == "chat":
        if tokenizer is None or not tokenizer.chat_template:
            raise UserError("prompt.template is chat: this tokenizer has no chat template. Use plain or instruction.")
        turns = (Message("user", prompt),) if isinstance(prompt, str) else prompt
        messages = [{"role": turn.role, "content": turn.content} for turn in turns]
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    if not isinstance(prompt, str):
        if len(prompt) != 1:
            example = "an example" if example_id is None else f"the example {example_id}"
            raise UserError(
                f"prompt.template is {template}: it takes one user turn, and {example} has {len(prompt)} turns "
                "before its answer. Use prompt.template: chat."
            )
        prompt = prompt[0].content
    return prompt + "\n" if template == "instruction" else prompt
