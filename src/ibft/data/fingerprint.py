"""A short name for an example's code, by which a score is known to be of this example. Pure."""

from __future__ import annotations

import hashlib

from ibft.artifacts.rows import TrainingPair
from ibft.data.code import MIN_TOKENS, code_of, code_tokens, prompt_text
from ibft.data.tokens import is_unicode

__all__ = ["fingerprint", "has_fingerprint"]


def fingerprint(pair: TrainingPair) -> str:
    """Return 64 bits in hexadecimal digits, equal for examples whose code is equal except for layout and comments.

    Code of fewer than 20 tokens is nobody's copy: then equal for equal prompts and completions.
    """
    tokens = [token for code in code_of(prompt_text(pair), pair.completion) for token in code_tokens(code)]
    parts = tokens if len(tokens) >= MIN_TOKENS else [prompt_text(pair).strip(), pair.completion.strip()]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def has_fingerprint(pair: TrainingPair, known: str) -> bool:
    """Decide whether the fingerprint is this example's; False for a text that is not valid Unicode."""
    return is_unicode(pair) and fingerprint(pair) == known
