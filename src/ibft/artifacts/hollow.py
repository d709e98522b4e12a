"""Hollow runs: most samples hold no program at all, so that the figures say nothing about what the model can do."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

__all__ = ["HOLLOW_SHARE", "Hollow", "find_hollow", "is_hollow"]

HOLLOW_SHARE = 0.5
"""With more than this share of its judged samples empty or not compiling, a run is hollow."""


class Hollow(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers of samples that are empty (or hold no code) or do not compile, and the likely cause as a sentence."""

    num_samples: int
    num_empty: int
    num_not_compiling: int
    cause: str

    @property
    def message(self) -> str:
        """Counts and cause as a sentence without its period."""
        number = self.num_empty + self.num_not_compiling
        return (
            f"{number} of {self.num_samples} samples hold no program ({self.num_empty} empty, {self.num_not_compiling} "
            f"not compiling), so these figures say little about the model. Likely cause: {self.cause}"
        )


def is_hollow(statuses: Mapping[str, int]) -> bool:
    """Decide by the counts of `rows.Status` whether more than half of the judged samples hold no program."""
    num_judged, num_empty, num_not_compiling = _counts(statuses)
    return num_empty + num_not_compiling > HOLLOW_SHARE * num_judged


def _counts(statuses: Mapping[str, int]) -> tuple[int, int, int]:
    """Return how many samples were judged, are empty, and do not compile."""
    # Excluded samples were not judged, since their problem's own reference does not pass.
    judged = sum(statuses.values()) - statuses.get("excluded", 0)
    return judged, statuses.get("no_code", 0), statuses.get("syntax_error", 0)


def find_hollow(
    statuses: Mapping[str, int], *, num_cut: int = 0, num_marked: int = 0, are_extracted: bool = True
) -> Hollow | None:
    """Return the finding for a judged file or arm, None where most samples hold a program.

    Args:
        statuses: the number of samples by `rows.Status`.
        num_cut: those without a program that were cut at the token limit.
        num_marked: those without a program in whose text there is a code fence, reasoning or a control token.
        are_extracted: answers were taken out of raw text, when they were generated or judged.
    """
    if not is_hollow(statuses):
        return None
    num_samples, num_empty, num_not_compiling = _counts(statuses)
    half = (num_empty + num_not_compiling) / 2
    # The cutting comes first: reasoning that was cut has marks as well, and is empty once it is taken out.
    if num_cut > half:
        cause = "they were cut at the token limit: raise generate.max_new_tokens (reasoning needs thousands)"
    elif num_marked > half and not are_extracted:
        cause = "they are raw answers of a chat, with fences or reasoning: judge with --extract auto"
    elif num_marked > half:
        cause = "they are answers of a chat that hold no whole program for their problem: read some of them"
    elif num_empty > half:
        cause = (
            "the model ended at once: the prompt ends where its tokenizer never cuts text (in a line break, say), its "
            "template is not the model's, or a stop string comes first"
        )
    else:
        cause = (
            "they are words, or do not continue the prompt: another prompt template, or whole programs given as "
            "`completion` instead of `solution`"
        )
    return Hollow(num_samples=num_samples, num_empty=num_empty, num_not_compiling=num_not_compiling, cause=cause)
