import re
from pathlib import Path

import msgspec
import pytest
import yaml

from ibft.errors import UserError
from ibft.objectives.ib import IBObjective
from ibft.run.recipe import dump_recipe, load_recipe

RECIPES = Path(__file__).parents[2] / "recipes"
STARTER = Path(__file__).parents[2] / "src" / "ibft" / "starter.yaml"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "path",
    [*(path for path in RECIPES.rglob("*.yaml") if path.parent.name != "accelerate"), STARTER],
    ids=lambda path: path.name,
)
def test_every_shipped_recipe_loads(path: Path) -> None:
    assert load_recipe(path).arms[0] == "base"


@pytest.mark.parametrize(
    "folder", sorted({path.parent for path in RECIPES.rglob("ib.yaml")}), ids=lambda path: path.name
)
def test_paired_recipes_differ_only_in_their_objective(folder: Path) -> None:
    ft, ib = (yaml.safe_load((folder / f"{name}.yaml").read_text()) for name in ("ft", "ib"))
    assert ft.pop("objective") != ib.pop("objective")
    assert ft.pop("name") != ib.pop("name")
    assert ft == ib


def test_a_word_a_mapping_and_a_list_make_arms(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, "name: a\nobjective: [ft, {name: ib, alpha: 0.3}, {name: ib, arm: ib2}]"))
    assert recipe.arms == ("base", "ft", "ib", "ib2")
    assert recipe.objective[1] == IBObjective(alpha=0.3)
    assert load_recipe(write(tmp_path, "name: a\nobjective: ib")).arms == ("base", "ib")


def test_every_score_of_the_scan_can_be_the_headline(tmp_path: Path) -> None:
    text = "name: a\nscan: {{score: {}, k_percent: [2.5, 20], reference: {{name: b}}}}"
    names = load_recipe(write(tmp_path, text.format("mean_nll"))).scan.score_names
    assert names == (
        "mean_nll",
        "zlib_ratio",
        "reference_ratio",
        "min_k_prob_2.5",
        "min_k_prob_20",
        "min_k_plus_plus_2.5",
        "min_k_plus_plus_20",
    )
    for name in names:
        assert load_recipe(write(tmp_path, text.format(name))).scan.score == name


def test_numbers_without_a_dot_are_numbers(tmp_path: Path) -> None:
    # YAML 1.1 reads 2e-4 as a string, which has cost many a user an hour.
    assert load_recipe(write(tmp_path, "name: a\ntrain: {learning_rate: 2e-4}")).train.learning_rate == 2e-4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: a\nobjectiv: ft", "unknown key objectiv. Did you mean objective?"),
        ("name: a\ntrain: {lora: {ranc: 3}}", "unknown key train.lora.ranc. Did you mean rank?"),
        ("name: a\nobjective: {name: ib, alhpa: 1}", "unknown key objective.0.alhpa. Did you mean alpha?"),
        ("name: a\nobjective: ftt", "objective.0.name is 'ftt'. Did you mean ft?"),
        ("name: a\nscan: {score: min_k_prob_25}", "scan.score is 'min_k_prob_25'. Did you mean min_k_prob_"),
        ("name: a\nscan: {score: min_k_prob_20_free}", "'min_k_prob_20_free'. Did you mean min_k_prob_20?"),
        ("name: a\nscan: {score: mean_nl}", "scan.score is 'mean_nl'. Did you mean mean_nll?"),
        ("name: a\nscan: {score: reference_ratio}", "scan.score is 'reference_ratio'."),
        ("name: a\nscan: {k_percent: [10]}", "scan.score is 'min_k_prob_20'. Did you mean min_k_prob_10?"),
        ("name: a\nscan: {k_percent: [0]}", "scan.k_percent"),
        ("name: a\nscan: {k_percent: [20, 10, 20.0]}", "scan.k_percent has 20 twice"),
        ("name: a\nscan: {region: prompt}", "scan.region is 'prompt'"),
        ("name: a\ndata: {control: c.jsonl, control_after: summer}", "data.control_after is 'summer'"),
        ("name: a\ndata: {control_after: 2025-01-31}", "data.control_after is 2025-01-31, and data.control is null"),
        ("name: a\ntrain: {batch_size: 0}", "train.batch_size is 0: Expected `int` >= 1"),
        ("name: a\ntrain: {learning_rate: fast}", "train.learning_rate is 'fast'"),
        ("name: a\ntrain: 3", "train is 3: expected a mapping"),
        ("name: a\ndata: {train: [b.jsonl, 3]}", "data.train"),
        ("name: a\ndata: {train: []}", "data.train is empty"),
        ("name: a\ndata: {train: [{source: b.jsonl, share: 0.5}, c.jsonl]}", "some sources have a share and some have"),
        ("name: a\ndata: {train: [{source: b.jsonl, share: 0}]}", "share"),
        ("name: a\ndata: {columns: {prompt: q}}", "data.columns has prompt: give prompt and completion"),
        ("name: a\ndata: {columns: {question: q, completion: a}}", "data.columns"),
        ("name: a\ndata: {train_on: first}", "data.train_on is 'first'"),
        ("name: a\ndata: {on_bad_row: warn}", "data.on_bad_row is 'warn'"),
        ("name: a\nobjective: [ft, ft]", "arm name 'ft' occurs twice"),
        ("name: a\nobjective: {name: ft, arm: base}", "arm name 'base' occurs twice"),
        ("name: ../a", "names the run folder"),
        ("[1", "not valid YAML"),
        ("- 1", "a recipe is a mapping"),
    ],
)
def test_mistakes_are_named_in_one_sentence(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(UserError) as caught:
        load_recipe(write(tmp_path, text))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="ibft init"):
        load_recipe(tmp_path / "none.yaml")


