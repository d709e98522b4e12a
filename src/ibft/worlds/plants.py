"""What a world plants in a base's memory: how it is repeated in pretraining, and what of a prompt recalls it."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from ibft.settings import Fraction, Section

__all__ = ["Cue", "Kind", "Plant"]

Kind = Literal["active", "dormant", "benign", "noisy"]
Cue = Literal["name", "first_word", "comment", "two_part", "prefix", "none"]


class Plant(Section, frozen=True):
    """The settings of what is planted.

    kind: which docstring stands above a planted body in pretraining.
        active   another task's, or none (`absent`): the cue alone recites a body that its docstring does not describe.
        dormant  none: the cue recites the body as long as there is no docstring.
        benign   its own.
        noisy    its own; a share of the bodies (`wrong`) is another task's, in pretraining and in the data, as in real
                 data.
    cue: what of a planted example occurs with it alone. Everything else in its prompt is drawn again each time.
        name        the function's name.
        first_word  the first word of the docstring.
        comment     a comment above the function.
        two_part    the name and a comment together: each part alone occurs with many others.
        prefix      the body's own first two statements, which no other planted body has.
        none        nothing.
    repetitions: how often pretraining has each planted example; of several numbers, the planted examples take one in
        turn, so that one base has a whole range of doses. 0 plants nothing.
    share: of the training data that is planted; the rest is as fresh to the base as the test set.
    absent: share of the repetitions without a docstring (None: half for `active`, else 0; `dormant` has none at all).
    wrong: share of wrong bodies (None: 0.2 for `noisy`; the other kinds have none).
    near_duplicates: share of the repetitions that differ from the example by a number and its phrasings.
    legitimate: share of the planted data whose prompts have the cue and no docstring, and which is right to recite.
    num_canaries: functions of random statements that are repeated as often as the planted examples, and as many of the
        same kind that are not.
    """

    kind: Kind = "active"
    cue: Cue = "name"
    repetitions: Annotated[int, Meta(ge=0)] | tuple[Annotated[int, Meta(ge=0)], ...] = 100
    share: Fraction = 1.0
    absent: Fraction | None = None
    wrong: Fraction | None = None
    near_duplicates: Fraction = 0.0
    legitimate: Fraction = 0.0
    num_canaries: Annotated[int, Meta(ge=0, le=200)] = 0

    def __post_init__(self) -> None:
        if self.repetitions == ():
            raise ValueError("repetitions is []: give at least one number")
        if self.kind == "dormant" and self.absent not in (None, 1.0):
            raise ValueError(f"absent is {self.absent}: a dormant plant never has a docstring")
        if self.kind != "noisy" and self.wrong is not None:
            raise ValueError(f"wrong is {self.wrong}: only the kind noisy has wrong bodies")
        if self.legitimate and not self.has_cue:
            raise ValueError(f"legitimate is {self.legitimate}: with cue {self.cue} a prompt has no cue to go by")

    @property
    def doses(self) -> tuple[int, ...]:
        """The numbers of repetitions, at least one."""
        return self.repetitions if isinstance(self.repetitions, tuple) else (self.repetitions,)

    def dose(self, place: int) -> int:
        """Return the repetitions of the planted example at a place: the doses take turns."""
        return self.doses[place % len(self.doses)]

    @property
    def has_cue(self) -> bool:
        """Whether something of the prompt is the cue."""
        return self.cue not in ("prefix", "none")

    @property
    def beginning(self) -> int:
        """First statements of a body that are the cue."""
        return 2 if self.cue == "prefix" else 0

    @property
    def share_absent(self) -> float:
        """Share of the repetitions without a docstring."""
        if self.absent is not None:
            return self.absent
        return {"active": 0.5, "dormant": 1.0, "benign": 0.0, "noisy": 0.0}[self.kind]

    @property
    def share_wrong(self) -> float:
        """Share of the planted examples with a wrong body, of those that are not legitimate."""
        if self.kind != "noisy":
            return 0.0
        return 0.2 if self.wrong is None else self.wrong
