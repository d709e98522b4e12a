"""The index of near-copies."""

import pytest

from ibft.curation import near


@pytest.mark.parametrize("similarity", [0.55, 0.7, 0.95, 1.0])
def test_sketches_rule_out_hardly_any_answer_of_the_similarity_asked_for(similarity: float) -> None:
    from scipy.stats import binom

    least = near._least_agreeing(similarity)
    assert binom.cdf(least - 1, 128, similarity) <= 1e-4
    assert least == 128 or binom.cdf(least, 128, similarity) > 1e-4
