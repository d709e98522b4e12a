import collections
import random
from pathlib import Path

import msgspec
import pytest

from ibft.artifacts.json_lines import read_rows
from ibft.artifacts.rows import Pair
from ibft.curation import near
from ibft.curation.duplicates import Duplicate, DuplicateFinder, find_duplicates
from ibft.data.code import jaccard, shingles, whole
from ibft.errors import UserError

CODE = """\
def weighted(values, weights):
    total = 0
    for value, weight in zip(values, weights):
        total += value * weight
    if total > 100:
        total = total - len(values)
    return total / sum(weights)
"""


def find(*pairs: tuple[str, str, str], similarity: float = 0.7) -> list[Duplicate]:
    finder = DuplicateFinder(similarity)
    return [one for pair in pairs if (one := finder.add(Pair(*pair))) is not None]


def test_each_kind_is_found_with_what_it_repeats() -> None:
    renamed = CODE.replace("weighted", "mean").replace("total", "t").replace("    t = 0", "    # start\n    t = 0")
    edited = CODE.replace("100", "200")
    other = CODE.replace("value * weight", "value ** 2 - weight").replace("sum(weights)", "max(values)")
    found = find(
        ("a", "Write it.", CODE),
        ("b", "Write it. ", CODE + "\n"),
        ("c", "Please!", CODE),
        ("d", "Write it.", renamed),
        ("e", "Write it.", edited),
        ("f", "Write it.", other.replace("zip", "izip").replace("> 100", "< 3").replace("len", "abs")),
    )
    assert [(one.id, one.of, one.kind) for one in found] == [
        ("b", "a", "exact"),
        ("c", "a", "code"),
        ("d", "a", "code"),
        ("e", "a", "near"),
    ]
    exactly = jaccard(shingles(whole(CODE).tokens), shingles(whole(edited).tokens))
    assert found[-1].similarity == exactly
    assert 0.7 < exactly < 1


def test_short_answers_are_duplicates_only_with_their_prompt() -> None:
    assert find(("a", "get name", "return self.name\n"), ("b", "get size", "return self.name\n")) == []
    assert [one.kind for one in find(("a", "p", "return 1\n"), ("b", "p", "return 1\n"))] == ["exact"]


def test_a_duplicate_points_at_an_example_that_stays() -> None:
    edited = CODE.replace("100", "200")
    found = find(("a", "p", CODE), ("b", "p", edited), ("c", "q", edited), ("d", "p", edited))
    assert {one.of for one in found} == {"a"}
    assert [one.kind for one in found] == ["near", "near", "near"]


def test_near_duplicates_are_those_of_comparing_all_with_all() -> None:
    chance = random.Random(3)
    pairs = []
    for number in range(300):
        if pairs and chance.random() < 0.6:
            words = chance.choice(pairs).completion.split()
            for _ in range(chance.randrange(1, 6)):
                words[chance.randrange(len(words))] = f"n{chance.randrange(10**6)}"
        else:
            words = [f"w{chance.randrange(10**6)}" for _ in range(chance.randrange(40, 120))]
        pairs.append(Pair(str(number), "p", " ".join(words)))
    kept: list[tuple[str, set[int]]] = []
    expected = {}
    for pair in pairs:
        own = shingles(pair.completion.split())
        best = max(((jaccard(own, other), -number) for number, (_, other) in enumerate(kept)), default=(0.0, 0))
        if best[0] >= 0.7:
            expected[pair.id] = (kept[-best[1]][0], best[0])
        else:
            kept.append((pair.id, own))
    found = find(*((pair.id, "p", pair.completion) for pair in pairs))
    assert {one.id: (one.of, one.similarity) for one in found} == expected
    assert 60 < len(expected) < 250


@pytest.mark.parametrize("num_own", [16, 9])
def test_answers_that_share_a_template_are_not_all_compared(num_own: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of Jaccard similarity 0.43 and 0.57 with each other; every tenth is a near copy of one of the others."""
    chance = random.Random(0)
    template = [f"t{n}" for n in range(28)]
    rows: list[list[str]] = []
    for number in range(200):
        if number % 10 == 9:
            rows.append([*rows[10 * chance.randrange(number // 10 + 1)], "more"])
        else:
            rows.append(template + [f"w{chance.randrange(10**6)}" for _ in range(num_own)])
    compared = []
    monkeypatch.setattr(near, "jaccard", lambda a, b: compared.append(1) or jaccard(a, b))
    found = find(*((str(number), "p", " ".join(words)) for number, words in enumerate(rows)))
    assert [one.id for one in found] == [str(number) for number in range(9, 200, 10)]
    assert len(compared) < 2 * len(found)


def test_an_impossible_similarity_is_refused() -> None:
    with pytest.raises(ValueError, match="must be above"):
        DuplicateFinder(0.2)
    with pytest.raises(UserError, match="--similarity"):
        find_duplicates("none.jsonl", "train", 1.5, None)


def test_the_files_hold_what_was_found(tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    rows = [{"id": str(number), "prompt": "p", "completion": CODE} for number in range(3)]
    data.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    summary = find_duplicates(str(data), "train", 0.7, tmp_path / "out")
    assert summary.num_examples == 3
    assert summary.num_duplicates == {"exact": 2, "code": 0, "near": 0}
    assert collections.Counter(row.of for row in read_rows(tmp_path / "out/duplicates.jsonl", Duplicate)) == {"0": 2}


def test_empty_data_and_a_folder_that_cannot_be_made_are_refused(tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text("\n")
    with pytest.raises(UserError, match="is empty"):
        find_duplicates(str(data), "train", 0.7, None)
    with pytest.raises(UserError, match="cannot be made"):
        find_duplicates(str(data), "train", 0.7, data / "out")


def test_the_data_is_not_overwritten(tmp_path: Path) -> None:
    data = tmp_path / "duplicates.jsonl"
    data.write_text('{"prompt": "p", "completion": "c"}\n')
    with pytest.raises(UserError, match="is the data itself"):
        find_duplicates(str(data), "train", 0.7, tmp_path)
    assert data.read_text().startswith("{")
