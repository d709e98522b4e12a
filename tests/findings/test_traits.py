import numpy as np
import pytest

from ibft.artifacts.scan import Trait
from ibft.findings.traits import common_traits


def traits_of(is_memorized, num_tokens, has_duplicate=None, files=None, tags=None, groups=None) -> list[Trait]:
    """Of examples that are independent and of which nothing else is known."""
    num = len(is_memorized)
    return common_traits(
        is_memorized,
        num_tokens,
        np.zeros(num, bool) if has_duplicate is None else has_duplicate,
        [None] * num if files is None else files,
        [()] * num if tags is None else tags,
        np.arange(num) if groups is None else groups,
        np.where(is_memorized, 0.0, 1.0),
    )


def test_traits_are_those_that_chance_does_not_explain_the_most_telling_first() -> None:
    num = 400
    is_memorized = np.arange(num) < 40
    files = ["lib/old/a.py" if i < 30 or 40 <= i < 50 else f"lib/new{i % 7}/b.py" for i in range(num)]
    tags = [["license"] if i < 15 or 100 <= i < 110 else ["plain", "plain"] for i in range(num)]
    has_duplicate = np.isin(np.arange(num), [*range(20), *range(200, 204)])
    found = traits_of(is_memorized, np.tile([10, 20, 30, 40], 100), has_duplicate, files, tags)
    assert [(one.kind, one.name) for one in found] == [
        ("file", "lib/old/a.py"),
        ("duplicates", "has a duplicate in the data"),
        ("tag", "license"),
    ]
    first = found[0]
    assert (first.num_examples, first.num_memorized) == (40, 30)
    assert (first.share_of_memorized, first.share_of_all) == (0.75, 0.1)
    assert first.ratio == pytest.approx(7.5)
    assert first.ci95.low < 7.5 < first.ci95.high
    assert first.ci95.low > 5


def test_short_examples_and_whole_packages_are_found() -> None:
    num = 800
    lengths = np.arange(1, num + 1)
    # The shortest; and a package of three files, each of which alone is too small to tell.
    files = [f"src/core/{i % 3}.py" if i % 100 < 9 else f"src/misc{i}/x.py" for i in range(num)]
    is_memorized = (lengths <= 60) | (np.array([file.startswith("src/core") for file in files]) & (lengths <= 500))
    names = [(one.kind, one.name) for one in traits_of(is_memorized, lengths, files=files)]
    assert ("length", "1 to 200 tokens") in names
    assert ("file", "src/core/") in names


def test_chance_alone_seldom_makes_a_trait() -> None:
    rng = np.random.default_rng(5)
    num_found = 0
    for _ in range(40):
        files = [f"f{i}" for i in rng.integers(0, 100, 1_000)]
        num_found += bool(traits_of(rng.random(1_000) < 0.1, rng.integers(1, 300, 1_000), files=files))
    assert num_found <= 5


def test_the_tail_is_fishers_exact_test() -> None:
    stats = pytest.importorskip("scipy.stats")
    from ibft.findings.traits import _log_tail

    log_factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, 101)))])
    for num_memorized, members, hits in ((10, 20, 5), (30, 5, 5), (95, 20, 20), (3, 50, 3), (50, 50, 40)):
        expected = stats.hypergeom.logsf(hits - 1, 100, num_memorized, members)
        assert _log_tail(log_factorials, 100, num_memorized, members, hits) == pytest.approx(expected, abs=1e-9)
    assert _log_tail(log_factorials, 100, 10, 20, 2) == 0


def test_at_most_eight_traits_and_none_without_a_contrast() -> None:
    files = [f"f{i // 20}" for i in range(2_000)]
    is_memorized = np.arange(2_000) < 400
    found = traits_of(is_memorized, [5] * 2_000, files=files)
    assert len(found) == 8
    assert all(one.num_examples == one.num_memorized == 20 for one in found)
    assert traits_of([True] * 9, [5] * 9) == traits_of([False] * 9, [5] * 9) == traits_of([], []) == []
    assert traits_of([True, False], [1, 2], [True, False], [None, None], [[], []]) == []


def test_a_file_of_memorized_examples_is_told_though_its_examples_depend_on_one_another() -> None:
    files = np.repeat(np.arange(100), 10)
    flags = files < 4
    names = [f"lib{file % 9}/{file}.py" for file in files]
    found = traits_of(flags, np.full(1000, 9), files=names, tags=[[f"t{file % 2}"] for file in files], groups=files)
    assert {one.name for one in found} == {f"lib{file}/{file}.py" for file in range(4)}
