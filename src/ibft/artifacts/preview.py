"""What a look at the data before training finds: what `ibft preview --json` prints, and what its page shows.

Nothing is kept in the run folder: the data may change before it is trained on.
"""

from __future__ import annotations

import msgspec

__all__ = [
    "Bin",
    "LeakFound",
    "LongestRow",
    "Preview",
    "PreviewedExample",
    "ProblemOverlap",
    "Repeat",
    "Repeats",
    "SetPreview",
    "ShownRun",
    "SkipReason",
    "SourceCounts",
]


class ShownRun(msgspec.Struct, frozen=True, kw_only=True):
    """Neighboring tokens of one kind: trained or context, control tokens or text.

    `ids` and `pieces` are equally long. A piece is the text that its token adds: "" for one that ends inside a
    character, whose text comes with the token that completes it.
    """

    is_trained: bool
    is_special: bool
    ids: list[int]
    pieces: list[str]


class PreviewedExample(msgspec.Struct, frozen=True, kw_only=True):
    """One example as it is trained. Of a long one, `num_hidden` tokens between `runs` and `last_runs` are left out.

    `place` is its number among the examples of its set, from 0, with those that are skipped for their tokens.
    """

    id: str
    place: int
    source: str
    num_tokens: int
    num_trained: int
    runs: list[ShownRun]
    num_hidden: int = 0
    last_runs: list[ShownRun] = []


class Bin(msgspec.Struct, frozen=True):
    """How many examples have from `start` to `end` tokens, both included; None is no end."""

    start: int
    end: int | None
    num_examples: int


class LongestRow(msgspec.Struct, frozen=True):
    """The example with the most tokens, whether or not it is used."""

    id: str
    num_tokens: int


class SourceCounts(msgspec.Struct, frozen=True, kw_only=True):
    """What comes from one source. `num_skipped` rows of it are left out."""

    name: str
    num_examples: int
    num_skipped: int
    num_tokens: int
    num_trained: int


class SkipReason(msgspec.Struct, frozen=True):
    """Rows that are left out for one reason; the first of them, and a sentence about it."""

    reason: str
    num_rows: int
    first_id: str
    message: str


class SetPreview(msgspec.Struct, frozen=True, kw_only=True):
    """One set of examples in numbers.

    Attributes:
        name: `train`, or another set that is compared with it.
        num_rows: all that were read: `num_examples` that are used, and `num_skipped`.
        num_tokens: of the examples that are used.
        num_trained: those of them that are trained.
        median_tokens: of an example that is used; None without examples.
        bins: the token counts of the examples that are used; the last one, without an end, of those that are too long.
        longest: of all rows that could be encoded; None without any.
        num_beyond_context: examples that are used and longer than the model's context.
        sources: in the recipe's order.
        skipped: the most frequent reason first.
    """

    name: str
    num_rows: int
    num_examples: int
    num_skipped: int
    num_tokens: int
    num_trained: int
    median_tokens: float | None
    bins: list[Bin]
    longest: LongestRow | None
    num_beyond_context: int
    sources: list[SourceCounts]
    skipped: list[SkipReason]


class Repeat(msgspec.Struct, frozen=True):
    """An example, and the one of the training data that it repeats; `kind` and `similarity` as of `ibft duplicates`.

    `of` is None for an equal text beyond the examples that were compared by their code: of those no ids are kept.
    """

    id: str
    of: str | None
    kind: str
    similarity: float


class Repeats(msgspec.Struct, frozen=True, kw_only=True):
    """Examples of a set that repeat one of the training data (for `train`: an earlier one).

    Attributes:
        name: the set.
        num_examples: its examples.
        num_exact: those equal in prompt and completion, whether or not they were compared by their code.
        num_compared: how many of its examples were compared with the training data by their code.
        num_against: how many of the training data they were compared with.
        is_partial: some examples of either set were not compared by their code, because there are too many.
        num_code: those of the compared that are equal except for names, comments and layout.
        num_near: those of the compared that are nearly equal.
        first: at most five of each kind.
    """

    name: str
    num_examples: int
    num_exact: int
    num_compared: int
    num_against: int
    is_partial: bool
    num_code: int
    num_near: int
    first: list[Repeat]


class LeakFound(msgspec.Struct, frozen=True, kw_only=True):
    """An example that contains a problem: `kind`, `part` and `similarity` as of `ibft leakage`."""

    id: str
    task_id: str
    kind: str
    part: str
    similarity: float


class ProblemOverlap(msgspec.Struct, frozen=True, kw_only=True):
    """One benchmark and the training data: `num_leaked` of its problems are in `num_examples` examples.

    `num_compared` examples were compared; `first` has at most five of those that contain a problem.
    """

    source: str
    num_problems: int
    num_leaked: int
    num_examples: int
    num_compared: int
    first: list[LeakFound]


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """The data of a recipe as it is trained.

    Attributes:
        name: the recipe's; "" where there is none.
        model: its name; "" where there is no recipe.
        template: `plain`, `instruction` or `chat`.
        max_tokens: longer examples are left out.
        context_tokens: the most that the model can read; None where its configuration sets no limit.
        examples: some of the training data: the first, and others spread over it.
        sets: the training data first.
        repeats: one for each set.
        problems: one for each benchmark.
        notes: what could not be looked at, and why.
        refusal: what `ibft train` ends with on this data; None where it starts.
    """

    name: str = ""
    model: str = ""
    template: str
    max_tokens: int
    context_tokens: int | None
    examples: list[PreviewedExample]
    sets: list[SetPreview]
    repeats: list[Repeats]
    problems: list[ProblemOverlap]
    notes: list[str]
    refusal: str | None

    @property
    def train(self) -> SetPreview:
        """The training data in numbers."""
        return self.sets[0]
