"""The section of a recipe about the training data and the control set."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Literal

from ibft.errors import UserError
from ibft.settings import Count, Positive, Section

__all__ = ["Column", "DataConfig", "SourceConfig", "TrainOn"]

Column = Literal["prompt", "completion", "messages", "text", "system", "history", "tools", "input"]
TrainOn = Literal["all", "last"]


class SourceConfig(Section, frozen=True):
    """One of several sources of training data. With shares, the sources are mixed until the first one ends."""

    source: str
    share: Positive | None = None
    split: str = "train"
    config: str | None = None

    @property
    def label(self) -> str:
        """What the source is called, for people: its name, and its config and split where they are not the usual."""
        parts = [*([] if self.config is None else [self.config]), *([] if self.split == "train" else [self.split])]
        return f"{self.source} ({', '.join(parts)})" if parts else self.source


class DataConfig(Section, frozen=True):
    """The training data, and the control set the scan compares them with.

    A source is a file (`.jsonl`, `.json`, `.csv`, `.tsv`, each also with `.gz`; `.parquet`), a folder of such files or
    of `save_to_disk`, a hub data set id (`config` names its configuration), or `functions:stdlib` /
    `functions:PACKAGE[,PACKAGE]` (signature and docstring to body, by `ast`). `train` may also be a list of sources.
    Examples longer than `max_tokens` (prompt, completion and end token together) are left out and counted, never cut.

    `columns` says which column is what, where the names are not the usual ones. `train_on`: all assistant turns of a
    conversation are trained, or the last. `on_bad_row: skip` leaves out rows that cannot be read, counts them by reason
    and names them in a file; `stop` ends with the first.

    `validation` is held out, and what `train.evaluate_every` measures on: a share of the training data (`5%`), drawn by
    group so that no copy and no near-copy of a row is on both sides, or a source of its own, read as `train` is (as a
    mapping, it has a `split` and a `config`).

    `control_after` keeps the rows of a control set whose field `date` is later (ISO 8601): give the day after which the
    model cannot have read anything.
    """

    train: str | tuple[str | SourceConfig, ...] = "functions:stdlib"
    split: str = "train"
    config: str | None = None
    columns: dict[Column, str] = {}
    train_on: TrainOn = "all"
    on_bad_row: Literal["stop", "skip"] = "stop"
    validation: str | SourceConfig | None = None
    control: str | None = None
    control_split: str = "train"
    control_after: datetime.date | None = None
    max_tokens: Count = 2048
    max_examples: Count | None = None
    max_control_examples: Count | None = None

    def __post_init__(self) -> None:
        if self.control_after is not None and self.control is None:
            raise UserError(
                f"data.control_after is {self.control_after}, and data.control is null. Give a control set whose rows "
                "have a field `date`, or leave control_after out."
            )
        if not self.train:
            raise UserError("data.train is empty. Give a source, or a list of sources.")
        if self.columns and not any(needed <= self.columns.keys() for needed in _COLUMNS_NEEDED):
            names = ", ".join(self.columns)
            raise UserError(f"data.columns has {names}: give prompt and completion, or messages, or text.")
        self._check_validation()
        has_share = {source.share is not None for source in self.sources}
        if len(has_share) > 1:
            raise UserError("data.train: some sources have a share and some have none. Give all of them one, or none.")

    def _check_validation(self) -> None:
        if (source := self.validation_source) is None:
            return
        if source.share is not None:
            raise UserError(f"data.validation has the share {source.share:g}, which mixes sources. Leave it out.")
        if any(_is_same(source, known) for known in self.sources):
            raise UserError(
                f"data.validation is {source.source}, which is trained. Give another source, or a share (5%)."
            )

    @property
    def validation_share(self) -> float | None:
        """The share of the training data that is held out; None without one."""
        if not isinstance(self.validation, str) or not self.validation.endswith("%"):
            return None
        try:
            share = float(self.validation[:-1]) / 100
        except ValueError:
            share = 0.0
        if not 0 < share < 1:
            raise UserError(f"data.validation is {self.validation}: a share is above 0% and below 100%, such as 5%.")
        return share

    @property
    def validation_source(self) -> SourceConfig | None:
        """The source of the validation data; None for a share, or where there is no validation data."""
        if isinstance(self.validation, str):
            return None if self.validation_share is not None else SourceConfig(source=self.validation)
        return self.validation

    @property
    def train_name(self) -> str:
        """The name of the training data, for people."""
        return ", ".join(source.source for source in self.sources)

    @property
    def sources(self) -> tuple[SourceConfig, ...]:
        """The sources of the training data, one or several; `split` and `config` count for those without their own."""
        given = (self.train,) if isinstance(self.train, str) else self.train
        return tuple(
            SourceConfig(source=source, split=self.split, config=self.config) if isinstance(source, str) else source
            for source in given
        )


_COLUMNS_NEEDED: tuple[frozenset[Column], ...] = (
    frozenset({"prompt", "completion"}),
    frozenset({"messages"}),
    frozenset({"text"}),
)


def _is_same(a: SourceConfig, b: SourceConfig) -> bool:
    """Decide whether two sources are the same data: files and folders by where they are, however that is written."""
    paths = [Path(source.source).resolve() if Path(source.source).exists() else source.source for source in (a, b)]
    return paths[0] == paths[1] and (a.split, a.config) == (b.split, b.config)
