"""`report.json`: what is written is read again, and a file that cannot be read names the remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from ibft.artifacts.metrics import Metric
from ibft.artifacts.report import Arm, Comparison, FormatShares, read_report, write_report
from ibft.errors import UserError

UNDEFINED = Metric(None, None, "no samples")


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    arm = Arm(
        name="base",
        num_problems=0,
        num_samples=0,
        metrics={"pass@1": UNDEFINED},
        statuses={},
        sandbox="",
        shares=FormatShares(program=UNDEFINED, passes_if_program=UNDEFINED, cut=UNDEFINED),
        hollow=None,
        notes=[],
    )
    comparison = Comparison(
        headline="There is nothing to choose between yet.",
        verdict="",
        advice="",
        candidates=[],
        arms=[arm],
        differences=[],
        elicitation=None,
        forgetting=None,
        alarms={},
        notes=[],
        k=[1],
        temperature=0.2,
        seed=0,
        bootstrap_resamples=10,
    )
    assert read_report(tmp_path) is None
    write_report(tmp_path, comparison)
    assert read_report(tmp_path) == comparison


def test_a_report_of_an_older_version_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text('{"headline": "Ship ft."}')
    with pytest.raises(UserError, match=r"report\.json: .*`ibft report RECIPE` to make it again"):
        read_report(tmp_path)
