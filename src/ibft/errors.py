"""The exceptions that a user is meant to read."""

from __future__ import annotations

__all__ = ["PromptError", "UserError"]


class UserError(ValueError):
    """Something the user can put right: the message says what is wrong, where, and what to do.

    The command line prints the message alone (no traceback) and exits with code 2. Anything else that
    escapes is a defect of ours and keeps its traceback.
    """


class PromptError(UserError):
    """A prompt that the model or its chat template cannot take: another format of it may do."""