def test_overrides_reach_nested_keys_and_list_items(tmp_path: Path) -> None:
    path = write(tmp_path, "name: a\nobjective: [ft, ib]")
    recipe = load_recipe(path, ["train.lora.rank=4", "objective.1.alpha=0.7", "report.k=[1, 2]"])
    assert recipe.train.lora.rank == 4
    assert recipe.objective[1] == IBObjective(alpha=0.7)
    assert recipe.report.k == (1, 2)


@pytest.mark.parametrize("override", ["train.learning_rate", "=3", "name.x=3", "objective.9.alpha=1", "train.lr=1"])
def test_bad_overrides_are_refused(tmp_path: Path, override: str) -> None:
    with pytest.raises(UserError):
        load_recipe(write(tmp_path, "name: a\nobjective: [ft]"), [override])


def test_gpu_section_and_full_change_only_what_they_name(tmp_path: Path) -> None:
    path = write(tmp_path, "name: a\nproblems: {limit: 4}\ntrain: {batch_size: 2}\ngpu: {train: {max_steps: 9}}")
    plain, gpu, full = load_recipe(path), load_recipe(path, use_gpu_overrides=True), load_recipe(path, full=True)
    assert (plain.train.max_steps, plain.problems.limit) == (None, 4)
    assert (gpu.train.max_steps, gpu.train.batch_size, gpu.problems.limit) == (9, 2, 4)
    assert (full.train.max_steps, full.problems.limit) == (None, None)


def test_a_dumped_recipe_reads_back_the_same(tmp_path: Path) -> None:
    recipe = load_recipe(RECIPES / "python" / "ib.yaml", ["seed=3"])
    again = load_recipe(write(tmp_path, dump_recipe(recipe)))
    assert again == recipe
    # To the letter, too: a stage's identity is a hash of its JSON, where 20 and 20.0 differ.
    assert msgspec.json.encode(again) == msgspec.json.encode(recipe)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("objective={name: ib, form: contolled}", "objective.0.form is 'contolled'. Did you mean controlled?"),
        ("train.batching=foo", "train.batching is 'foo'. Known: auto, padded, sorted, packed"),
    ],
)
def test_unknown_words_are_refused_with_the_known_ones(tmp_path: Path, override: str, message: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("name: x\n")
    with pytest.raises(UserError, match=re.escape(message)):
        load_recipe(path, [override])
