"""The adapter: PEFT's settings from the recipe's, and which of the model's weights it reaches.

Transformers 5 holds the routed experts of a mixture as fused weights of three dimensions, not as linear layers. PEFT
reaches them by `target_parameters`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, NamedTuple

import peft
import torch
from peft.tuners.lora import LoraLayer, ParamWrapper
from torch import nn
from torch.nn.modules.conv import _ConvNd
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from ibft import progress
from ibft.artifacts.training import RoutedExperts
from ibft.errors import UserError
from ibft.models.loading import load_config
from ibft.run.reading import suggest

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from ibft.run.sections import LoraConfig, ModelConfig

__all__ = ["check_adapter", "lora_config", "put_dropout", "routed_experts", "say_experts"]

ALL_LINEAR = "all-linear"

_FUSED = {"gate_up_proj": (("gate_proj", "up_proj"), ("w1", "w3")), "down_proj": (("w2",),)}
"""What a fused weight is made of: the linear layers of one expert, as transformers 4 and other models name them."""


class _Targets(NamedTuple):
    """What LoRA is put on: names of linear layers, and the ends of paths of weights (`experts.down_proj`)."""

    modules: list[str]
    parameters: list[str]


def lora_config(config: LoraConfig | None, model_config: ModelConfig, model: PreTrainedModel) -> peft.LoraConfig | None:
    """Return PEFT's settings of the adapter; None for full fine-tuning.

    Where it reaches routed experts, for which PEFT has no dropout, `lora_dropout` is 0: see `put_dropout`.

    Raises:
        UserError: a target module or a module to save does not exist in the model, or cannot be one.
    """
    if config is None:
        return None
    experts = _fused_weights(model)
    targets = _targets(config, model_config, model, experts)
    if targets.parameters and config.dora:
        names = ", ".join(sorted({name.removesuffix(".weight").rpartition(".")[2] for name in targets.parameters}))
        raise UserError(
            "train.lora.dora is true: PEFT has no DoRA for the experts of a mixture. Set it to false, or name "
            f"target_modules without {names} and what they are made of."
        )
    saved = _modules_to_save(config, targets.modules, model_config, model)
    settings = {
        "use_rslora": config.rslora,
        "use_dora": config.dora,
        "modules_to_save": saved or None,
        "target_parameters": targets.parameters or None,
        # Where embeddings are tied, PEFT would otherwise untie them: `[lm_head]` alone trained embed_tokens and left
        # lm_head as it was (PEFT 0.21.2), and so did a merge.
        "ensure_weight_tying": bool(saved) and _is_tied(model),
    }
    is_linear = tuple(config.target_modules) == (ALL_LINEAR,) and not experts
    return peft.LoraConfig(
        task_type="CAUSAL_LM",
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=0.0 if targets.parameters else config.dropout,
        target_modules=ALL_LINEAR if is_linear else targets.modules,
        revision=model_config.revision,
        # Left out where they are PEFT's own defaults, since older versions do not know all of them.
        **{name: value for name, value in settings.items() if value},
    )


def _targets(
    config: LoraConfig, model_config: ModelConfig, model: PreTrainedModel, experts: Collection[str]
) -> _Targets:
    wanted = config.target_modules
    if "lm_head" in wanted:
        raise UserError("train.lora.target_modules: lm_head cannot be adapted: the loss reads its weight. Remove it.")
    output = model.get_output_embeddings()
    linear = {name.rpartition(".")[2]: None for name, m in model.named_modules() if _is_linear(m) and m is not output}
    if wanted == (ALL_LINEAR,):
        return _without_conversion(_Targets(list(linear), sorted(experts)), model) if experts else _Targets([], [])
    parameters = [name for name in sorted(experts) if _is_wanted(name, wanted)]
    names = [name for name, _ in model.named_modules()]
    modules = []
    for target in wanted:
        if any(name == target or name.endswith(f".{target}") for name in names):
            modules.append(target)
        elif not any(target in _names_of(parameter) for parameter in parameters):
            known = sorted({*linear, *(name.rpartition(".")[2] for name in experts)})
            raise UserError(
                f"train.lora.target_modules: {target!r} matches no module of {model_config.name}. "
                f"It has: {', '.join(known)}; or use [{ALL_LINEAR}]."
            )
    return _without_conversion(_Targets(modules, parameters), model) if experts else _Targets(modules, [])


def _is_linear(module: nn.Module) -> bool:
    # Not by the weight's shape: a router has a weight like that of a linear layer.
    return isinstance(module, (nn.Linear, Conv1D))


def _names_of(parameter: str) -> set[str]:
    """Return the names by which target_modules may mean a fused weight: its own, and those of its parts."""
    own = parameter.rpartition(".")[2]
    return {parameter, own, *(name for parts in _FUSED.get(own, ()) for name in parts)}


def _is_wanted(parameter: str, wanted: Collection[str]) -> bool:
    own = parameter.rpartition(".")[2]
    # One half of a fused weight cannot be adapted alone.
    return parameter in wanted or own in wanted or any(set(parts) <= set(wanted) for parts in _FUSED.get(own, ()))


def _without_conversion(targets: _Targets, model: PreTrainedModel) -> _Targets:
    """Keep PEFT from taking names of linear layers for names of experts.

    For many mixtures it takes `gate_proj` in `target_modules` for that of the routed experts, as in an adapter of
    transformers 4: the layers of that name in dense layers and shared experts get nothing, fused weights twice the
    rank, and the router is trained, too. What it would take is targeted by its weight instead, which it leaves alone.
    """
    from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers

    tried = peft.LoraConfig(target_modules=list(targets.modules), target_parameters=list(targets.parameters))
    convert_peft_config_for_transformers(tried, model, None)
    taken = set(targets.modules) - set(tried.target_modules)
    weights = {
        ".".join(name.split(".")[-2:]) + ".weight" for name, _ in model.named_modules() if name.split(".")[-1] in taken
    }
    modules = [name for name in targets.modules if name not in taken]
    return _Targets(modules, sorted({*targets.parameters, *weights}))


def _fused_weights(model: nn.Module) -> set[str]:
    """Return the ends of the paths of fused experts' weights, such as `experts.gate_up_proj`; none for most models."""
    return {".".join(name.split(".")[-2:]) for name, _ in _expert_weights(model)}


