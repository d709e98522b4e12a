from __future__ import annotations

import pytest

from ibft.pages.format_shares import ProblemTally, format_shares


def test_the_two_shares_multiply_to_pass_at_1() -> None:
    tallies = [ProblemTally(4, 4, 2, 0), ProblemTally(4, 2, 1, 1), ProblemTally(4, 0, 0, 4)]

    shares = format_shares(tallies, num_resamples=200)

    assert shares.program.value == pytest.approx(6 / 12)
    assert shares.passes_if_program.value == pytest.approx(3 / 6)
    assert shares.cut.value == pytest.approx(5 / 12)
    assert shares.program.value * shares.passes_if_program.value == pytest.approx(3 / 12)


def test_intervals_hold_the_value_and_are_the_same_again() -> None:
    tallies = [ProblemTally(2, number % 3 and 2, number % 2 and (number % 3 and 1), 0) for number in range(30)]

    first, second = (format_shares(tallies, num_resamples=500, seed=1) for _ in range(2))

    assert first == second
    for share in (first.program, first.passes_if_program):
        assert share.ci95 is not None
        assert share.ci95[0] < share.value < share.ci95[1]


def test_what_is_not_defined_says_why() -> None:
    shares = format_shares([ProblemTally(3, 0, 0, None)], num_resamples=10)

    assert shares.program.value == 0
    assert shares.passes_if_program.reason == "no sample is a program"
    assert shares.cut.reason == "not recorded by the generator"
    assert format_shares([], num_resamples=10).program.reason == "no samples"


def test_no_resamples_are_refused() -> None:
    with pytest.raises(ValueError, match="num_resamples is 0"):
        format_shares([ProblemTally(1, 1, 1, 0)], num_resamples=0)
