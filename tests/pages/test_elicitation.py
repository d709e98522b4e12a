"""A gain over the base counts only if it is one over the base in every format."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest

from ibft.artifacts.report import Comparison
from ibft.pages.compare import compare, comparison_rows
from ibft.pages.elicitation import read_elicitation
from ibft.pages.verdict import costs
from ibft.run.folder import RunFolder
from ibft.run.recipe import Recipe
from ibft.run.sections import ProblemsConfig
from ibft.stages.report import render

from .conftest import write_run

SOLVED, NOT = [1], [0]


def comparison_of(run: RunFolder) -> Comparison:
    return compare(run.recipe, run)


def half(number: int, of: int = 40) -> list[int]:
    return SOLVED * number + NOT * (of - number)


@pytest.fixture
def make(tmp_path: Path):  # type: ignore[no-untyped-def]
    def write(asked: dict[str, list[int]], base: int = 0) -> RunFolder:
        tallies = {"base": [5] * base + NOT * (40 - base), "ft": [5] * 20 + NOT * 20}
        return write_run(tmp_path, tallies, k=(1,), asked=asked)

    return write


def test_a_gain_of_format_is_called_so_and_nothing_is_shipped(make) -> None:  # type: ignore[no-untyped-def]
    """Asked plainly the base solves nothing; asked in a chat it solves what the fine-tuned model does."""
    run = make({"base@plain": half(0), "base@chat": half(19), "ft@plain": half(20)})

    comparison = comparison_of(run)

    assert comparison.headline == "What ft gains over base is a gain of format, not of ability."
    assert comparison.candidates == ["base", "ft"]
    assert "but only +2.5 points" in comparison.verdict
    assert "is left of it where base is asked as chat, both greedily" in comparison.verdict
    assert comparison.elicitation is not None
    assert comparison.elicitation.gains["ft"].kind == "format"
    assert "Ship" not in render(comparison, run.recipe, run).html


def test_the_smallest_gain_is_the_headline(make) -> None:  # type: ignore[no-untyped-def]
    run = make({"base@plain": half(0), "base@chat": half(3), "base@examples": half(1), "ft@plain": half(20)})

    comparison = comparison_of(run)

    assert comparison.headline == "Ship ft: it beats base by +42.5 points or more in every format."
    assert (
        "the smallest of ft's gains over base in 3 formats, all asked greedily, is +42.5 points" in comparison.verdict
    )
    assert "over base asked as chat" in comparison.verdict


def test_a_gain_that_is_not_shown_everywhere_ships_nothing(make) -> None:  # type: ignore[no-untyped-def]
    """Too few problems tell the base asked as chat from the arm, and from the base itself."""
    run = make({"base@plain": half(11), "base@chat": half(16), "ft@plain": half(20)}, base=11)

    comparison = comparison_of(run)

    assert comparison.headline == "ft is not shown to beat base in every format: these data choose none."
    assert comparison.elicitation is not None
    assert comparison.elicitation.gains["ft"].kind == "open"


def test_without_other_formats_a_base_that_writes_no_program_says_nothing(tmp_path: Path) -> None:
    run = write_run(tmp_path, {"base": NOT * 40, "ft": [5] * 40}, k=(1,))
    results = run.path / "judge" / "base" / "results.jsonl"
    results.write_text(results.read_text().replace('"status":"failed"', '"status":"syntax_error"'))

    comparison = comparison_of(run)

    assert comparison.elicitation is None
    assert "what it can do is not measured" in comparison.verdict
    assert comparison.headline == "ft is not shown to beat base in every format: these data choose none."


def test_shares_stand_in_the_table(make) -> None:  # type: ignore[no-untyped-def]
    run = make({"base@plain": half(0), "ft@plain": half(20)})
    rows = {row.label: [cell.text for cell in row.cells] for row in comparison_rows(comparison_of(run))}
    assert rows["Answer is a program"] == ["100.0%", "100.0%"]
    assert rows["Passes if a program"] == ["0.0%", "50.0%"]


def test_greedy_samples_are_the_answers_in_the_arms_own_format(tmp_path: Path) -> None:
    run = write_run(tmp_path, {"base": half(2), "ft": half(20)}, 1, k=(1,), asked={"base@chat": half(5)})
    greedy = Recipe(
        **{name: getattr(run.recipe, name) for name in run.recipe.__struct_fields__ if name != "generate"},
        generate=type(run.recipe.generate)(num_samples=1, temperature=0),
    )

    found = read_elicitation(greedy, run)

    assert found is not None
    assert [(one.arm, one.format) for one in found.asked] == [("base", "plain"), ("base", "chat"), ("ft", "plain")]


def test_nothing_was_elicited(tmp_path: Path) -> None:
    run = write_run(tmp_path, {"base": half(2), "ft": half(20)}, 1, k=(1,))
    assert read_elicitation(run.recipe, run) is None


def test_what_training_cost_elsewhere_is_said_beside_the_verdict(tmp_path: Path) -> None:
    asked = {"base@forgetting": half(20), "ft@forgetting": half(8), "ib@forgetting": half(19)}
    run = write_run(tmp_path, {"base": half(2), "ft": half(20)}, 1, k=(1,), asked=asked)
    recipe = msgspec.structs.replace(run.recipe, forgetting=ProblemsConfig(source="humaneval"))

    comparison = compare(recipe, RunFolder(recipe))

    assert comparison.forgetting is not None
    sentence = costs(comparison.forgetting)
    assert sentence.startswith(
        "Elsewhere, on 40 problems of humaneval (greedy), base solves 50.0%: ft loses 30.0 points"
    )
    assert "ib loses 2.5 points" in sentence
    assert sentence.endswith("where chance is not excluded.")


def test_a_format_that_is_not_judged_yet_leaves_the_gain_open(make) -> None:  # type: ignore[no-untyped-def]
    run = make({"base@plain": half(0), "base@chat": half(1), "ft@plain": half(20)})
    shutil.rmtree(run.path / "judge" / "base@chat")

    comparison = comparison_of(run)

    assert "Ship" not in comparison.headline
    assert "but chat is not judged" in comparison.verdict
    assert any("not judged yet" in note and "base@chat" in note for note in comparison.notes)


def test_an_arm_without_greedy_answers_ships_nothing(make) -> None:  # type: ignore[no-untyped-def]
    run = make({"base@plain": half(0), "base@chat": half(1)})

    comparison = comparison_of(run)

    assert "Ship" not in comparison.headline
    assert "has no greedy answers in its own format yet" in comparison.verdict


def test_a_shown_win_comes_before_a_higher_rate_whose_win_is_doubted(tmp_path: Path) -> None:
    tallies = {"base": [0] * 40, "ft": [5] * 22 + [0] * 18, "ib": [5] * 20 + [0] * 20}
    asked = {"base@plain": half(0), "base@chat": half(8), "ft@plain": half(10), "ib@plain": half(20)}
    run = write_run(tmp_path, tallies, k=(1,), asked=asked)

    comparison = comparison_of(run)

    assert comparison.elicitation is not None
    assert {arm: of.kind for arm, of in comparison.elicitation.gains.items()}["ib"] == "ability"
    assert comparison.headline.startswith("No clear winner: ib beats base, but not ft")


def test_problems_that_could_not_be_judged_are_in_no_comparison(tmp_path: Path) -> None:
    run = write_run(tmp_path, {"base": [0] * 40, "ft": [5] * 20 + [0] * 20}, k=(1,))
    for arm in ("base", "ft"):
        results = run.path / "judge" / arm / "results.jsonl"
        rows = [
            line.replace('"status":"failed"', '"status":"excluded"') if '"demo/39"' in line else line
            for line in results.read_text().splitlines()
        ]
        results.write_text("\n".join(rows) + "\n")

    [difference] = comparison_of(run).differences

    assert difference.num_problems == 39
