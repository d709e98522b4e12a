from __future__ import annotations

import math
import re
from collections.abc import Callable

import msgspec
import pytest
from scipy.stats import binomtest

from ibft.artifacts.metrics import Metric, Metrics
from ibft.artifacts.report import Comparison
from ibft.errors import UserError
from ibft.objectives.asft import ASFTObjective
from ibft.objectives.dft import DFTObjective
from ibft.objectives.eaft import EAFTObjective
from ibft.objectives.ft import FTObjective
from ibft.objectives.gem import GEMObjective
from ibft.objectives.stm import STMObjective
from ibft.pages.compare import compare, comparison_rows
from ibft.run.folder import RunFolder
from ibft.run.recipe import Recipe
from ibft.run.sections import GenerateConfig, ReportConfig

MakeRun = Callable[..., RunFolder]


SIX = (FTObjective(), DFTObjective(), ASFTObjective(), EAFTObjective(), GEMObjective(), STMObjective())


def compare_run(run: RunFolder, **changes: object) -> Comparison:
    recipe: Recipe = msgspec.structs.replace(run.recipe, **changes)
    return compare(recipe, run)


def test_a_clear_winner_is_named_with_the_size_of_its_lead(make_run: MakeRun) -> None:
    tallies = {"base": [0] * 40, "ft": [5] * 20 + [0] * 20}
    comparison = compare_run(make_run(tallies))
    assert comparison.headline == "Ship ft."
    assert comparison.candidates == ["ft"]
    assert comparison.advice == ""
    [difference] = comparison.differences
    assert (difference.better, difference.other, difference.value) == ("ft", "base", 0.5)
    # Every problem that differs is won outright: the upper end is Clopper and Pearson's of 20 in 40.
    assert difference.interval[1] == pytest.approx(binomtest(20, 40).proportion_ci().high, abs=1e-6)
    assert 0.2 < difference.interval[0] < 0.4
    assert (difference.p_value, difference.confidence) == (2 / 2**20, 0.95)
    low, high = (f"{100 * end:+.1f}" for end in difference.interval)
    assert comparison.verdict == (
        "On 40 problems × 5 samples (temperature 0.2), "
        f"ft beats base on Pass@1 by +50.0 points (95% CI {low} to {high})."
    )


def test_the_untrained_model_can_win(make_run: MakeRun) -> None:
    comparison = compare_run(make_run({"base": [5] * 30, "ft": [0] * 30}))
    assert comparison.headline == "Ship base."


def test_arms_that_the_data_do_not_separate_are_not_ranked(make_run: MakeRun) -> None:
    tallies = {"base": [0, 5] * 20, "ft": [5, 0] * 19 + [5, 5]}
    comparison = compare_run(make_run(tallies))
    assert comparison.headline == "These data do not separate the arms."
    assert comparison.candidates == ["base", "ft"]
    assert "ft and base cannot be told apart (difference +2.5 points, 95% CI −" in comparison.verdict
    assert "more" not in comparison.headline
    [difference] = comparison.differences
    detectable = difference.precision.minimum_detectable
    assert detectable is not None
    needed = 40 * (detectable / difference.value) ** 2
    [stated] = re.findall(r"about ([\d,]+) problems", comparison.advice)
    assert needed <= int(stated.replace(",", "")) <= 1.1 * needed + 1
    assert comparison.advice.startswith(f"From {100 * detectable:.1f} points on, these data would tell ft from base")
    # All samples of a problem agree, so the noise is between problems.
    assert "no number of samples of these problems does it" in comparison.advice
    assert comparison.advice.endswith("Twice the problems narrow the interval by 29%, twice the samples by 0%.")


def test_seven_better_and_one_worse_of_eighty_is_not_shipped(make_run: MakeRun) -> None:
    tallies = {"base": [0] * 7 + [1] + [1] * 20 + [0] * 52, "ft": [1] * 7 + [0] + [1] * 20 + [0] * 52}
    run = make_run(tallies, num_samples=1)
    comparison = compare_run(run)
    assert comparison.headline == "These data do not separate the arms."
    [difference] = comparison.differences
    assert (difference.p_adjusted, difference.is_separated) == (0.0703125, False)
    assert difference.interval[0] < 0
    assert "Ship" not in comparison.verdict + comparison.advice
    assert "two samples of each problem would show" in comparison.advice
    greedy = compare_run(run, generate=GenerateConfig(num_samples=1, temperature=0))
    assert greedy.advice.endswith("greedy answers do not vary, so more samples change nothing.")


def test_where_samples_disagree_more_of_them_help(make_run: MakeRun) -> None:
    comparison = compare_run(make_run({"base": [1, 3, 2, 2] * 10, "ft": [3, 2, 1, 3] * 10}))
    assert comparison.headline == "These data do not separate the arms."
    # The differences vary less than samples of equal problems would, so all of the noise is theirs.
    assert re.search(r"about \d+ problems, or about \d+ samples of each of these\.", comparison.advice)
    assert comparison.advice.endswith("Twice the problems narrow the interval by 29%, twice the samples by 29%.")


