"""The registry: what is made from it, and what is added to it with one file or by another package."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from msgspec.structs import fields

import ibft
from ibft.artifacts.json_lines import read_rows
from ibft.artifacts.rows import TrainingLog
from ibft.objectives.base import Objective
from ibft.objectives.bottleneck.forms import FORMS
from ibft.objectives.registry import OBJECTIVES

PACKAGE = Path(ibft.__file__).parent
DOCS = PACKAGE.parents[1] / "docs" / "training.md"

OBJECTIVE = '''
from ibft.objectives.base import Objective


class {name}Objective(Objective, frozen=True, tag_field="name", tag="{tag}"):
    """A multiple of the cross-entropy, held near the base model."""

    formula = "factor * -log p(y) + KL(p_base, p)"
    source = "a test"
    needs = ("logits", "base_logits")

    arm: str = "{tag}"
    factor: float = 2.0

    def loss(self, tokens):
        return self.factor * tokens.cross_entropy_n + tokens.kl_from_base_n

    def sums(self, loss_N, cross_entropy_N):
        return {{"{tag}/kl": (loss_N - self.factor * cross_entropy_N).sum()}}
'''

FORM = '''
from ibft.objectives.bottleneck.forms.corrected import Corrected
from ibft.objectives.bottleneck.losses import kl_to_standard_normal, rms_normalize
from ibft.objectives.bottleneck.terms import variational_terms


class Worst(Corrected):
    """The KL of the worst token, as if it were everyone's."""

    name = "worst"
    reads, compresses, differs = "as `corrected`", "the largest of the N tokens", "a test"
    overload_remedy = closed_remedy = weak_remedy = "another form"

    def terms(self, layer):
        posterior = layer.head.encode(rms_normalize(layer.hidden_NH))
        kl_ND = kl_to_standard_normal(*posterior)
        worst = len(kl_ND) * kl_ND.sum(dim=1).amax()
        return variational_terms(layer, posterior, kl_ND, worst, self.settings.predict_tokens)
