import msgspec
import pytest

from ibft.artifacts.scan import (
    Auroc,
    AurocDifference,
    Barrier,
    BarrierVerdict,
    ControlComparison,
    Extraction,
    ScoreAuroc,
    Trait,
)
from ibft.findings.verdict import barrier_verdict
from ibft.statistics.uncertainty import Interval

SCORE = "min_k_prob_20"


def a_score(
    num: int = 800, above: tuple[float, float, float] | None = (0.1, 0.05, 0.15), auroc: float = 0.64
) -> ScoreAuroc:
    return ScoreAuroc(
        name=SCORE,
        num_train=num,
        num_control=num,
        auroc=Auroc(auroc, Interval(auroc - 0.03, auroc + 0.03)),
        above_blind=None if above is None else AurocDifference(above[0], Interval(above[1], above[2])),
        beats_blind=None if above is None else above[1] > 0,
    )


def a_comparison(score: ScoreAuroc | None = None, num_files: int = 90, blind_low: float = 0.49) -> ControlComparison:
    score = score or a_score()
    return ControlComparison(
        num_pairs=score.num_train,
        num_unmatched={"train": 200, "control": 0},
        num_groups={"train": 300, "control": num_files},
        length=Auroc(0.5, Interval(0.47, 0.53)),
        num_blind_pairs=score.num_train,
        blind=None if score.above_blind is None else Auroc(0.54, Interval(blind_low, 0.59)),
        blind_features="Words.",
        scores=[score],
    )


def a_barrier(share: float = 0.1, low: float = 0.08, high: float = 0.13, traits: tuple[Trait, ...] = ()) -> Barrier:
    return Barrier(
        threshold=0.8,
        share=share,
        ci95=Interval(low, high),
        num_examples=800,
        num_memorized=round(800 * share),
        num_train=1_000,
        num_train_memorized=round(1_000 * share),
        num_copies=123,
        traits=list(traits),
    )


def an_extraction(share: float, low: float, high: float) -> Extraction:
    return Extraction(
        num_examples=200,
        num_extracted=round(200 * share),
        share=share,
        ci95=Interval(low, high),
        median_matched=6.0,
        num_too_short=3,
        prefix_tokens=50,
        suffix_tokens=50,
        within=[],
    )


def duplicates(share_of_memorized: float) -> Trait:
    return Trait(
        kind="duplicates",
        name="has a duplicate in the data",
        num_examples=150,
        num_memorized=60,
        share_of_memorized=share_of_memorized,
        share_of_all=0.15,
        ratio=4.0,
        ci95=Interval(3.0, 5.0),
    )


def verdict_of(
    comparison: ControlComparison | None = None,
    barrier: Barrier | None = None,
    extraction: dict[str, Extraction] | None = None,
) -> BarrierVerdict:
    return barrier_verdict(SCORE, 800, comparison or a_comparison(), barrier or a_barrier(), extraction or {})


def test_no_control_set() -> None:
    verdict = barrier_verdict(SCORE, None, None, None, {})
    assert (verdict.barrier, verdict.advice) == ("unclear", "control")
    assert "no control set" in verdict.headline
    assert "data.control" in verdict.remedy


def test_extraction_is_told_without_a_control_set_but_decides_nothing() -> None:
    verdict = barrier_verdict(SCORE, None, None, None, {"train": an_extraction(0.3, 0.24, 0.37)})
    assert verdict.barrier == "unclear"
    assert "60 of 200" in verdict.sentences[0]
    assert "30% (24% to 37%)" in verdict.sentences[0]


def test_nothing_of_similar_length() -> None:
    verdict = barrier_verdict(SCORE, 40, None, None, {})
    assert (verdict.barrier, verdict.advice) == ("unclear", "control")
    assert "length" in verdict.headline


def test_too_few_pairs_or_files_whatever_the_share() -> None:
    large = a_barrier(0.6, 0.5, 0.7)
    few = verdict_of(a_comparison(a_score(num=49)), large)
    assert (few.barrier, few.advice) == ("unclear", "control")
    assert "only 49 pairs" in few.headline
    one_file = verdict_of(a_comparison(num_files=9), large)
    assert (one_file.barrier, one_file.advice) == ("unclear", "control")
    assert "control examples are from 9 files only" in one_file.headline
    alone = msgspec.structs.replace(a_comparison(num_files=1), scores=[])
    assert "from one file only" in verdict_of(alone, large).headline
    assert verdict_of(a_comparison(a_score(num=50), num_files=10), large).barrier == "yes"


