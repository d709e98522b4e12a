"""The objective's schedules."""

from __future__ import annotations

import pytest

from ibft.objectives.bottleneck.forms.in_path import replaced_share
from ibft.objectives.bottleneck.schedule import ramp


def test_ramp_rises_over_its_share_and_stays() -> None:
    assert [ramp(step, 10, 0.4) for step in range(6)] == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1])


@pytest.mark.parametrize(("num_steps", "share"), [(10, 0.0), (0, 0.5), (5, 0.1)])
def test_no_ramp_where_there_is_nothing_to_ramp_over(num_steps: int, share: float) -> None:
    assert ramp(0, num_steps, share) == 1


def test_replaced_share_rises_holds_and_ends_at_zero() -> None:
    shares = [replaced_share(step, 20, 0.6, 0.2) for step in range(20)]
    assert shares[:4] == pytest.approx([0.15, 0.3, 0.45, 0.6])
    assert shares[4:10] == pytest.approx([0.6] * 6)
    assert shares[10:] == pytest.approx([0.6 * (1 - (step + 1) / 20) * 2 for step in range(10, 20)])
    assert shares[-1] == 0
