"""Find where generation starts: at the last token of a prompt that no continuation changes."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ibft.text.rendered import Rendered

if TYPE_CHECKING:
    from ibft.text.encoding import TextCodec

__all__ = ["Start", "common_prefix_length", "find_start"]

# Continuations that change the last tokens of a prompt wherever anything does: white space, and each ASCII character.
_PROBES = ("\n", "\n\n", "\n    x", "\r\n", "\t", "  ", "    ", "    x", "é", "的", *map(chr, range(32, 127)))

# A prompt's last characters, with the line they begin in, show which tokens a continuation changes.
_TAIL = 100

# With the character before it: Qwen's and Llama-3's words begin with a sign ("-Encod").
_LAST_RUN = re.compile(r"[^\w\r\n]?(?:\w+|[^\w\s]+|\s+)\Z")
_MAX_RUN = 64


@dataclasses.dataclass(frozen=True)
class Start:
    """The place where generation starts.

    input_ids: (T,) the tokens of the prompt that no continuation changes, start token included.
    healed: the characters of the prompt behind them; the model writes them again, and nothing else.
    text: the whole prompt, for servers that take text.
    """

    input_ids: tuple[int, ...]
    healed: str
    text: str


def find_start(codec: TextCodec, rendered: Rendered) -> Start:
    """Return where generation starts after a prompt."""
    input_ids, vocabulary = codec.encode(rendered), codec.vocabulary
    if not vocabulary.is_known:
        return Start(tuple(input_ids), "", rendered.text)
    kept = min(_num_unchanged(codec, rendered, input_ids), _before_last_run(codec, rendered, input_ids))
    # The prompt's first token stays: without a start token, a model would be given nothing.
    first = common_prefix_length(input_ids, codec.encode(Rendered("", (), rendered.is_chat))) + 1
    kept = max(kept, min(first, len(input_ids)))
    # A control token, and all before it, is what it is whatever follows.
    while any(vocabulary.is_barrier(token) for token in input_ids[kept:]):
        kept += 1
    healed = vocabulary.text_of(input_ids[kept:])
    while healed is None:  # the cut is inside of a character
        kept -= 1
        healed = vocabulary.text_of(input_ids[kept:])
    return Start(tuple(input_ids[:kept]), healed, rendered.text)


def _num_unchanged(codec: TextCodec, rendered: Rendered, input_ids: Sequence[int]) -> int:
    """Return how many of the first tokens no probe changes."""
    # The probes follow the last lines alone where these have the same tokens without the rest: 5 ms instead of 25 for a
    # prompt of 350 characters.
    tail = rendered.behind(rendered.text.rfind("\n", 0, max(0, len(rendered.text) - _TAIL)) + 1)
    for text, ids in ((tail, codec.encode(tail)), (rendered, list(input_ids))):
        shared = common_prefix_length(ids[::-1], input_ids[::-1])
        probed = codec.encode_all([text.with_text(probe) for probe in _PROBES])
        kept = min(common_prefix_length(ids, changed) for changed in probed)
        if kept > len(ids) - shared:
            return len(input_ids) - len(ids) + kept
    return 0


def _before_last_run(codec: TextCodec, rendered: Rendered, input_ids: Sequence[int]) -> int:
    """Return how many tokens precede the last run of letters, signs or white space: a word that may continue."""
    # Merges of several letters reach further back than any probe of one shows: "sequen" and "ce".
    run = _LAST_RUN.search(rendered.text, max(0, len(rendered.text) - _MAX_RUN))
    length, kept = len(run.group().encode()) if run else 0, len(input_ids)
    while kept > 0 and length > 0 and (value := codec.vocabulary.bytes_of(input_ids[kept - 1])) is not None:
        length -= len(value)
        kept -= 1
    return kept


def common_prefix_length(a: Sequence[int], b: Sequence[int]) -> int:
    """Return how many tokens two sequences have in common from the first on."""
    length = 0
    for left, right in zip(a, b, strict=False):
        if left != right:
            break
        length += 1
    return length