'''


def defaults(kind: type[Objective]) -> str:
    """The settings and their defaults; where there are too many for a row, the section that has them."""
    numbers = {field.name: field.default for field in fields(kind) if isinstance(field.default, float | int)}
    return ", ".join(f"`{name}: {value:g}`" for name, value in numbers.items()) if len(numbers) <= 3 else "see above"


def test_the_docs_tables_are_the_registries() -> None:
    objectives = ["| objective | loss of a response token | settings | source | cost |", "|---|---|---|---|---|"]
    for name, kind in OBJECTIVES.items():
        objectives.append(f"| `{name}` | {kind.formula} | {defaults(kind)} | {kind.source} | {kind.cost} |")
    forms = ["| `form` | what h is | KL | what is different |", "|---|---|---|---|"]
    forms += [f"| `{name}` | {form.reads} | {form.compresses} | {form.differs} |" for name, form in FORMS.items()]
    text = DOCS.read_text()
    assert "\n".join(objectives) in text
    assert "\n".join(forms) in text


def test_the_starter_recipe_lists_them_all() -> None:
    text = " ".join((PACKAGE / "starter.yaml").read_text().replace("#", " ").split())
    assert f"A word, a mapping, or a list of these: {', '.join(OBJECTIVES)} (docs/training.md)." in text
    *names, last = FORMS
    assert f"form: {', '.join(names)} or {last}." in text


def test_every_objective_has_a_row_and_makes_its_own_loss() -> None:
    assert list(OBJECTIVES) == ["ft", "ib", "dft", "ft_kl", "asft", "eaft", "gem", "stm", "neftune"]
    for name, kind in OBJECTIVES.items():
        assert (kind().name, kind().arm) == (name, name)
        assert kind().is_cross_entropy == (name in ("ft", "ib", "neftune"))
        assert kind().is_plain == (name in ("ft", "neftune"))
        assert kind().needs_base == (name in ("ft_kl", "asft", "stm"))


def run(arguments: list[str], *path: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, path)), "OMP_NUM_THREADS": "1", "CI": "1"}
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=300)


def write_recipe(folder: Path, model: Path, objectives: list[dict[str, Any]]) -> Path:
    rows = [{"id": f"f{i}", "prompt": f"def f{i}(a):\n", "completion": f"    return a + {i}\n"} for i in range(8)]
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = {
        "name": "run",
        "output": str(folder),
        "model": {"name": str(model), "dtype": "float32", "device": "cpu"},
        "data": {"train": str(folder / "data.jsonl")},
        "objective": objectives,
        "train": {"max_steps": 3, "batch_size": 4, "learning_rate": 1e-2, "log_every": 1, "lora": {"rank": 4}},
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def log_of(folder: Path, arm: str) -> list[dict[str, Any]]:
    return [row.metrics for row in read_rows(folder / "run" / "train" / arm / "log.jsonl", TrainingLog)]


def check_log(log: list[dict[str, Any]], tag: str, factor: float) -> None:
    assert len(log) == 3
    for row in log:
        assert row["loss"] == pytest.approx(factor * row["ce"] + row[f"{tag}/kl"], rel=1e-4)
    assert abs(log[0][f"{tag}/kl"]) < 1e-4  # at first the model is the base
    assert log[2][f"{tag}/kl"] > 1e-3


def install(folder: Path, name: str, module: str) -> Path:
    """A package as pip leaves it: its code, and a dist-info with the entry point."""
    metadata = folder / f"{name}_package-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-package\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[ibft.objectives]\n{name} = {name}_package:MineObjective\n")
    (folder / f"{name}_package.py").write_text(module)
    return folder


@pytest.mark.slow
def test_another_package_adds_an_objective(tmp_path: Path, tiny_model_folder: Path) -> None:
    other = install(tmp_path / "site", "mine", OBJECTIVE.format(name="Mine", tag="mine"))
    recipe = write_recipe(tmp_path, tiny_model_folder, [{"name": "mine", "factor": 3.0}])
    done = run(["-m", "ibft.cli", "train", str(recipe)], PACKAGE.parent, other)
    assert done.returncode == 0, done.stderr
    check_log(log_of(tmp_path, "mine"), "mine", 3.0)
    assert json.loads((tmp_path / "run" / "train" / "mine" / "summary.json").read_text())["objective"] == "mine"
    card = (tmp_path / "run" / "train" / "mine" / "adapter" / "README.md").read_text()
    assert "`mine`: A multiple of the cross-entropy, held near the base model." in card
    assert "| `factor` | 3 |" in card
    # Its settings are checked as any other's, and without it the recipe is refused.
    done = run(["-m", "ibft.cli", "train", str(recipe), "--set", "objective.0.factr=1"], PACKAGE.parent, other)
    assert "unknown key objective.0.factr. Did you mean factor?" in " ".join(done.stderr.split())
    done = run(["-m", "ibft.cli", "train", str(recipe)], PACKAGE.parent)
    assert "objective.0.name is 'mine'" in " ".join(done.stderr.split())


MINE = OBJECTIVE.format(name="Mine", tag="mine")


@pytest.mark.parametrize(
    ("name", "module", "why"),
    [
        ("broken", "raise OSError('no such library')", "no such library"),
        ("other", MINE, "needs tag_field='name' and tag='other'"),
        ("gem", OBJECTIVE.format(name="Mine", tag="gem"), "there is one of that name already"),
        ("plain", "class MineObjective: pass", "is not a subclass of ibft.objectives.base.Objective"),
        ("mine", MINE.replace('tag_field="name"', 'tag_field="kind"'), "needs tag_field='name' and tag='mine'"),
        ("mine", MINE.replace("factor: float", "factor: complex | float"), "complex"),
        ("mine", "from __future__ import annotations\n" + MINE.replace("factor: float", "factor: Number"), "Number"),
        ("mine", MINE.replace('    arm: str = "mine"\n', ""), "needs a default for arm"),
    ],
)
def test_a_package_that_cannot_be_loaded_stops_nothing_else(tmp_path: Path, name: str, module: str, why: str) -> None:
    other = install(tmp_path, name, module)
    recipe = write_recipe(tmp_path, Path("model"), [{"name": "ft"}, {"name": "dft"}])
    program = (
        "import sys; from pathlib import Path; from ibft.objectives.registry import OBJECTIVES; "
        "from ibft.run.recipe import load_recipe; "
        "print(*OBJECTIVES, *load_recipe(Path(sys.argv[1])).arms)"
    )
    done = run(["-c", program, str(recipe)], PACKAGE.parent, other)
    assert done.stdout.split() == [*OBJECTIVES, "base", "ft", "dft"], done.stderr
    assert f"The objective {name} cannot be loaded: " in done.stderr
    assert why in done.stderr


@pytest.mark.slow
def test_an_objective_is_one_file_and_a_form_is_one_file(tmp_path: Path, tiny_model_folder: Path) -> None:
    """In a copy of this package, to which nothing but the two files is added."""
    copy = tmp_path / "copy" / "ibft"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "objectives" / "added.py").write_text(OBJECTIVE.format(name="Added", tag="added"))
    (copy / "objectives" / "bottleneck" / "forms" / "worst.py").write_text(FORM)
    worst = {"name": "ib", "form": "worst", "layer": 2, "bottleneck_dim": 16, "alpha": 0.5, "warmup": 0.0}
    recipe = write_recipe(tmp_path, tiny_model_folder, [{"name": "added"}, worst])
    done = run(["-m", "ibft.cli", "train", str(recipe)], copy.parent)
    assert done.returncode == 0, done.stderr
    check_log(log_of(tmp_path, "added"), "added", 2.0)
    for row in log_of(tmp_path, "ib"):
        assert row["loss"] == pytest.approx(row["ce"] + 0.5 * (row["ib/kl"] + 0.01 * row["ib/ce"]), rel=1e-4)
        assert row["ib/kl"] > row["ib/kl_per_token"]  # the worst token's, not the mean
    done = run(["-m", "ibft.cli", "train", str(recipe), "--set", "objective.1.kl_target=3"], copy.parent)
    assert "kl_target has no effect with form: worst" in " ".join(done.stderr.split())
