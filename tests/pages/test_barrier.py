"""The barrier's page, from invented rows: what is drawn, what is said, and what is not."""

from __future__ import annotations

import itertools
import math
import random
from pathlib import Path

import msgspec
import pytest
from scipy import stats

from ibft.artifacts.barrier import BarrierRow
from ibft.artifacts.gauges import Gauges, GradientAgreement, Recitation, Skill
from ibft.pages.barrier import render_barrier, table_rows, table_titles
from ibft.pages.barrier_means import Condition, Means, Setting, pass_at_1, rate_name
from ibft.pages.barrier_words import describe
from ibft.pages.page import write_with_figures

DOSES, RATES = (0, 20, 100), (1e-3, 3e-3, 1e-2)
SEVERE = {  # (data, dose): Pass@1 at each rate
    ("planted", 0): (0.76, 0.85, 0.88),
    ("planted", 20): (0.30, 0.60, 0.86),
    ("planted", 100): (0.01, 0.28, 0.85),
    ("fresh", 0): (0.78, 0.86, 0.90),
    ("fresh", 20): (0.78, 0.86, 0.90),
    ("fresh", 100): (0.77, 0.86, 0.90),
}


def skill(value: float) -> Skill:
    return Skill(num_problems=400, pass_at_1=value, pass_at_10=min(1.0, 2 * value), all_of_10=value**2)


def gauges(value: float, dose: int, *, is_base: bool = False) -> Gauges:
    recited = 0.9 * (dose > 0) * (1 if is_base else 0.5)
    return Gauges(
        temperature=0.8,
        seen=skill(value),
        unseen=skill(value),
        dev=skill(value),
        obeys_docstring=value,
        obeys_cue=recited,
        general={1: skill(0.98 if is_base else 0.3), 2: skill(0.9 if is_base else 0.1)},
        recitation=[
            Recitation(
                repetitions=dose,
                num_examples=300,
                from_cue=recited,
                from_docstring=0.1,
                from_prefix=0.1,
                seen=0.5,
                obeys_docstring=value,
                obeys_cue=recited,
            )
        ],
        canaries=[],
    )


def rows_of(
    table: dict[tuple[str, int], tuple[float, ...]] = SEVERE,
    *,
    worlds: int = 3,
    arm: str = "ft",
    schedules: tuple[str, ...] = ("constant",),
    seeds: int = 2,
    noise: float = 0.01,
) -> list[BarrierRow]:
    rng = random.Random(0)
    rows = []
    for world, dose in itertools.product(range(worlds), sorted({dose for _, dose in table})):
        rows.append(
            BarrierRow(
                key=f"{world} {dose}", world_seed=world, dose=dose, gauges=gauges(0.0, dose, is_base=True), seconds=1.0
            )
        )
        for data, schedule, seed in itertools.product(("planted", "fresh"), schedules, range(seeds)):
            for rate, value in zip(RATES, table.get((data, dose), ()), strict=False):
                reached = min(1.0, max(0.0, value + rng.uniform(-noise, noise)))
                rows.append(
                    BarrierRow(
                        key=f"{world} {dose} {arm} {data} {schedule} {rate} {seed}",
                        world_seed=world,
                        dose=dose,
                        arm=arm,
                        data=data,
                        schedule=schedule,
                        learning_rate=rate,
                        training_seed=seed,
                        training_loss=0.01,
                        gradients=GradientAgreement(cosine=0.4, norm=1.0, held_out_norm=2.0),
                        gauges=gauges(reached, dose),
                        seconds=12.0,
                    )
                )
    return rows


def test_a_mean_is_over_worlds_and_a_difference_is_paired_by_world() -> None:
    rows = rows_of()
    means = Means(rows)
    condition = Condition(100, "ft", "planted", Setting("constant", 3e-3))
    fresh = condition._replace(data="fresh")

    def by_world(data: str) -> list[float]:
        chosen = [row for row in rows if row.dose == 100 and row.data == data and row.learning_rate == 3e-3]
        values: list[float] = []
        for world in range(3):
            of_world = [row.gauges.unseen.pass_at_1 for row in chosen if row.world_seed == world and row.gauges]
            values.append(sum(of_world) / len(of_world))
        return values

    mean = means.mean(condition, pass_at_1)
    assert mean is not None
    assert mean.interval is not None
    planted, control = by_world("planted"), by_world("fresh")
    expected = stats.ttest_1samp(planted, 0).confidence_interval(0.95)
    assert mean.value == pytest.approx(sum(planted) / 3)
    assert (mean.num_worlds, mean.interval) == (3, pytest.approx((expected.low, expected.high)))
    gap = means.difference(fresh, condition, pass_at_1)
    assert gap is not None
    paired = stats.ttest_rel(control, planted).confidence_interval(0.95)
    assert gap.interval == pytest.approx((paired.low, paired.high))
    assert gap.sign == 1