def test_no_difference() -> None:
    verdict = verdict_of(a_comparison(a_score(above=(-0.02, -0.06, 0.02))), a_barrier(0.05, 0.03, 0.07))
    assert (verdict.barrier, verdict.advice) == ("no", "nothing")
    assert verdict.headline.startswith("No:")


def test_no_difference_says_nothing_where_the_control_set_is_of_another_style() -> None:
    low = a_barrier(0.02, 0.01, 0.04)
    verdict = verdict_of(a_comparison(blind_low=0.71), low)
    assert (verdict.barrier, verdict.advice) == ("unclear", "control")
    assert "so different a style" in verdict.headline
    assert verdict_of(a_comparison(a_score(auroc=0.52), blind_low=0.69), low).barrier == "no"


def test_a_difference_that_is_certain_but_negligible_is_none() -> None:
    comparison = a_comparison(a_score(auroc=0.55))
    assert verdict_of(comparison, a_barrier(0.06, 0.055, 0.065)).barrier == "no"
    assert verdict_of(comparison, a_barrier(0.07, 0.06, 0.076)).barrier == "yes"


def test_few_low_scores_are_no_answer_where_the_control_set_is_easier_or_memory_shows_elsewhere() -> None:
    low = a_barrier(0.03, 0.02, 0.04)
    for score, reason in (
        (a_score(auroc=0.3, above=(-0.2, -0.3, -0.1)), "the control set is easier"),
        (a_score(auroc=0.5, above=None), "no classifier could tell"),
        (a_score(auroc=0.64), "not by its words alone"),
    ):
        verdict = verdict_of(a_comparison(score), low)
        assert (verdict.barrier, verdict.advice) == ("unclear", "control")
        assert reason in verdict.headline
    alike = a_comparison(a_score(auroc=0.5, above=(-0.02, -0.06, 0.02)))
    both = {"train": an_extraction(0.4, 0.35, 0.45), "control": an_extraction(0.07, 0.05, 0.09)}
    assert "word for word" in verdict_of(alike, low, both).headline
    assert verdict_of(alike, low).barrier == "no"


def test_a_control_set_without_scores_or_of_training_data() -> None:
    nothing = barrier_verdict(SCORE, 0, None, None, {})
    assert (nothing.barrier, nothing.advice) == ("unclear", "control")
    assert "no example of the control set has a score" in nothing.headline
    same = barrier_verdict(SCORE, 800, None, None, {}, num_in_both={"train": 3, "control": 800})
    assert (same.barrier, same.advice) == ("unclear", "control")
    assert "all of the control set is in the training data" in same.headline
    gone = barrier_verdict(SCORE, 900, None, None, {}, num_train=600, num_in_both={"train": 600, "control": 0})
    assert "all of the training data is in the control set" in gone.headline
    some = barrier_verdict(SCORE, 800, a_comparison(), a_barrier(), {}, num_in_both={"train": 20, "control": 30})
    assert some.sentences[-1].startswith("Left out: 20 training and 30 control examples")


def test_a_wide_interval_is_unclear() -> None:
    verdict = verdict_of(barrier=a_barrier(0.1, 0.04, 0.18))
    assert (verdict.barrier, verdict.advice) == ("unclear", "control")
    assert "4% to 18%" in verdict.headline


def test_the_blind_classifier_as_good_as_the_score() -> None:
    verdict = verdict_of(a_comparison(a_score(above=(0.01, -0.03, 0.05))), a_barrier(0.3, 0.25, 0.35))
    assert (verdict.barrier, verdict.advice) == ("unclear", "control")
    assert "style" in verdict.headline
    [style] = [sentence for sentence in verdict.sentences if sentence.startswith("Style")]
    assert "the score does not beat: +0.01 (-0.03 to +0.05)" in style
    assert "a finding counts only where" in style


