"""The accelerate configs that are shipped: accelerate reads each, and takes it for what it is called."""

from __future__ import annotations

from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_multi_gpu_env

CONFIGS = Path(__file__).parents[2] / "recipes" / "accelerate"
KINDS = {"ddp": "MULTI_GPU", "fsdp2": "FSDP", "zero2": "DEEPSPEED", "zero3": "DEEPSPEED"}


def test_every_config_is_known_here() -> None:
    assert {path.stem for path in CONFIGS.glob("*.yaml")} == set(KINDS)


@pytest.mark.parametrize("name", KINDS)
def test_accelerate_reads_the_config(name: str) -> None:
    path = CONFIGS / f"{name}.yaml"
    assert str(path.relative_to(CONFIGS.parents[1])) in path.read_text()  # the command to copy
    config = load_config_from_file(str(path))  # unknown keys are an error
    assert config.distributed_type == KINDS[name]
    command = ["--config_file", str(path), "--num_processes", "3", "--no_python", "ibft", "train", "recipe.yaml"]
    arguments, _, _ = _validate_launch_command(launch_command_parser().parse_args(command))
    assert arguments.num_processes == 3
    assert arguments.mixed_precision == "no"  # the recipe's dtype decides
    assert arguments.training_script_args == ["train", "recipe.yaml"]
    assert arguments.use_deepspeed == (KINDS[name] == "DEEPSPEED")
    if name in ("zero2", "zero3"):
        assert arguments.zero_stage == int(name[-1])


def test_fsdp2_reaches_the_processes() -> None:
    command = ["--config_file", str(CONFIGS / "fsdp2.yaml"), "--no_python", "ibft", "train", "recipe.yaml"]
    arguments, _, _ = _validate_launch_command(launch_command_parser().parse_args(command))
    environment = prepare_multi_gpu_env(arguments)
    assert environment["FSDP_VERSION"] == "2"
    assert environment["FSDP_STATE_DICT_TYPE"] == "FULL_STATE_DICT"
    assert environment["FSDP_AUTO_WRAP_POLICY"] == "TRANSFORMER_BASED_WRAP"
    assert environment["FSDP_CPU_RAM_EFFICIENT_LOADING"] == "true"