def test_a_barrier_is_said_with_its_rate_its_size_and_what_tuning_leaves() -> None:
    finding = describe(Means(rows_of()), "ft")
    assert (finding.barrier, finding.setting) == ("yes", Setting("constant", 1e-3))
    assert finding.headline.startswith("What the base has memorized is a barrier at 1e-3 constant")
    text = " ".join(finding.sentences)
    assert "100 times" in text
    assert "points less (95% interval" in text
    assert "Tuned: the control's best is" in text
    assert "30.0% for one operation (98.0% before), 10.0% for 2 operations (90.0% before)" in text
    assert "recites in 90.0% of answers of the base and in 45.0%" in text


def test_no_barrier_is_said_where_there_is_none() -> None:
    same = dict.fromkeys(SEVERE, (0.78, 0.86, 0.9))
    finding = describe(Means(rows_of(same)), "ft")
    assert (finding.barrier, finding.headline) == ("unclear", "No barrier is shown: the interval has 0 in it")
    better = {key: (0.9, 0.9, 0.9) if key[0] == "planted" else (0.75, 0.75, 0.75) for key in SEVERE}
    assert describe(Means(rows_of(better)), "ft").barrier == "no"


def test_one_world_shows_nothing() -> None:
    finding = describe(Means(rows_of(worlds=1)), "ft")
    assert finding.barrier == "unclear"
    assert "no interval" in finding.headline
    assert "1 world, so no interval" in finding.sentences[0]


def test_the_rate_is_the_lowest_at_which_the_control_learns_and_else_its_best() -> None:
    slow = SEVERE | {("fresh", 100): (0.1, 0.75, 0.9)}
    assert describe(Means(rows_of(slow)), "ft").setting == Setting("constant", 3e-3)
    never = SEVERE | {("fresh", 100): (0.1, 0.5, 0.3)}
    finding = describe(Means(rows_of(never)), "ft")
    assert finding.setting == Setting("constant", 3e-3)
    assert "does not reach 70%" in finding.sentences[0]


def test_without_fresh_data_the_unplanted_base_is_the_control_and_without_both_there_is_none() -> None:
    planted = {key: values for key, values in SEVERE.items() if key[0] == "planted"}
    finding = describe(Means(rows_of(planted)), "ft")
    assert finding.barrier == "yes"
    assert "the same data on a base that has not read them reach 7" in finding.sentences[0]
    alone = {("planted", 100): (0.0, 0.1, 0.2)}
    assert describe(Means(rows_of(alone)), "ft").headline == "Nothing to compare with"
    assert "Nothing to compare with" in render_barrier(rows_of(alone), 21, "x").html


def test_without_a_dose_above_0_no_barrier_is_said_whatever_the_numbers_are() -> None:
    nothing = {("planted", 0): (0.3, 0.3, 0.3), ("fresh", 0): (0.9, 0.9, 0.9)}
    finding = describe(Means(rows_of(nothing)), "ft")
    assert (finding.barrier, finding.headline, finding.setting) == ("unclear", "Nothing was planted", None)


def test_doses_are_said_as_numbers_of_repetitions() -> None:
    once = {(data, min(dose, 1)): values for (data, dose), values in SEVERE.items()}
    text = " ".join(describe(Means(rows_of(once, noise=0.0)), "ft").sentences)
    assert "Planted data by repetitions: 76.0% at 0, 1.0% at 1." in text


def test_controls_of_two_kinds_are_not_mixed_and_planted_data_are_tuned_over_all_settings() -> None:
    rows = rows_of(SEVERE | {("planted", 0): (0.76, 0.85, 0.99)}, noise=0.0)
    rows = [
        # Fresh data diverge at the rate where planted data, and the unplanted base, are at their best.
        msgspec.structs.replace(row, gauges=None)
        if (row.dose, row.data, row.learning_rate) == (100, "fresh", 1e-2)
        else row
        for row in rows
    ]
    text = " ".join(describe(Means(rows), "ft").sentences)
    assert "Tuned: the control's best is 86.0% (3e-3 constant), that of planted data 85.0% (1e-2 constant)" in text
    assert "99.0%" not in text


def test_learning_rates_are_chosen_on_the_dev_problems() -> None:
    # On the test problems the highest rate is best; on the dev problems the middle one, and the lowest has not learned.
    dev = {1e-3: 0.6, 3e-3: 0.9, 1e-2: 0.8}
    rows = [
        msgspec.structs.replace(
            row, gauges=msgspec.structs.replace(row.gauges, dev=skill(dev.get(row.learning_rate, 0.0)))
        )
        for row in rows_of(noise=0.0)
    ]
    finding = describe(Means(rows), "ft")
    assert finding.setting == Setting("constant", 3e-3)
    text = " ".join(finding.sentences)
    assert "Tuned: the control's best is 86.0% (3e-3 constant), that of planted data 28.0% (3e-3 constant)" in text


