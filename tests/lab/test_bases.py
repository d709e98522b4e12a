"""Bases: the same bytes each time, kept by what they are made from, loaded by transformers."""

import json
from pathlib import Path

import msgspec
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from ibft.errors import UserError
from ibft.lab.bases import base_folder, copy_base
from ibft.lab.pretrain import SIZES, PretrainConfig, new_model
from ibft.lab.tokenizer import make_tokenizer
from ibft.worlds.library import make_library
from ibft.worlds.planted import PlantedConfig
from ibft.worlds.plants import Plant

QUICK = PretrainConfig(general_steps=3, planted_steps=3, batch_size=8)


def world(seed: int = 0, **settings: object) -> PlantedConfig:
    plant = Plant(repetitions=2)
    return PlantedConfig(**{"seed": seed, "num_train": 8, "num_dev": 2, "num_test": 2, "plant": plant, **settings})


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("IBFT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "bases"


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def test_the_same_settings_give_the_same_bytes(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = base_folder(world(), QUICK)
    assert first.parent == cache
    monkeypatch.setenv("IBFT_CACHE", str(tmp_path / "other"))
    torch.manual_seed(1234)  # of somebody else
    second = base_folder(world(), QUICK)
    assert second.name == first.name
    for file in first.iterdir():
        assert file.read_bytes() == (second / file.name).read_bytes()


def test_each_setting_makes_another_base() -> None:
    one = weights(base_folder(world(), QUICK))
    for other in (
        base_folder(world(seed=1), QUICK),
        base_folder(world(library_seed=1), QUICK),
        base_folder(world(plant=Plant(repetitions=1)), QUICK),
        base_folder(world(), msgspec.structs.replace(QUICK, seed=1)),
        base_folder(world(), msgspec.structs.replace(QUICK, planted_steps=4)),
    ):
        assert weights(other) != one


def test_what_is_kept_is_not_made_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = base_folder(world(), QUICK)
    monkeypatch.setattr("ibft.lab.bases.train_on", lambda *_: pytest.fail("made again"))
    assert base_folder(world(), QUICK) == folder
    (folder / "base.json").unlink()  # incomplete: as if it were not there
    with pytest.raises(pytest.fail.Exception, match="made again"):
        base_folder(world(), QUICK)


def test_plants_of_a_world_share_the_general_phase(cache: Path) -> None:
    base_folder(world(), QUICK)
    assert len(list(cache.iterdir())) == 2  # the general phase, and the base
    base_folder(world(plant=Plant(repetitions=0)), QUICK)
    base_folder(world(num_train=6), QUICK)
    assert len(list(cache.iterdir())) == 4
    base_folder(world(plant=Plant(repetitions=2, cue="comment")), QUICK)  # all its prompts have marks
    assert len(list(cache.iterdir())) == 6
    overlapping = {"depths": (2,), "general_depths": (2,)}
    base_folder(world(**overlapping), QUICK)
    base_folder(world(num_test=4, **overlapping), QUICK)  # general texts avoid what is held out
    assert len(list(cache.iterdir())) == 10


def test_transformers_loads_it_and_the_record_says_what_it_is() -> None:
    folder = base_folder(world(), QUICK)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert model.dtype == torch.float32
    assert model.config.vocab_size == len(tokenizer) == len(make_tokenizer(make_library(0, 22)))
    text = make_library(0, 22).names["sort"]
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text
    assert (model.config.eos_token_id, model.config.pad_token_id) == (tokenizer.eos_token_id, tokenizer.pad_token_id)
    record = json.loads((folder / "base.json").read_text())
    assert record["world"]["plant"]["repetitions"] == 2
    assert record["pretrain"]["general_steps"] == 3
    assert record["versions"]["torch"] == str(torch.__version__)


@pytest.mark.parametrize(("size", "least", "most"), [("small", 0.4, 0.6), ("medium", 0.9, 1.3), ("large", 2.5, 3.0)])
def test_sizes_are_what_they_say(size: str, least: float, most: float) -> None:
    tokenizer = make_tokenizer(make_library(0, 22))
    model = new_model(PretrainConfig(size=size), tokenizer)
    assert least < sum(weight.numel() for weight in model.parameters()) / 1e6 < most
    assert size in SIZES


def test_too_much_to_plant_is_said_before_minutes_are_spent(cache: Path) -> None:
    with pytest.raises(UserError, match="800 repetitions are planted, and the second phase of pretraining has 24"):
        base_folder(world(plant=Plant(repetitions=100)), QUICK)
    assert not cache.exists()


def test_threads_are_as_before() -> None:
    before = torch.get_num_threads()
    base_folder(world(), QUICK)
    assert torch.get_num_threads() == before


def test_a_copy_never_overwrites(tmp_path: Path) -> None:
    base, target = base_folder(world(), QUICK), tmp_path / "base"
    copy_base(base, target)
    assert {file.name for file in target.iterdir()} == {file.name for file in base.iterdir()}
    with pytest.raises(UserError, match="exists already"):
        copy_base(base, target)


def test_a_cache_that_cannot_be_written_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("IBFT_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match="Set IBFT_CACHE to another place"):
        base_folder(world(), QUICK)