def test_an_arm_that_does_not_beat_the_loser_is_not_shipped_beside_the_winner(make_run: MakeRun) -> None:
    tallies = {"base": [0] * 40, "ft": [5] * 9 + [0] * 31, "ib": [5] * 5 + [0] * 35}
    comparison = compare_run(make_run(tallies))
    assert comparison.headline == "No clear winner: ft beats base, but not ib."
    assert comparison.candidates == ["ft", "ib"]


def test_two_arms_may_beat_the_third_together(make_run: MakeRun) -> None:
    tallies = {"base": [0] * 40, "ft": [5, 0] * 20, "ib": [5, 0] * 19 + [5, 1]}
    comparison = compare_run(make_run(tallies))
    assert comparison.headline == "Ship ft or ib: these data do not separate them."
    assert comparison.candidates == ["ft", "ib"]
    assert "ib beats base on Pass@1 by +50.5 points" in comparison.verdict
    assert "ib and ft cannot be told apart" in comparison.verdict


def tallies_of_seven(best: list[int], others: list[int]) -> dict[str, list[int]]:
    return {"base": others, "ft": best, **dict.fromkeys(("dft", "asft", "eaft", "gem", "stm"), others)}


def test_many_beaten_arms_are_summed_up(make_run: MakeRun) -> None:
    tallies = tallies_of_seven([5] * 20 + [0] * 20, [0] * 40) | {"gem": [5] * 10 + [0] * 30}
    comparison = compare_run(make_run(tallies, objectives=SIX))
    assert comparison.headline == "Ship ft."
    assert comparison.verdict == (
        "On 40 problems × 5 samples (temperature 0.2), "
        "ft beats base, dft, asft, eaft, gem and stm on Pass@1 by +25.0 to +50.0 points."
    )
    assert len(comparison.differences) == 21
    for one in comparison.differences:
        low, high = one.interval
        assert one.is_separated == (one.p_adjusted <= 0.05) == (not low <= 0 <= high)
        assert 0.95 < one.confidence <= 1 - 0.05 / 21 + 1e-9


def test_many_arms_that_are_not_separated_are_summed_up(make_run: MakeRun) -> None:
    tallies = tallies_of_seven([5, 0] * 19 + [5, 5], [0, 5] * 20) | {"gem": [0, 5] * 19 + [0, 4]}
    comparison = compare_run(make_run(tallies, objectives=SIX))
    assert comparison.headline == "These data do not separate the arms."
    assert comparison.verdict.endswith(
        "ft cannot be told apart from base, dft, asft, eaft, gem or stm (differences of +2.5 to +3.0 points)."
    )
    assert comparison.advice.count("tell ft from gem") == 1
    assert "The other 5 differences are no larger and take no fewer." in comparison.advice


def test_what_so_few_problems_separate_is_told_with_care(make_run: MakeRun) -> None:
    notes = compare_run(make_run({"base": [0] * 8, "ft": [1] * 8})).notes
    assert notes[0] == "Not judged yet: ib."
    assert notes[1].startswith("Fewer than 20 problems")


def test_enough_problems_get_no_warning(make_run: MakeRun) -> None:
    assert compare_run(make_run({"base": [0] * 20, "ft": [1] * 20})).notes == ["Not judged yet: ib."]


def test_alarms_of_the_training_are_in_the_comparison(make_run: MakeRun) -> None:
    comparison = compare_run(make_run({"base": [0], "ft": [1], "ib": [1]}, with_training=True))
    assert {name: [alarm.kind for alarm in found] for name, found in comparison.alarms.items()} == {
        "ib": ["overload", "collapse"]
    }
    assert [note.split(" from step")[0] for note in comparison.notes] == ["ib: overload", "ib: collapse"]


@pytest.mark.parametrize(("num_differing", "is_separated"), [(1, False), (5, False), (6, True)])
def test_few_differing_problems_decide_nothing(make_run: MakeRun, num_differing: int, is_separated: bool) -> None:
    tallies = {"base": [0] * num_differing, "ft": [5] * num_differing}
    comparison = compare_run(make_run(tallies))
    [difference] = comparison.differences
    assert difference.interval[1] == 1.0
    assert (difference.interval[0] > 0) is is_separated
    assert difference.is_separated is is_separated
    assert (comparison.headline == "Ship ft.") is is_separated
    if not is_separated:
        assert "judge more problems" in comparison.advice


def test_equal_arms_get_no_number_of_problems(make_run: MakeRun) -> None:
    comparison = compare_run(make_run({"base": [5, 0] * 5, "ft": [5, 0] * 5}))
    assert "Too few problems tell base from ft at all (0 of 10 differ; at least 6 have to)" in comparison.advice
    high = 100 * (1 - 0.025**0.1)  # Clopper and Pearson's bound of 0 in 10
    assert f"difference +0.0 points, 95% CI −{high:.1f} to +{high:.1f}" in comparison.verdict