def _expert_weights(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    for path, module in model.named_modules():
        if isinstance(module, (_ConvNd, LoraLayer)):
            continue
        for name, weight in module.named_parameters(recurse=False):
            # ZeRO-3 holds a share without a shape of its own.
            if len(getattr(weight, "ds_shape", weight.shape)) == 3:
                yield f"{path}.{name}", weight


def routed_experts(model: nn.Module) -> RoutedExperts | None:
    """Return whether a model's routed experts have LoRA; None without any.

    Args:
        model: with an adapter.
    """
    if not _fused_weights(model):
        return None
    has_lora = any(isinstance(module, ParamWrapper) and module.num_experts > 1 for module in model.modules())
    return "adapted" if has_lora else "frozen"


def say_experts(model: nn.Module, dropout: float) -> None:
    """Say what becomes of a mixture's routed experts, most of its weights; nothing for other models.

    Args:
        model: with an adapter.
        dropout: `train.lora.dropout`.
    """
    found = routed_experts(model)
    if found is None:
        return
    sizes = {name: weight.numel() for name, weight in model.named_parameters() if "lora_" not in name}
    fused = {name: weight.numel() for name, weight in _expert_weights(model)}
    share = f"{100 * sum(fused.values()) / sum(sizes.values()):.0f}% of the model's weights"
    names = ", ".join(sorted({name.rpartition(".")[2] for name in fused}))
    if found == "frozen":
        progress.warn(
            "THE ROUTED EXPERTS ARE NOT TRAINED",
            f"{share} get no LoRA, since train.lora.target_modules does not name them: add {names}, or use "
            f"[{ALL_LINEAR}].",
        )
    else:
        without = f", without dropout, which PEFT has for linear layers alone ({dropout:g} there)" if dropout else ""
        progress.say(f"Routed experts: {share}; they get LoRA{without}. The router is not trained")


def put_dropout(model: nn.Module, dropout: float) -> None:
    """Give LoRA's linear layers their dropout where the adapter also reaches experts, for which PEFT has none.

    PEFT has one setting for all, and refuses any but 0 beside experts: dropout on the input of a fused weight cannot be
    written as a product of two small matrices. An adapter is loaded without dropout in any case.
    """
    for module in model.modules():
        if isinstance(module, LoraLayer) and not isinstance(module, ParamWrapper):
            for name in module.lora_dropout:
                module.lora_dropout[name] = nn.Dropout(dropout)


def _modules_to_save(
    config: LoraConfig, targets: Collection[str], model_config: ModelConfig, model: PreTrainedModel
) -> list[str]:
    """Return the modules that are trained whole, checked."""
    known = sorted({path.rpartition(".")[2] for path, _ in model.named_modules() if path} - {"0"})
    known = [name for name in known if not name.isdecimal()]
    for name in config.modules_to_save:
        if not any(path == name or path.endswith(f".{name}") for path, _ in model.named_modules()):
            raise UserError(
                f"train.lora.modules_to_save: {name!r} is no module of {model_config.name}.{suggest(name, known)}"
            )
        if name in targets:
            raise UserError(
                f"train.lora: {name} is in target_modules and in modules_to_save. It gets LoRA or is trained whole: "
                "leave it out of one of them."
            )
    return list(config.modules_to_save)


def _is_tied(model: PreTrainedModel) -> bool:
    return bool(model.config.get_text_config().tie_word_embeddings)


def check_adapter(config: LoraConfig | None, model_config: ModelConfig) -> None:
    """Make the adapter of a model without weights, for whatever PEFT would refuse.

    Raises:
        UserError: as `lora_config`, or PEFT refuses the settings together.
    """
    if config is None or not (config.rslora or config.dora or config.modules_to_save):
        return  # plain LoRA fits every model
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            load_config(model_config), trust_remote_code=model_config.trust_remote_code
        )
        settings = lora_config(config, model_config, model)
        try:
            peft.get_peft_model(model, settings)
        except (ValueError, TypeError, NotImplementedError) as error:
            raise UserError(
                f"train.lora: PEFT refuses these settings together ({str(error).splitlines()[0].rstrip('.')}). Leave "
                "out dora, rslora or modules_to_save."
            ) from None
