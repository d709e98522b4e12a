"""Gauges of a model in a world with planted memory: its skill, what it recites, what it obeys, its gradient."""

from __future__ import annotations

import msgspec

__all__ = ["Gauges", "GradientAgreement", "Recitation", "Skill"]


class Skill(msgspec.Struct, frozen=True, kw_only=True):
    """The chance of the canonical answer over a set of problems.

    `pass_at_1` is the mean of p, `pass_at_10` that of 1 - (1 - p)^10, and `all_of_10` that of p^10: Pass@10^(10).
    """

    num_problems: int
    pass_at_1: float
    pass_at_10: float
    all_of_10: float


class Recitation(msgspec.Struct, frozen=True, kw_only=True):
    """The mean chance that the body which pretraining repeated is written, for one dose, and what a conflict ends in.

    from_cue: the prompt has the cue and no docstring.
    from_docstring: the prompt has the docstring under a name that means nothing. Of a right body this is skill.
    from_prefix: the prompt has neither, and the body's first two statements are given: the chance of the rest, of those
        bodies that have more than two operations. None where none has.
    seen: the prompt is the one of the training data.
    obeys_docstring, obeys_cue: the prompt has the cue above another task's docstring: the chance of the body that the
        docstring asks for, and of the repeated one. None where prompts have no cue, and for canaries.
    """

    repetitions: int
    num_examples: int
    from_cue: float
    from_docstring: float
    from_prefix: float | None
    seen: float
    obeys_docstring: float | None
    obeys_cue: float | None


class Gauges(msgspec.Struct, frozen=True, kw_only=True):
    """All gauges of one model on one world, at one temperature.

    `seen` is the skill on the data's own prompts, `unseen` on the test set, `dev` on as new ones that settings may be
    chosen on, `general` at each depth of general pretraining. `recitation` has a row for each dose, canaries apart;
    `obeys_docstring` and `obeys_cue` are those of `Recitation`, over all doses.
    """

    temperature: float
    seen: Skill
    unseen: Skill
    dev: Skill
    obeys_docstring: float | None
    obeys_cue: float | None
    general: dict[int, Skill]
    recitation: list[Recitation]
    canaries: list[Recitation]


class GradientAgreement(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a small step on some texts lowers the loss on held-out ones, to first order.

    `cosine` is that of the two gradients of the mean cross-entropy per trained token (None where one of them is 0);
    `norm` and `held_out_norm` are their lengths, in nats per token and unit of the weights.
    """

    cosine: float | None
    norm: float
    held_out_norm: float