def test_no_arm_solves_anything(make_run: MakeRun) -> None:
    comparison = compare_run(make_run({"base": [0] * 20, "ft": [0] * 20}))
    assert comparison.headline == "No arm solved anything: these data choose none."
    assert "no arm has solved a single problem" in comparison.verdict


def test_one_judged_arm_is_shown_but_not_chosen(make_run: MakeRun) -> None:
    comparison = compare_run(make_run({"ft": [5, 0] * 10}))
    assert comparison.headline == "There is nothing to choose between yet."
    assert comparison.verdict.startswith("On 20 problems × 5 samples (temperature 0.2), ft has Pass@1 50.0% (95% CI ")
    assert comparison.candidates == []
    assert "Not judged yet: base, ib." in comparison.notes


def test_without_a_judged_arm_the_user_is_told_what_to_run(make_run: MakeRun) -> None:
    run = make_run({"ft": [1]})
    with pytest.raises(UserError, match="ibft judge"):
        compare_run(run, objective=(), name="fake")


def test_an_undefined_arm_takes_no_part_and_is_not_zero(make_run: MakeRun) -> None:
    run = make_run({"base": [0] * 20, "ft": [5] * 20, "ib": [5] * 20})
    path = run.path / "judge" / "ib" / "metrics.json"
    known = Metrics.from_json(path.read_bytes())
    undefined = {name: Metric(None, None, "3 samples could not be judged") for name in known.metrics}
    path.write_bytes(msgspec.structs.replace(known, metrics=undefined).to_json())
    comparison = compare_run(run)
    assert comparison.headline == "Ship ft."
    assert comparison.verdict.endswith("Pass@1 of ib is undefined: 3 samples could not be judged.")
    assert {(one.better, one.other) for one in comparison.differences} == {("ft", "base")}
    assert comparison_rows(comparison)[0].cells[2] == ("undefined", "3 samples could not be judged")


def test_every_k_of_the_recipe_has_its_rows_and_an_undefined_one_its_reason(make_run: MakeRun) -> None:
    comparison = compare_run(make_run({"base": [1] * 10, "ft": [2] * 10}, k=(1, 3, 5, 10)))
    rows = {row.label: row.cells for row in comparison_rows(comparison)}
    assert list(rows)[:7] == ["Pass@1", "Pass@3", "Pass@3^(3)", "Pass@5", "Pass@5^(5)", "Pass@10", "Pass@10^(10)"]
    assert rows["Pass@3"][0].text == "60.0%"  # 1 - C(4, 3) / C(5, 3)
    for cell in rows["Pass@10"]:
        assert cell.text == "undefined"
        assert "10 samples" in cell.detail


def test_a_k_that_the_judge_did_not_compute_is_added(make_run: MakeRun) -> None:
    run = make_run({"base": [1] * 10, "ft": [3] * 10}, k=(5,))
    comparison = compare_run(run, report=ReportConfig(k=(2,), bootstrap_resamples=100))
    assert comparison.k == [1, 2]
    values = [arm.metrics["pass@2"].value for arm in comparison.arms]
    assert values == pytest.approx([1 - math.comb(5 - c, 2) / math.comb(5, 2) for c in (1, 3)])


def test_cut_samples_and_temperature_are_in_the_table(make_run: MakeRun) -> None:
    run = make_run({"base": [0] * 7, "ft": [0] * 7})
    rows = {row.label: row.cells for row in comparison_rows(compare_run(run))}
    assert rows["Cut at the token limit"][0].text == f"{100 * 5 / 35:.1f}%"  # the fixture cuts every seventh
    assert rows["Temperature"][1].text == "0.2"
    (run.path / "generate" / "ft" / "samples.jsonl").unlink()
    rows = {row.label: row.cells for row in comparison_rows(compare_run(run))}
    assert rows["Cut at the token limit"][1] == ("undefined", "not recorded by the generator")


def test_greedy_decoding_is_named(make_run: MakeRun) -> None:
    run = make_run({"base": [0] * 8, "ft": [1] * 8}, num_samples=1)
    comparison = compare_run(run, generate=GenerateConfig(num_samples=1, temperature=0))
    assert comparison.verdict.startswith("On 8 problems × 1 sample (greedy decoding), ft beats base")


def test_arms_judged_on_different_problems_are_paired_on_the_shared_ones(make_run: MakeRun) -> None:
    comparison = compare_run(make_run({"base": [0] * 20, "ft": [5] * 12}))
    [difference] = comparison.differences
    assert difference.num_problems == 12
    assert any("not judged on the same problems" in note for note in comparison.notes)


def test_a_damaged_metrics_file_is_named(make_run: MakeRun) -> None:
    run = make_run({"base": [1]})
    (run.path / "judge" / "base" / "metrics.json").write_text("{")
    with pytest.raises(UserError, match=r"metrics\.json.*ibft judge"):
        compare_run(run)