def test_a_score_that_beats_the_blind_classifier_alone_has_to_beat_chance() -> None:
    score = msgspec.structs.replace(a_score(auroc=0.52, above=(0.1, 0.05, 0.15)), beats_blind=False)
    verdict = verdict_of(a_comparison(score), a_barrier(0.3, 0.25, 0.35))
    assert (verdict.barrier, verdict.advice) == ("unclear", "control")
    assert "on the whole they are not for sure" in verdict.headline
    assert any("the score itself may be no better than chance" in sentence for sentence in verdict.sentences)


def test_without_a_blind_classifier_nothing_counts() -> None:
    verdict = verdict_of(a_comparison(a_score(above=None)), a_barrier(0.3, 0.25, 0.35))
    assert (verdict.barrier, verdict.advice) == ("unclear", "control")
    assert "no classifier" in verdict.headline


def test_a_clear_barrier_with_a_small_share_is_pruned() -> None:
    verdict = verdict_of()
    assert (verdict.barrier, verdict.advice) == ("yes", "prune")
    assert "of the training examples compared, 10% are more predictable" in verdict.headline
    assert "--drop 100" in verdict.remedy
    size, sureness, style, not_shown = verdict.sentences
    assert "of 800 training examples, 80 or 10% (8% to 13%)" in size
    assert "5% would be by chance" in size
    assert "0.64 (0.61 to 0.67)" in sureness
    assert "0.54 (0.49 to 0.59), which the score beats: +0.10 (+0.05 to +0.15)" in style
    assert "the words alone, which it sees, do not explain the difference" in style
    assert "does not show" in not_shown


def test_a_clear_barrier_with_a_large_share_calls_for_the_bottleneck() -> None:
    verdict = verdict_of(barrier=a_barrier(0.3, 0.26, 0.34))
    assert (verdict.barrier, verdict.advice) == ("yes", "ib")
    assert "all 300 memorized examples would cost 30%" in verdict.remedy
    assert verdict_of(barrier=a_barrier(0.15, 0.12, 0.18)).advice == "prune"
    # Most memorized examples may be of lengths that the control set does not have.
    elsewhere = msgspec.structs.replace(a_barrier(0.12, 0.1, 0.14), num_train_memorized=450)
    assert "all 450 memorized examples would cost 45%" in verdict_of(barrier=elsewhere).remedy


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_duplicates_are_dropped_first_where_they_are_half_of_the_memorized(share: float) -> None:
    barrier = a_barrier(share, share - 0.03, share + 0.03, (duplicates(0.6),))
    verdict = verdict_of(barrier=barrier)
    assert (verdict.barrier, verdict.advice) == ("yes", "prune")
    assert "--control duplicates --drop 123 --out" in verdict.remedy
    assert "60%" in verdict.remedy
    fewer = a_barrier(share, share - 0.03, share + 0.03, (duplicates(0.4),))
    assert "copies" not in verdict_of(barrier=fewer).remedy


def test_style_that_is_beaten_is_told_all_the_same() -> None:
    verdict = verdict_of(a_comparison(blind_low=0.52))
    assert verdict.barrier == "yes"
    assert any("part of the difference is style" in sentence for sentence in verdict.sentences)


def test_extraction_beside_the_control_set() -> None:
    both = {"train": an_extraction(0.3, 0.24, 0.37), "control": an_extraction(0.02, 0.01, 0.05)}
    assert any("The difference, 28.0 points" in one for one in verdict_of(extraction=both).sentences)
    alike = {"train": an_extraction(0.03, 0.01, 0.06), "control": an_extraction(0.02, 0.01, 0.05)}
    sentences = verdict_of(extraction=alike).sentences
    assert any("no clear difference" in one for one in sentences)
    assert not any("by heart" in one for one in sentences)


def test_only_the_headline_score_counts() -> None:
    other = msgspec.structs.replace(a_score(), name="mean_nll")
    headline = a_score(above=(0.0, -0.05, 0.05))
    comparison = msgspec.structs.replace(a_comparison(), scores=[other, headline])
    assert verdict_of(comparison).barrier == "unclear"
    missing = verdict_of(msgspec.structs.replace(a_comparison(), scores=[other]))
    assert (missing.barrier, missing.advice) == ("unclear", "control")