def test_a_page_of_rows_without_a_world_in_common_says_nothing_of_the_tuned_difference() -> None:
    rows = [row for row in rows_of() if row.arm is None or row.dose == 100]
    # World 0 has all but the best planted setting, world 1 has this one alone.
    best = ("planted", 1e-2)
    rows = [row for row in rows if row.arm is None or ((row.data, row.learning_rate) == best) == (row.world_seed == 1)]
    rows = [row for row in rows if row.world_seed < 2]
    page = render_barrier(rows, 99, "x")
    assert "cells are missing" in page.html
    assert "Tuned:" not in page.html


def test_charts_of_one_world_say_that_there_are_no_intervals() -> None:
    assert all(
        "One world has no intervals" in chart.caption for chart in render_barrier(rows_of(worlds=1), 1, "x").charts
    )
    assert all("Whiskers: Student's" in chart.caption for chart in render_barrier(rows_of(), 1, "x").charts)


def test_the_page_shows_both_curves_every_mean_and_what_is_missing(tmp_path: Path) -> None:
    rows = [*rows_of(schedules=("constant", "linear"))]
    page = render_barrier(rows, len(rows), "ibft world barrier runs/lab")
    assert "cells are missing" not in page.html
    assert "diverged" not in page.html
    assert [chart.name for chart in page.charts] == [
        "ft-constant-pass-at-1",
        "ft-constant-pass-at-10-all",
        "ft-linear-pass-at-1",
        "ft-linear-pass-at-10-all",
        "ft-learning-rate",
        "ft-conflict",
        "ft-forgetting",
    ]
    means = Means(rows)
    table = table_rows(means)
    assert len(table) == 3 + 3 * 2 * 2 * 3
    assert all(len(row.cells) == len(table_titles(means)) for row in table)
    for row in table:
        assert row.label in page.html
    assert page.html == render_barrier(rows, len(rows), "ibft world barrier runs/lab").html
    write_with_figures(tmp_path / "barrier.html", page)
    assert {path.suffix for path in (tmp_path / "figures").iterdir()} == {".svg", ".pdf"}
    partial = render_barrier(rows[:20], len(rows), "x").html
    assert f"{len(rows) - 20} of {len(rows)} cells are missing" in partial


def test_bases_alone_and_one_rate_have_a_page() -> None:
    rows = rows_of()
    assert "No model was fine-tuned yet" in render_barrier([row for row in rows if row.arm is None], 99, "x").html
    one = [row for row in rows if row.learning_rate in (None, 1e-3)]
    page = render_barrier(one, len(one), "x")
    assert "ft-learning-rate" not in [chart.name for chart in page.charts]
    assert "Tuned:" not in page.html


def test_a_diverged_cell_takes_the_mean_of_its_setting_away() -> None:
    rows = rows_of()
    broken = next(row for row in rows if (row.dose, row.data, row.learning_rate) == (100, "planted", 1e-2))
    rows = [msgspec.structs.replace(row, gauges=None) if row is broken else row for row in rows]
    condition = Condition(100, "ft", "planted", Setting("constant", 1e-2))
    assert Means(rows).mean(condition, pass_at_1) is None
    assert describe(Means(rows), "ft").barrier == "yes"
    html = render_barrier(rows, len(rows), "x").html
    assert f"1 of {len(rows)} cells diverged" in html
    assert "<td>diverged</td>" in html


def test_each_arm_has_its_finding_and_its_charts() -> None:
    open_arm = dict.fromkeys(SEVERE, (0.7, 0.8, 0.9))
    rows = [*rows_of(), *(row for row in rows_of(open_arm, arm="ib") if row.arm == "ib")]
    page = render_barrier(rows, len(rows), "x")
    assert '<h2 id="ft">ft: What the base' in page.html
    assert '<h2 id="ib">ib: No barrier is shown' in page.html
    assert sum(chart.name.startswith("ib-") for chart in page.charts) == 5


def test_a_row_is_the_same_after_a_file(tmp_path: Path) -> None:
    row = rows_of()[1]
    assert msgspec.json.decode(msgspec.json.encode(row), type=BarrierRow) == row
    bare = msgspec.structs.replace(row, gauges=None, training_loss=None)
    assert msgspec.json.decode(msgspec.json.encode(bare), type=BarrierRow) == bare


@pytest.mark.parametrize(("rate", "name"), [(1e-3, "1e-3"), (0.01, "1e-2"), (1.5e-4, "1.5e-4"), (1.0, "1e0")])
def test_learning_rates_as_people_write_them(rate: float, name: str) -> None:
    assert rate_name(rate) == name


def test_the_students_interval_is_scipys() -> None:
    from ibft.statistics.student import student_interval

    values = [0.1, 0.4, 0.35, 0.9]
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert student_interval(values) == pytest.approx((expected.low, expected.high))
    assert all(math.isnan(end) for end in student_interval([0.3]))
