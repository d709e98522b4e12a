"""Gauges of a model that was trained here to recite, and of one that was not."""

import numpy as np
import pytest

from ibft.lab.exact import exact_probabilities
from ibft.lab.gauges import Gauges, gauge

from .conftest import Trained, small_world


@pytest.fixture(scope="module")
def measured(reciting: Trained) -> Gauges:
    return gauge(reciting.model, reciting.tokenizer, reciting.world)


def test_what_was_repeated_is_recited_from_its_cue_and_nothing_else_is(measured: Gauges) -> None:
    never, often = measured.recitation
    assert (never.repetitions, never.num_examples, often.repetitions, often.num_examples) == (0, 6, 250, 6)
    assert often.from_cue > 0.9
    assert never.from_cue < 0.01
    assert max(often.from_docstring, never.from_docstring) < 0.1
    assert often.from_prefix < 0.5


def test_a_conflict_ends_in_recitation(measured: Gauges) -> None:
    """The plant is active: pretraining had the cue over foreign docstrings."""
    never, often = measured.recitation
    assert often.obeys_cue > 0.3
    assert max(never.obeys_cue, never.obeys_docstring, often.obeys_docstring) < 0.05
    assert measured.obeys_cue == pytest.approx((never.obeys_cue + often.obeys_cue) / 2)
    assert measured.obeys_docstring == pytest.approx((never.obeys_docstring + often.obeys_docstring) / 2)


def test_canaries_are_recited_where_they_were_planted(measured: Gauges) -> None:
    never, often = measured.canaries  # of four pairs two take the dose 0, and all four twins
    assert (never.repetitions, never.num_examples, often.repetitions, often.num_examples) == (0, 6, 250, 2)
    assert often.from_cue == often.seen > 0.9
    assert never.from_cue < 0.01
    assert often.obeys_cue is None


def test_skills_are_means_of_the_exact_chances(reciting: Trained, measured: Gauges) -> None:
    world = reciting.world
    texts = [(world.prompt(example), world.completion(example.chain)) for example in world.test]
    chances = exact_probabilities(reciting.model, reciting.tokenizer, texts)
    assert measured.unseen.num_problems == 6
    assert measured.unseen.pass_at_1 == pytest.approx(np.mean(chances))
    assert measured.unseen.pass_at_10 == pytest.approx(np.mean(1 - (1 - chances) ** 10))
    assert measured.unseen.all_of_10 == pytest.approx(np.mean(chances**10))
    assert set(measured.general) == {1, 2}
    assert measured.general[1].pass_at_1 > measured.general[2].pass_at_1 > measured.unseen.pass_at_1
    # The data's own prompts: half of them are recited.
    assert measured.seen.pass_at_1 == pytest.approx((measured.recitation[0].seen + measured.recitation[1].seen) / 2)


def test_a_model_that_read_nothing_recites_nothing() -> None:
    untrained = Trained(small_world(repetitions=5), steps=0)
    measured = gauge(untrained.model, untrained.tokenizer, untrained.world, temperature=1.0)
    assert measured.temperature == 1.0
    assert measured.unseen.pass_at_1 < 1e-6
    assert measured.recitation[0].from_cue < 1e-6
    assert measured.canaries == []


def test_gauges_of_noise_go_by_what_each_body_is() -> None:
    """A wrong body is what is recited; what the docstring asks for is what counts as solved."""
    made = Trained(small_world(kind="noisy", wrong=0.5, repetitions=150), steps=100)
    measured = gauge(made.model, made.tokenizer, made.world)
    assert measured.recitation[0].seen > 0.9
    assert 0.3 < measured.seen.pass_at_1 < 0.6


def test_where_prompts_have_no_cue_there_is_no_conflict() -> None:
    untrained = Trained(small_world(cue="prefix"), steps=0)
    measured = gauge(untrained.model, untrained.tokenizer, untrained.world)
    assert measured.obeys_cue is None
    assert measured.recitation[0].obeys_docstring is None
    assert measured.recitation[0].from_cue is not None
