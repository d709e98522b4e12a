"""The formats in which a model can be asked to solve a problem.

What a base model can do depends on how it is asked, and fine-tuning teaches a format along with everything else. So the
base is asked in every format that applies; a gain over one of them alone is a gain of format.

- `plain`: the prompt as it is; the model continues it.
- `instruction`: the prompt and a newline.
- `chat`: the prompt as the user's turn of the tokenizer's chat template; the answer is a program of its own.
- `chat_begun`: the same, and the model's answer is begun for it: a code fence and the prompt, which it continues.
- `examples`: examples of the training data before the prompt (never of the benchmark); as earlier turns where they are
  conversations.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from ibft.artifacts.rows import Conversation, Message, Problem, TrainingPair
from ibft.generation.ask import Ask
from ibft.run.sections import FORMATS, Format
from ibft.text.answers import is_open
from ibft.text.answers.blocks import has_fence
from ibft.text.rendered import Rendered
from ibft.text.templates import ChatTemplate, render_plain

__all__ = ["applicable_formats", "ask", "draw_examples"]

NUM_EXAMPLES = 2
_MAX_EXAMPLE_CHARACTERS = 1000
_GAP = "\n\n\n"  # as between functions in a file


def applicable_formats(has_chat: bool, examples: Sequence[TrainingPair]) -> tuple[Format, ...]:
    """Return the formats in which a model can be asked.

    Args:
        has_chat: the tokenizer has a chat template.
        examples: of the training data; conversations of several turns need a chat template.
    """
    has_examples = bool(examples) and (has_chat or not any(isinstance(pair, Conversation) for pair in examples))
    needs = {"chat": has_chat, "chat_begun": has_chat, "examples": has_examples}
    return tuple(form for form in FORMATS if needs.get(form, True))


def draw_examples(pairs: Sequence[TrainingPair], seed: int) -> list[TrainingPair]:
    """Draw the examples that stand before a prompt, among the short ones of the training data."""
    short = [pair for pair in pairs if len(str(pair.prompt)) + len(pair.completion) <= _MAX_EXAMPLE_CHARACTERS]
    return random.Random(seed).sample(short, min(NUM_EXAMPLES, len(short)))


def ask(problem: Problem, form: Format, chat: ChatTemplate | None, examples: Sequence[TrainingPair] = ()) -> Ask:
    """Return the problem in one of the `applicable_formats`.

    Args:
        problem: what is asked.
        form: the format.
        chat: the tokenizer's template, for the chats.
        examples: for `examples`.

    Raises:
        UserError: the chat template refuses the turns.
    """
    if form == "examples":
        return _after_examples(problem, chat, examples)
    if form in ("plain", "instruction"):
        return Ask(problem, render_plain(problem.prompt, form), "completion")
    assert chat is not None, "a chat needs a chat template"
    if form == "chat":
        return Ask(problem, chat.prompt(problem.prompt, problem.task_id), "chat")
    fence = f"```{problem.language}\n"
    request = f"Complete this {problem.language.capitalize()} code. Answer with the whole program in one code block."
    turn = chat.prompt(f"{request}\n\n{fence}{problem.prompt.rstrip()}\n```", problem.task_id)
    if not is_open(problem):
        return Ask(problem, turn.with_text(fence), "chat", fence)
    return Ask(problem, turn.with_text(fence + problem.prompt), "completion")


def _after_examples(problem: Problem, chat: ChatTemplate | None, examples: Sequence[TrainingPair]) -> Ask:
    if not any(isinstance(pair, Conversation) for pair in examples):
        shown = "".join(f"{pair.prompt or ''}{pair.completion.rstrip()}{_GAP}" for pair in examples)
        # Answers come as the examples show them.
        is_chat = any(has_fence(pair.completion) for pair in examples)
        return Ask(problem, Rendered(shown + problem.prompt), "chat" if is_chat else "completion")
    assert chat is not None, "examples of several turns need a chat template"
    turns: list[Message] = []
    for pair in examples:
        before = pair.prompt if isinstance(pair, Conversation) else (Message("user", pair.prompt or ""),)
        turns += [*before, Message("assistant", pair.completion)]
    return Ask(problem, chat.prompt([*turns, Message("user", problem.prompt)], problem.task_id), "chat")
