"""A short name for an example's code, by which a score is known to be of this example. Pure."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from ibft.artifacts.rows import Conversation, TrainingPair
from ibft.data.code import MIN_TOKENS, code_of, code_tokens, prompt_text
from ibft.data.tokens import is_unicode

__all__ = ["canonical", "fingerprint", "has_fingerprint"]


def fingerprint(pair: TrainingPair) -> str:
    """Return 64 bits in hexadecimal digits, equal for examples whose code is equal except for layout and comments.

    Code of fewer than 20 tokens is nobody's copy: then equal for equal prompts and completions. Where the answers of a
    conversation have no more than that, the other fields of the turns that are trained (the calls of tools) are equal,
    too.
    """
    tokens = [token for code in code_of(prompt_text(pair), pair.completion) for token in code_tokens(code)]
    parts = tokens if len(tokens) >= MIN_TOKENS else [prompt_text(pair).strip(), pair.completion.strip()]
    return hashlib.sha256("\0".join([*parts, *_fields_of(pair)]).encode()).hexdigest()[:16]


def canonical(value: Any) -> bytes:
    """Return JSON of a part of a row, the same for equal ones: the order of keys does not count."""
    try:
        return json.dumps(value, sort_keys=True, default=str).encode()
    except TypeError:  # numbers among the keys, as Parquet has them, which JSON writes as text
        return json.dumps(json.loads(json.dumps(value, default=str)), sort_keys=True).encode()


def _fields_of(pair: TrainingPair) -> list[str]:
    """Return the fields of the trained turns where these have little code; nothing where there are none."""
    if not isinstance(pair, Conversation):
        return []
    answers = [pair.turns[place] for place in pair.trained]
    codes = [code for answer in answers for code in code_of("", answer.content or "")]
    if not any(answer.fields for answer in answers) or sum(len(code_tokens(code)) for code in codes) >= MIN_TOKENS:
        return []
    return [canonical([answer.fields for answer in answers]).decode()]


def has_fingerprint(pair: TrainingPair, known: str) -> bool:
    """Decide whether the fingerprint is this example's; False for a text that is not valid Unicode."""
    return is_unicode(pair) and fingerprint(pair) == known
