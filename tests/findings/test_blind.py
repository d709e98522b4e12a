import sys

import numpy as np
import pytest

from ibft.errors import UserError
from ibft.findings.blind import MAX_EXAMPLES, blind_values
from ibft.statistics.uncertainty import auroc

pytest.importorskip("sklearn")


def functions(rng: np.random.Generator, num: int, words: list[str]) -> list[str]:
    return [" ".join(rng.choice(words, 20)) for _ in range(num)]


WORDS = [f"word{number}" for number in range(40)]


def test_finds_a_word_that_only_one_set_uses_and_is_lower_for_training_data() -> None:
    rng = np.random.default_rng(0)
    train, control = functions(rng, 80, [*WORDS, "legacy"]), functions(rng, 80, [*WORDS, "modern"])
    assert auroc(*blind_values(train, control)) > 0.7
    assert auroc(*blind_values(control, train)) > 0.7


def test_order_of_words_counts_through_pairs() -> None:
    rng = np.random.default_rng(1)
    train = [f"{' '.join(rng.choice(WORDS, 8))} a b" for _ in range(60)]
    control = [f"{' '.join(rng.choice(WORDS, 8))} b a" for _ in range(60)]
    assert auroc(*blind_values(train, control)) > 0.9


def test_texts_of_one_kind_cannot_be_told_apart() -> None:
    rng = np.random.default_rng(2)
    areas = [
        auroc(*blind_values(functions(rng, 150, WORDS), functions(rng, 150, WORDS), seed=seed)) for seed in range(4)
    ]
    assert np.mean(areas) == pytest.approx(0.5, abs=0.06)


def test_a_files_own_words_do_not_tell_where_its_other_functions_belong() -> None:
    rng = np.random.default_rng(3)
    files = [[f"{name}{file}" for name in ("x", "y", "z")] for file in range(60)]
    texts = [" ".join([*rng.choice(WORDS, 8), *files[file], *files[file]]) for file in range(60) for _ in range(4)]
    codes = np.repeat(np.arange(60), 4)
    groups = (codes[:120], codes[120:])
    assert auroc(*blind_values(texts[:120], texts[120:])) > 0.9
    assert auroc(*blind_values(texts[:120], texts[120:], groups=groups)) < 0.65


def test_values_stand_in_the_order_of_the_texts_and_are_seeded() -> None:
    rng = np.random.default_rng(4)
    train, control = functions(rng, 30, [*WORDS, "legacy"]), functions(rng, 40, [*WORDS, "modern"])
    first, again, other = (blind_values(train, control, seed=seed) for seed in (5, 5, 6))
    assert [len(side) for side in first] == [30, 40]
    assert np.isfinite(np.concatenate(first)).all()
    assert np.array_equal(np.concatenate(first), np.concatenate(again))
    assert not np.array_equal(np.concatenate(first), np.concatenate(other))
    has_word = np.array(["legacy" in text for text in train])
    assert first[0][has_word].mean() < first[0][~has_word].mean()


@pytest.mark.parametrize("num", [0, 1, 4])
def test_too_few_texts_or_groups_are_undefined(num: int) -> None:
    rng = np.random.default_rng(5)
    few, many = functions(rng, num, WORDS), functions(rng, 20, WORDS)
    assert np.isnan(np.concatenate(blind_values(few, many))).all()
    groups = (np.arange(20) % 4, 100 + np.arange(20))
    assert np.isnan(np.concatenate(blind_values(many, many, groups=groups))).all()


def test_no_words_at_all_are_no_error() -> None:
    assert auroc(*blind_values([""] * 20, [" \n"] * 20)) == pytest.approx(0.5, abs=0.2)


def test_too_many_texts_and_a_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="at most 5000"):
        blind_values(["x"] * (MAX_EXAMPLES + 1), ["x"])
    for name in [name for name in sys.modules if name.startswith("sklearn")]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=r"pip install 'ibft\[audit\]'"):
        blind_values(["x"] * 9, ["y"] * 9)
