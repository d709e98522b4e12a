"""`ibft scale`: the merged weights lie on the line between base and fine-tuned model, or it refuses."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from peft import PeftModel
from transformers import AutoModelForCausalLM

from ibft.cli import main
from ibft.errors import UserError
from ibft.models.scale import scale_adapter

Weights = dict[str, torch.Tensor]


@pytest.fixture
def base(tiny_model_folder: Path) -> Weights:
    return AutoModelForCausalLM.from_pretrained(tiny_model_folder, dtype=torch.float32).state_dict()


def merged(base_folder: Path, adapter: Path) -> Weights:
    model = AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.float32)
    return PeftModel.from_pretrained(model, str(adapter)).merge_and_unload().state_dict()


@pytest.mark.parametrize("factor", [0.0, 0.3, 0.5, 1.0, 1.7])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"use_rslora": True},
        {"alpha_pattern": {"q_proj": 3, "layers.1.mlp.up_proj": 20}, "rank_pattern": {"q_proj": 2}},
    ],
    ids=["plain", "rslora", "patterns"],
)
def test_weights_are_interpolated(
    tiny_model_folder: Path,
    make_adapter: Callable[..., Path],
    base: Weights,
    tmp_path: Path,
    settings: dict[str, Any],
    factor: float,
) -> None:
    adapter = make_adapter(**settings)
    scale_adapter(adapter, factor, tmp_path / "scaled")
    tuned, scaled = (merged(tiny_model_folder, folder) for folder in (adapter, tmp_path / "scaled"))
    assert sum(not torch.equal(tuned[name], base[name]) for name in base) == 8  # what the adapter is on, no more
    for name, weight in base.items():
        expected = weight + factor * (tuned[name] - weight)
        torch.testing.assert_close(scaled[name], expected, rtol=0, atol=1e-6, msg=name)
        if factor in (0, 1):
            assert torch.equal(scaled[name], tuned[name] if factor else weight), name


def test_one_changes_no_setting_and_never_the_weights(make_adapter: Callable[..., Path], tmp_path: Path) -> None:
    adapter = make_adapter()
    for factor in (1.0, 0.5):
        scale_adapter(adapter, factor, tmp_path / str(factor))
        weights = [folder / "adapter_model.safetensors" for folder in (adapter, tmp_path / str(factor))]
        assert weights[0].read_bytes() == weights[1].read_bytes()
    before, same, half = (
        json.loads((folder / "adapter_config.json").read_text())
        for folder in (adapter, tmp_path / "1.0", tmp_path / "0.5")
    )
    assert same == before
    assert half == before | {"lora_alpha": 4}
    assert isinstance(half["lora_alpha"], int)


def test_the_card_says_so_below_its_title(make_adapter: Callable[..., Path], tmp_path: Path) -> None:
    adapter = make_adapter()
    (adapter / "README.md").write_text("---\n# a comment\nlibrary_name: peft\n---\n\n# Mine\n\nText.\n")
    scale_adapter(adapter, 0.25, tmp_path / "scaled")
    card = (tmp_path / "scaled" / "README.md").read_text()
    assert card.startswith("---\n# a comment\nlibrary_name: peft\n---\n\n# Mine\n\n> Scaled after training")
    assert "base + 0.25 ×" in card
    assert card.endswith("\nText.\n")


def test_what_only_a_trainer_reads_is_left_out(make_adapter: Callable[..., Path], tmp_path: Path) -> None:
    adapter = make_adapter()
    (adapter / "optimizer.pt").write_bytes(b"0" * 100)
    (adapter / "checkpoint-3").mkdir()
    scale_adapter(adapter, 0.25, tmp_path / "scaled")
    names = sorted(path.name for path in (tmp_path / "scaled").iterdir())
    assert names == ["README.md", "adapter_config.json", "adapter_model.safetensors"]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("factor", [-0.1, math.nan, math.inf])
def test_a_factor_that_is_no_factor(make_adapter: Callable[..., Path], tmp_path: Path, factor: float) -> None:
    with pytest.raises(UserError, match=r"--lambda .*: give a finite number from 0"):
        scale_adapter(make_adapter(), factor, tmp_path / "scaled")


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"use_dora": True}, "use_dora is True"),
        ({"bias": "lora_only"}, "bias is lora_only"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save is"),
        ({"trainable_token_indices": [1, 2]}, "trainable_token_indices is"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights is pissa"),
    ],
)
def test_what_lora_alpha_does_not_scale_is_refused(
    make_adapter: Callable[..., Path], tmp_path: Path, settings: dict[str, Any], named: str
) -> None:
    adapter = make_adapter(**settings)
    with pytest.raises(UserError, match=named):
        scale_adapter(adapter, 0.5, tmp_path / "scaled")
    assert not (tmp_path / "scaled").exists()


def test_other_weights_in_the_file_are_refused(make_adapter: Callable[..., Path], tmp_path: Path) -> None:
    """PEFT saves embeddings that were resized, and no setting of its own says so."""
    from safetensors.torch import load_file, save_file

    path = make_adapter() / "adapter_model.safetensors"
    save_file(load_file(path) | {"base_model.model.model.embed_tokens.weight": torch.zeros(3, 3)}, path)
    with pytest.raises(UserError, match=r"embed_tokens\.weight is not part of a LoRA's product"):
        scale_adapter(path.parent, 0.5, tmp_path / "scaled")


def test_what_is_no_lora_is_refused(make_adapter: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"adapter_config\.json: cannot be read"):
        scale_adapter(tmp_path / "nothing", 0.5, tmp_path / "scaled")
    adapter = make_adapter()
    (adapter / "adapter_config.json").write_text('{"peft_type": "IA3"}')
    with pytest.raises(UserError, match="peft_type is IA3: only a LoRA"):
        scale_adapter(adapter, 0.5, tmp_path / "scaled")
    (adapter / "adapter_config.json").write_text('{"peft_type": "LORA", "lora_alpha": 8}')
    (adapter / "adapter_model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0oh no")
    with pytest.raises(UserError, match="not a safetensors file"):
        scale_adapter(adapter, 0.5, tmp_path / "scaled")
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(UserError, match="Save the adapter as safetensors"):
        scale_adapter(adapter, 0.5, tmp_path / "scaled")


def test_on_the_command_line(make_adapter: Callable[..., Path], tmp_path: Path) -> None:
    arguments = ["scale", str(make_adapter()), "--lambda", "0.5", "--out", str(tmp_path / "new" / "scaled")]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    assert "update times 0.5" in done.output
    again = CliRunner().invoke(main, arguments)
    assert again.exit_code == 2
    assert "exists already" in again.output
