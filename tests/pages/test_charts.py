"""Which of the logged metrics are drawn, and how."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from ibft.artifacts.rows import TrainingLog
from ibft.artifacts.training import TrainingSummary
from ibft.objectives.dft import DFTObjective
from ibft.objectives.ft import FTObjective
from ibft.objectives.neftune import NEFTuneObjective
from ibft.objectives.registry import OBJECTIVES
from ibft.pages import figures as charts
from ibft.pages.charts import Curve, draw_curves
from ibft.pages.evidence import TrainedArm
from ibft.pages.figures import training_charts
from ibft.run.recipe import Recipe
from ibft.stages.report import _plain_arms

Drawn = dict[str, dict[str, Any]]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    """Title to what was asked of the chart."""
    found: Drawn = {}

    def record(series: Mapping[str, Curve], x_label: str, y_label: str, **options: Any) -> object:
        found[y_label.split(" (")[0]] = {"series": dict(series), **options}
        return object()

    monkeypatch.setattr(charts, "draw_curves", record)
    return found


def arm(name: str, **metrics: list[float | None]) -> TrainedArm:
    """An arm that logged each metric (`ib_kl` for `ib/kl`) from step 1 on."""
    length = max(map(len, metrics.values()))
    rows = [
        TrainingLog(i + 1, {key.replace("ib_", "ib/", 1): values[i] for key, values in metrics.items()})
        for i in range(length)
    ]
    return TrainedArm(name, rows, TrainingSummary())


def draw(*arms: TrainedArm, plain: tuple[str, ...] = ()) -> charts.TrainingCharts:
    return training_charts(arms, {one.name: index for index, one in enumerate(arms)}, plain)


def test_values_over_more_than_two_decades_have_a_log_axis(drawn: Drawn) -> None:
    draw(arm("a", loss=[150.0, 1.0], ce=[150.0, 1.0], ib_kl_per_token=[99.0, 1.0], learning_rate=[1e-3, 0.0]))
    assert drawn["Training loss"]["is_log"]
    assert not drawn["Cross-entropy"]["is_log"]
    assert not drawn["KL to the prior"]["is_log"]
    assert not drawn["Learning rate"]["is_log"]
    draw(arm("a", ib_kl_per_token=[99.0, 1.0]), arm("b", ib_kl_per_token=[0.0, 0.5]))
    assert drawn["KL to the prior"]["is_log"]


def test_the_gradient_ratio_has_its_limits_and_always_a_log_axis(drawn: Drawn) -> None:
    draw(arm("a", ib_grad_ratio=[0.5, 0.6], ib_kl=[1.0, 1.0]))
    ratio = drawn["Gradient into the LoRA: bottleneck / CE"]
    assert ratio["is_log"]
    assert sorted(ratio["limits"]) == [0.01, 10]
    assert drawn["KL as the loss has it"]["limits"] == ()


def test_the_set_point_is_drawn_for_the_arm_that_has_one(drawn: Drawn) -> None:
    draw(
        arm("free", ib_kl_per_token=[60.0, 50.0]),
        arm("held", ib_kl_per_token=[60.0, 31.0], ib_kl_target=[None, 30.0]),
    )
    assert drawn["KL to the prior"]["targets"] == {"held": Curve([2], [30.0])}


def test_shares_are_in_percent(drawn: Drawn) -> None:
    draw(arm("a", ib_accuracy=[0.25], ib_replaced=[0.5]))
    for title, value in (("Accuracy of the decoded code", 25.0), ("Share of h that is replaced", 50.0)):
        assert drawn[title]["series"]["a"].y == [value]
        assert drawn[title]["is_percentage"]


def test_groups_hold_what_was_logged_and_nothing_else() -> None:
    assert draw(arm("a", epoch=[1.0])) == ([], [], [])
    losses, gauges, more = draw(arm("a", loss=[1.0, 2.0], ib_entropy=[1.0, 2.0]))
    assert (len(losses), len(gauges), len(more)) == (1, 0, 1)


def test_plain_cross_entropy_stands_beside_the_arms_that_log_it(drawn: Drawn) -> None:
    recipe = Recipe(name="r", objective=(FTObjective(), NEFTuneObjective(), DFTObjective()))
    plain = _plain_arms(recipe)
    assert plain == {"ft", "neftune"}
    draw(arm("ft", loss=[1.0]), arm("neftune", loss=[2.0]), arm("dft", loss=[0.3], ce=[3.0]), plain=tuple(plain))
    assert {name: curve.y for name, curve in drawn["Cross-entropy"]["series"].items()} == {
        "ft": [1.0],
        "neftune": [2.0],
        "dft": [3.0],
    }


def test_curves_of_many_arms_are_averaged_and_of_few_are_not(drawn: Drawn) -> None:
    values: list[float | None] = [float(i) for i in range(101)]
    few = draw(*(arm(f"a{i}", loss=values) for i in range(4)))
    assert drawn["Training loss"]["series"]["a0"].y == values
    assert "Averages" not in few.losses[0].caption
    many = draw(*(arm(f"a{i}", loss=values) for i in range(5)))
    # 101 points in blocks of 5; the last block has a single one.
    assert drawn["Training loss"]["series"]["a4"] == Curve(
        [*range(5, 101, 5), 101], [*(float(5 * i + 2) for i in range(20)), 100.0]
    )
    assert "Averages over 5 logged steps." in many.losses[0].caption
    draw(*(arm(f"a{i}", loss=values[:25]) for i in range(5)))
    assert drawn["Training loss"]["series"]["a0"].y == values[:25]


def test_every_title_is_as_wide_as_its_chart_at_most() -> None:
    gauges = {*charts._LOSSES, *(gauge for kind in OBJECTIVES.values() for gauge in kind.charts)}
    for gauge in gauges:
        curves = {"a": Curve([1, 2], [100.0, 2.0])}
        figure = draw_curves(curves, "step", gauge.title, is_percentage=gauge.axis == "percent")._figure
        title = figure.axes[0]._left_title
        assert title.get_text() == gauge.title
        assert title.get_window_extent().x1 <= figure.bbox.x1, gauge.title


def test_pass_at_1_while_training_has_its_interval_and_leaves_out_undefined_steps(drawn: Drawn) -> None:
    rows = [
        TrainingLog(1, {"loss": 1.0, "ce": 1.0}),
        TrainingLog(5, {"eval_pass@1": 0.25, "eval_pass@1_low": 0.1, "eval_pass@1_high": 0.5}),
        TrainingLog(10, {"eval_pass@1": None, "eval_pass@1_low": None, "eval_pass@1_high": None}),
        TrainingLog(15, {"eval_pass@1": 0.5, "eval_pass@1_low": 0.25, "eval_pass@1_high": 0.75}),
    ]
    charts_of = draw(TrainedArm("a", rows, TrainingSummary()))
    chart = drawn["Pass@1 while training"]
    assert chart["series"]["a"] == Curve([5, 15], [25.0, 50.0], [(10.0, 50.0), (25.0, 75.0)])
    assert chart["is_percentage"]
    assert drawn["Training loss"]["series"]["a"].intervals is None
    assert "eval_pass@1" in [one.name for one in charts_of.losses]
