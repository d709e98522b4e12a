"""From a model's raw text to the text of its answer: without reasoning, control tokens and turns that follow.

Rules 1 to 3 of the package's docstring. The language of the code does not matter here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ibft.text.answers.blocks import has_fence

__all__ = ["has_marks", "is_chat", "plain_texts"]

# `<|im_end|>` and its like; DeepSeek's have full-width bars. `</s>`, `[INST]` and the others are plain ASCII.
_CONTROL = (
    r"(?:<\|[\w./:▁ -]{1,40}\|>|<｜[\w▁ ]{1,40}｜>|</?s>|<(?:bos|eos|pad|unk)>|<(?:start|end)_of_\w{1,20}>"
    r"|<\|?(?:fim_(?:prefix|suffix|middle|pad)|file_sep|repo_name|filename)\|?>|\[/?INST\]|<</?SYS>>)"
)
_HEAD = re.compile(rf"\A(?:\s*{_CONTROL}(?:[ \t]*(?:assistant|model)\b)?)+\n*")
_TAIL = re.compile(rf"{_CONTROL}\Z")
_LONGEST = 48  # more characters than a control token has: the end of a long text is all that is searched
_NEAR = 200  # characters on both sides of a token: what keeps a look around it cheap
# Alpaca's headings are control tokens that are spelled out.
_HEADING = r"^###[ ](?:Instruction|Input|Question|Human|User):?[ \t]*$"
_MARK = re.compile(rf"{_CONTROL}|{_HEADING}", re.MULTILINE)
_RESPONSE = re.compile(r"\A\s*###[ ](?:Response|Answer|Assistant|Output):[ \t]*\n")

_NAMES = r"(?:think|thinking|thought|thoughts|reasoning|reflection|scratchpad|analysis|seed:think)"
_FENCE = r"^[ \t>]*(?P<fence>```|~~~)"
# A tag between quotes is text that code works on: r"<think>.*?</think>".
_REASONING = re.compile(
    rf"""{_FENCE}
      | ^[ \t]*(?P<open><{_NAMES}>|\[THINK\]|◁think▷|<\|begin_of_thought\|>|<\|START_THINKING\|>|<unused94>thought)
      | (?P<close></{_NAMES}>|\[/THINK\]|◁/think▷|<\|end_of_thought\|>|<\|END_THINKING\|>|<unused95>)
        (?!["'`](?!``))""",
    re.IGNORECASE | re.MULTILINE | re.VERBOSE,
)
_CHANNEL = re.compile(r"<\|channel\|>\s*(?P<name>\w+)[^<\n]{0,80}<\|message\|>|<\|channel\|>")
# Before a capital: `analysis = 1` is code.
_DECODED_CHANNELS = re.compile(r"\Aanalysis(?=[A-Z]).*?(?:assistantfinal|\Z)", re.DOTALL)


def has_marks(text: str) -> bool:
    """Decide whether text has what no program has: control tokens or reasoning. Strings and comments count as well."""
    return bool(_MARK.search(text) or _CHANNEL.search(text) or _DECODED_CHANNELS.match(text)) or any(
        match.lastgroup != "fence" for match in _REASONING.finditer(text)
    )


def is_chat(text: str) -> bool:
    """Decide whether text looks like an answer in a chat: it has marks, or a code fence."""
    return has_marks(text) or has_fence(text)


def plain_texts(text: str) -> Iterator[str]:
    """Yield what the answer may be, the likeliest reading first: at most two readings.

    They differ where a control token stands amid the text: it ends the answer, unless what stands before it is not
    a program, since then it may be part of a string or comment.
    """
    text = _without_head(_without_reasoning(_without_channels(text)))
    whole = _without_tail(text)
    end = next((mark.start() for mark in _MARK.finditer(whole) if not _is_quoted(whole, *mark.span())), None)
    if end is not None:
        yield whole[:end]
    yield whole


def _without_head(text: str) -> str:
    """Remove the header of the assistant's own turn: `<|im_start|>assistant` and a line break."""
    head = _HEAD.match(text) or _RESPONSE.match(text)
    return text[head.end() :] if head else text


def _without_tail(text: str) -> str:
    """Remove the control tokens at the end; without any, the text stays as it is."""
    left = text.rstrip()
    while tail := _TAIL.search(left, max(0, len(left) - _LONGEST)):
        text = left[: tail.start()]
        left = text.rstrip()
    return text


def _without_channels(text: str) -> str:
    """Keep the final channel of a "harmony" answer (gpt-oss); the same where its control tokens were decoded away."""
    channels = list(_CHANNEL.finditer(text))
    if not channels:
        return _DECODED_CHANNELS.sub("", text) if text.startswith("analysis") else text
    final = [channel for channel in channels if channel["name"] == "final"]
    return text[final[-1].end() :] if final else text[: channels[0].start()]


def _without_reasoning(text: str) -> str:
    """Remove what stands between reasoning tags, up to the end where none closes, from the start where none opens."""
    kept: list[str] = []
    start = 0
    is_reasoning, fence, before_close = False, "", ""
    for match in _REASONING.finditer(text):
        kind = match.lastgroup
        # Fences count outside of reasoning alone: one in it may never close, and would hide the tag that ends it.
        if kind == "fence" and not is_reasoning:
            fence = match["fence"] if not fence else "" if match["fence"] == fence else fence
        elif kind == "open" and not is_reasoning and not fence:
            kept.append(text[start : match.start("open")])
            is_reasoning = True
        elif kind == "close" and is_reasoning:
            is_reasoning, start = False, match.end()
        elif kind == "close" and not fence and not _is_comment(text, match.start()):
            # The prompt had opened it: all that came before is reasoning.
            before_close = "".join([*kept, text[start : match.start()]])
            kept, start = [], match.end()
    if is_reasoning:
        return "".join(kept)
    left = "".join([*kept, text[start:]])
    return left if left.strip() else before_close


def _is_comment(text: str, position: int) -> bool:
    before = text[max(0, position - _NEAR) : position].rpartition("\n")[2]
    return "#" in before or "//" in before


def _is_quoted(text: str, start: int, end: int) -> bool:
    """Decide whether the same quotation mark stands on both sides of a token, on its line and near it."""
    before = text[max(0, start - _NEAR) : start].rpartition("\n")[2]
    after = text[end : end + _NEAR].partition("\n")[0]
    return any(quote in before and quote in after for quote in "\"'`")
