"""What is wrong with an arm's training, in words, for all objectives alike."""

from __future__ import annotations

from ibft.artifacts.training import Alarm

__all__ = ["MIN_ROWS", "alarm_note", "alarm_title"]

MIN_ROWS = 3
"""How many logged rows in a row make an alarm: a single batch may be odd."""


def alarm_title(arm: str, alarm: Alarm) -> str:
    """Return the message's title: which arm's alarm it is, and of which kind."""
    return f"{alarm.kind.capitalize()} alarm, {arm}"


def alarm_note(arm: str, alarm: Alarm) -> str:
    """Return the alarm in one line, for a list of notes; the rest is in its message."""
    span = f"from step {alarm.first_step} to {alarm.last_step}"
    if alarm.kind == "overload":
        return f"{arm}: overload {span} of the training: the bottleneck's gradient dwarfed the cross-entropy's."
    return f"{arm}: collapse {span}, the end of the training: the bottleneck no longer acted on the model."
