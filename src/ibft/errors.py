"""The exceptions that a user is meant to read."""

from __future__ import annotations

__all__ = ["PromptError", "RowError", "UserError"]


class UserError(ValueError):
    """Something the user can put right: the message says what is wrong, where, and what to do.

    The command line prints the message alone (no traceback) and exits with code 2. Anything else that
    escapes is a defect of ours and keeps its traceback.
    """


class PromptError(UserError):
    """A prompt that the model or its chat template cannot take: another format of it may do."""


class RowError(UserError):
    """One row of the data that cannot be used, which `data.on_bad_row: skip` leaves out.

    Args:
        message: as of a `UserError`; names the row.
        reason: why, in a few words and without the row's name: skipped rows are counted by it.
    """

    # The default is for pickle, which gives the message alone and sets the reason behind it.
    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason
