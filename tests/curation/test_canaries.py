import ast
import json
import math
import random
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from ibft.artifacts.json_lines import read_rows, write_rows
from ibft.artifacts.rows import Conversation, Pair, Score
from ibft.artifacts.score_table import SCORES_FILE
from ibft.artifacts.score_table import write_scores as write_table
from ibft.curation.canaries import check_canaries, exposure, exposure_by_chance, plant_canaries
from ibft.curation.canary_generator import Canary, make_canaries, plant_rows, row_like
from ibft.data.fingerprint import fingerprint
from ibft.data.shapes import to_pair
from ibft.errors import UserError


def test_groups_have_their_sizes_and_texts_are_unique() -> None:
    canaries = make_canaries(20, [1, 4, 16], 0, "python")
    assert Counter(one.repeats for one in canaries) == {0: 60, 1: 20, 4: 20, 16: 20}
    assert len({one.completion for one in canaries}) == len({one.id for one in canaries}) == 120
    assert canaries == make_canaries(20, [1, 4, 16], 0, "python")
    other = {one.completion for one in make_canaries(20, [1, 4, 16], 1, "python")}
    assert not other & {one.completion for one in canaries}


def test_planted_and_held_out_are_told_apart_by_nothing_but_chance() -> None:
    canaries = make_canaries(400, [1], 0, "python")
    lengths = {group: [len(one.completion) for one in canaries if one.repeats == group] for group in (0, 1)}
    below = sum((a < b) + (a == b) / 2 for a in lengths[1] for b in lengths[0]) / 400**2
    assert abs(below - 0.5) < 3 * math.sqrt(1 / (6 * 400))  # three standard errors of the AUROC
    order = [one.repeats for one in canaries]
    assert 60 < sum(order[:200]) < 140


def test_python_canaries_are_functions_that_run() -> None:
    for canary in make_canaries(30, [1], 5, "python"):
        program = canary.prompt + canary.completion
        [function] = ast.parse(program).body
        assert isinstance(function, ast.FunctionDef)
        namespace: dict[str, object] = {}
        exec(program, namespace)
        assert isinstance(namespace[function.name](3, 8), int)  # type: ignore[operator]


@pytest.mark.verilog
def test_verilog_canaries_compile(tmp_path: Path) -> None:
    if shutil.which("iverilog") is None:
        pytest.skip("Icarus Verilog is not installed")
    for number, canary in enumerate(make_canaries(5, [1], 0, "verilog")):
        path = tmp_path / f"{number}.v"
        path.write_text(canary.prompt + canary.completion)
        subprocess.run(["iverilog", "-g2012", "-Wall", "-t", "null", path], check=True)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "a", "completion": "b"},
        {"id": 7, "instruction": "a", "input": "", "output": "b"},
        {"instruction": "a", "response": "b"},
        {"Instruction": "a", "Response": "b"},
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
        {"prompt": [{"role": "user", "content": "a"}], "completion": [{"role": "assistant", "content": "b"}]},
        {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}], "id": "x"},
        {"question": "a", "answer": "b"},
    ],
)
def test_a_planted_row_has_the_shape_of_the_data(row: dict[str, object]) -> None:
    canary = Canary("canary-1", 1, "def f():\n", "    return 7\n")
    planted = row_like(row, canary)
    assert set(planted) <= set(row)
    assert {key: type(value) for key, value in planted.items() if key != "id"}.items() <= {
        key: type(value) for key, value in row.items()
    }.items()
    pair = to_pair(planted, "here")
    assert pair.completion == canary.completion
    asked = pair.prompt[0].content if isinstance(pair, Conversation) else pair.prompt
    assert asked == canary.prompt


def test_a_row_of_text_is_planted_as_text() -> None:
    assert row_like({"text": "x"}, Canary("canary-1", 1, "def f():\n", "    return 7\n")) == {
        "text": "def f():\n    return 7\n"
    }


def test_planting_keeps_every_row_in_order_and_scatters_the_others() -> None:
    rows = list(range(1000))
    planted = [f"p{number}" for number in range(200)]
    mixed = list(plant_rows(iter(rows), 1000, planted, seed=1))
    assert [row for row in mixed if isinstance(row, int)] == rows
    assert sorted(row for row in mixed if isinstance(row, str)) == sorted(planted)
    places = [place for place, row in enumerate(mixed) if isinstance(row, str)]
    assert 500 < sum(places) / len(places) < 700
    assert [row for row in mixed if isinstance(row, str)] != planted
    assert list(plant_rows(iter([]), 0, ["a", "b"], seed=0)) != []


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"p{n}", "completion": f"c{n}", "n": n}) + "\n" for n in range(50)))
    return path


def plant(data: Path, **options: object) -> Path:
    arguments: dict[str, object] = {"count": 6, "repeats": [1, 4], "seed": 0, "language": "python"} | options
    plant_canaries(str(data), "train", data.parent / "out/train.jsonl", **arguments)  # type: ignore[arg-type]
    return data.parent / "out"


def test_planted_data_holds_each_canary_as_often_as_the_list_says(data: Path) -> None:
    folder = plant(data)
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    assert [row["n"] for row in rows if "n" in row] == list(range(50))
    counts = Counter(row["completion"] for row in rows)
    canaries = list(read_rows(folder / "canaries.jsonl", Canary))
    assert {one.completion: counts[one.completion] for one in canaries} == {
        one.completion: one.repeats for one in canaries
    }
    planted = list(read_rows(folder / "canaries_planted.jsonl", Canary))
    held_out = list(read_rows(folder / "canaries_held_out.jsonl", Canary))
    assert sorted(planted + held_out, key=lambda one: one.id) == canaries
    assert all(one.repeats for one in planted)
    assert not any(one.repeats for one in held_out)


def test_copies_have_ids_of_their_own_where_rows_have_ids(data: Path) -> None:
    data.write_text("".join(json.dumps({"id": n, "prompt": "p", "completion": "c"}) + "\n" for n in range(5)))
    rows = [json.loads(line) for line in (plant(data) / "train.jsonl").read_text().splitlines()]
    assert len({row["id"] for row in rows}) == len(rows) == 5 + 6 + 24


def test_the_truth_is_never_overwritten(data: Path) -> None:
    folder = plant(data)
    before = (folder / "canaries.jsonl").read_bytes()
    with pytest.raises(UserError, match="exists already"):
        plant(data, seed=1)
    assert (folder / "canaries.jsonl").read_bytes() == before


def test_the_data_is_not_overwritten(data: Path) -> None:
    before = data.read_bytes()
    for name in ("data.jsonl", "canaries_planted.jsonl"):
        source = data.rename(data.with_name(name))
        out = source.with_name("data.jsonl")
        with pytest.raises(UserError, match="is the data itself"):
            plant_canaries(str(source), "train", out, count=2, repeats=[1], seed=0, language="python")
        assert source.read_bytes() == before
        data = source


def test_a_folder_that_cannot_be_made_is_said(data: Path) -> None:
    with pytest.raises(UserError, match="cannot be made"):
        plant_canaries(str(data), "train", data / "x.jsonl", count=2, repeats=[1], seed=0, language="python")


@pytest.mark.parametrize("options", [{"count": 0}, {"repeats": []}, {"repeats": [0, 1]}, {"repeats": [2, 2]}])
def test_impossible_counts_are_refused(data: Path, options: dict[str, object]) -> None:
    with pytest.raises(UserError, match="--count"):
        plant(data, **options)


def test_exposure_by_its_definition() -> None:
    held_out = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    assert exposure(0.5, held_out) == 3  # first of eight
    assert exposure(7.5, held_out) == 0  # last of eight
    assert exposure(3.5, held_out) == 1  # fourth
    assert exposure(1.0, held_out) == pytest.approx(3 - math.log2(1.5))  # shares the first two ranks
    by_rank = [math.log2(8) - math.log2(rank) for rank in range(1, 9)]
    assert exposure_by_chance(7) == pytest.approx(sum(by_rank) / 8)
    assert exposure_by_chance(10_000) == pytest.approx(math.log2(math.e), abs=0.01)


def write_scores(path: Path, canaries: list[Canary], shift: dict[int, float]) -> None:
    """By mean NLL, canaries of some numbers of repetitions are remembered; by Min-K%++ all; by Min-K% Prob none."""
    chance = random.Random(0)
    rows = [
        Score(
            id=one.id,
            subset="train" if one.repeats else "control",
            index=place,
            num_tokens=9,
            fingerprint=fingerprint(Pair(one.id, one.prompt, one.completion)),
            scores={
                "mean_nll": chance.gauss(5 - shift.get(one.repeats, 0), 1),
                "min_k_prob_20": chance.gauss(5, 1),
                "min_k_plus_plus_20": chance.random() - (one.repeats > 0),
            },
        )
        for place, one in enumerate(canaries)
    ]
    write_table(path, [rows], ["mean_nll", "min_k_prob_20", "min_k_plus_plus_20"], "min_k_prob_20")


def test_what_was_memorized_is_seen_and_what_was_not_is_not(tmp_path: Path) -> None:
    canaries = make_canaries(40, [1, 4, 16], 0, "python")
    write_rows(tmp_path / "canaries.jsonl", canaries)
    write_scores(tmp_path / SCORES_FILE, canaries, {4: 1.0, 16: 50.0})
    found = check_canaries(tmp_path / "canaries.jsonl", [tmp_path])
    once, four, sixteen = found.remembered
    assert [one.repeats for one in found.remembered] == [1, 4, 16]
    assert once.ci95.low < 0.5 < once.ci95.high
    assert once.mean_exposure == pytest.approx(found.exposure_by_chance, abs=0.6)
    assert 0.5 < four.ci95.low < four.auroc < four.ci95.high < 1
    assert four.auroc == pytest.approx(0.76, abs=0.1)  # Phi(1 / sqrt 2)
    assert (sixteen.auroc, sixteen.num_extreme) == (1, 40)
    assert sixteen.mean_exposure == found.exposure_at_most == math.log2(121)
    assert found.num_held_out == 120
    for by in ("min_k", "min_k_prob_20"):
        other = check_canaries(tmp_path / "canaries.jsonl", [tmp_path / SCORES_FILE], by=by)
        assert all(one.ci95.low < 0.5 < one.ci95.high for one in other.remembered)
    for by in ("min_k_plus_plus", "min_k_plus_plus_20"):
        other = check_canaries(tmp_path / "canaries.jsonl", [tmp_path / SCORES_FILE], by=by)
        assert [one.auroc for one in other.remembered] == [1, 1, 1]
    with pytest.raises(UserError, match=r"has no score 'zlib'\. It has mean_nll, min_k_prob_20, min_k_plus_plus_20"):
        check_canaries(tmp_path / "canaries.jsonl", [tmp_path], by="zlib")


def test_scores_that_are_missing_are_counted_or_refused(tmp_path: Path) -> None:
    canaries = make_canaries(3, [1, 2], 0, "python")
    write_rows(tmp_path / "canaries.jsonl", canaries)
    write_scores(
        tmp_path / "some.parquet",
        [one for one in canaries if one.repeats][:5] + [o for o in canaries if not o.repeats],
        {},
    )
    assert check_canaries(tmp_path / "canaries.jsonl", [tmp_path / "some.parquet"]).num_unscored == 1
    write_scores(tmp_path / "planted.parquet", [one for one in canaries if one.repeats], {})
    with pytest.raises(UserError, match="held out have a score"):
        check_canaries(tmp_path / "canaries.jsonl", [tmp_path / "planted.parquet"])


@pytest.mark.parametrize(("count", "repeats", "seed"), [(3, [1, 2], 1), (4, [1, 2], 0), (3, [2, 1], 0)])
def test_a_scan_of_other_canaries_is_refused(tmp_path: Path, count: int, repeats: list[int], seed: int) -> None:
    own = make_canaries(3, [1, 2], 0, "python")
    write_rows(tmp_path / "canaries.jsonl", own)
    others = make_canaries(count, repeats, seed, "python")
    assert not {one.id for one in own} & {one.id for one in others}
    write_scores(tmp_path / "others.parquet", others, {})
    with pytest.raises(UserError, match=f"{len(others)} of {len(others)} scored examples are not among the canaries"):
        check_canaries(tmp_path / "canaries.jsonl", [tmp_path / "others.parquet"])


def test_other_canaries_under_the_same_ids_are_refused(tmp_path: Path) -> None:
    own, others = make_canaries(3, [1, 2], 0, "python"), make_canaries(3, [1, 2], 1, "python")
    write_rows(tmp_path / "canaries.jsonl", own)
    renamed = [msgspec.structs.replace(other, id=one.id) for one, other in zip(own[1:], others[1:], strict=True)]
    write_scores(tmp_path / "others.parquet", [own[0], *renamed], {})
    with pytest.raises(UserError, match="11 of 12 scored examples are not among the canaries"):
        check_canaries(tmp_path / "canaries.jsonl", [tmp_path / "others.parquet"])


@pytest.mark.slow
def test_planted_canaries_of_a_trained_model_are_found_through_the_scan(tiny_model_folder: Path, data: Path) -> None:
    """Plant, train, scan, check: the road of docs/audit.md, on a tiny model."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from ibft.run.folder import RunFolder
    from ibft.run.recipe import Recipe
    from ibft.run.sections import DataConfig, ModelConfig
    from ibft.stages.scan import scan

    folder = plant(data, count=4, repeats=[1, 8])
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
    model = AutoModelForCausalLM.from_pretrained(tiny_model_folder)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    rows = [msgspec.json.decode(line) for line in (folder / "train.jsonl").read_bytes().splitlines()]
    texts = [row["prompt"] + row["completion"] + tokenizer.eos_token for row in rows]
    torch.manual_seed(0)
    for _ in range(3):
        for start in range(0, len(texts), 8):
            batch = tokenizer(texts[start : start + 8], return_tensors="pt", padding=True)
            labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
            model(**batch, labels=labels).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    trained = data.parent / "trained"
    model.save_pretrained(trained)
    tokenizer.save_pretrained(trained)
    recipe = Recipe(
        name="canaries",
        output=str(data.parent / "runs"),
        model=ModelConfig(name=str(trained), dtype="float32", device="cpu"),
        data=DataConfig(
            train=str(folder / "canaries_planted.jsonl"),
            control=str(folder / "canaries_held_out.jsonl"),
            max_tokens=512,
        ),
    )
    with RunFolder(recipe).open() as run:
        scan(recipe, run)
    found = check_canaries(folder / "canaries.jsonl", [data.parent / "runs/canaries"])
    assert found.num_unscored == 0
    assert found.remembered[1].auroc > 0.9
    assert found.remembered[1].mean_exposure > found.exposure_by_chance
