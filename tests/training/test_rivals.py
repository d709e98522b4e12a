"""The rivals: each loss against full logits in float64, and against TRL where the two must agree."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel
from safetensors.torch import load_file
from torch import Tensor
from torch.distributions import Categorical, kl_divergence
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase
from trl import SFTConfig, SFTTrainer

from ibft.artifacts.json_lines import read_rows
from ibft.artifacts.rows import TrainingLog
from ibft.errors import UserError
from ibft.objectives.asft import ASFTObjective
from ibft.objectives.base import Objective
from ibft.objectives.dft import DFTObjective
from ibft.objectives.eaft import EAFTObjective
from ibft.objectives.ft import FTObjective
from ibft.objectives.ft_kl import FTKLObjective
from ibft.objectives.gem import GEMObjective
from ibft.objectives.ib import IBObjective
from ibft.objectives.neftune import NEFTuneObjective
from ibft.objectives.registry import OBJECTIVES
from ibft.objectives.stm import STMObjective
from ibft.run.folder import RunFolder
from ibft.run.recipe import Recipe
from ibft.run.sections import DataConfig, ModelConfig, TrainConfig
from ibft.run.sections import LoraConfig as RecipeLora
from ibft.stages.train import train
from ibft.training import fit
from ibft.training.trainer import ObjectiveTrainer

from ..conftest import tiny_model

RIVALS = [
    FTKLObjective(kl_weight=0.3),
    ASFTObjective(kl_weight=0.3),
    EAFTObjective(),
    GEMObjective(),
    STMObjective(max_perplexity=1000.0),  # the tiny model's weights are random: it would keep nothing at 2.5
]
WITH_BASE = [RIVALS[0], RIVALS[1], RIVALS[4]]
ALL = [FTObjective(), DFTObjective(), NEFTuneObjective(), *RIVALS]
NO_DROPOUT = LoraConfig(r=4, target_modules=["q_proj", "up_proj"], lora_dropout=0.0, task_type="CAUSAL_LM")

ROUNDING = 1e-3
"""Between adapters trained by sums in another order, over their norm: where a gradient is nearly 0, Adam's step is
1e-2 all the same, so single weights may differ by more."""


def name_of(objective: Any) -> str:
    return str(type(objective).__struct_config__.tag) if isinstance(objective, msgspec.Struct) else ""


@pytest.fixture
def make(tiny_model_folder: Path, tokenizer: PreTrainedTokenizerBase, pairs: Dataset, short_run: dict[str, Any]) -> Any:
    """`make(objective)` is an ObjectiveTrainer, `make(None)` TRL's own with the same arguments."""

    def make(
        objective: Any,
        *,
        dataset: Dataset = pairs,
        peft_config: LoraConfig | None = NO_DROPOUT,
        model_changes: dict[str, Any] | None = None,
        trainer_arguments: dict[str, Any] | None = None,
        **changes: Any,
    ) -> Any:
        chosen: Any = SFTTrainer if objective is None else ObjectiveTrainer
        return chosen(
            AutoModelForCausalLM.from_pretrained(tiny_model_folder, dtype=torch.float32, **(model_changes or {})),
            SFTConfig(**(short_run | changes)),
            train_dataset=dataset,
            processing_class=tokenizer,
            peft_config=peft_config,
            **(trainer_arguments or {}),
            **({} if objective is None else {"objective": objective}),
        )

    return make


def weights_of(trainer: Any) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters() if "lora_" in name}


def gradients_of(trainer: Any) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in trainer.model.named_parameters() if p.grad is not None}


def move_from_base(trainer: Any) -> None:
    """Give the adapter's second factors weights other than 0, so that the model is not the base."""
    generator = torch.Generator().manual_seed(5)
    for name, parameter in trainer.model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.3, generator=generator)


def batch_of(trainer: Any) -> dict[str, Any]:
    return dict(next(iter(trainer.get_train_dataloader())))


def examples_of(batch: dict[str, Any]) -> list[tuple[Tensor, Tensor]]:
    """Token ids and labels of each example alone, without padding and neighbors."""
    if "attention_mask" in batch:
        masks = batch["attention_mask"].bool()
        return [(batch["input_ids"][i][mask], batch["labels"][i][mask]) for i, mask in enumerate(masks)]
    starts = (batch["position_ids"][0] == 0).nonzero().flatten().tolist()
    lengths = [end - start for start, end in zip(starts, [*starts[1:], batch["input_ids"].shape[1]], strict=True)]
    return list(zip(batch["input_ids"][0].split(lengths), batch["labels"][0].split(lengths), strict=True))


Reference = Callable[[Tensor, Tensor, Tensor], Tensor]


def reference_eaft(logits: Tensor, base: Tensor, targets: Tensor) -> Tensor:
    likeliest = logits.detach().sort(dim=-1, descending=True).values[:, :20]
    weight = Categorical(logits=likeliest).entropy() / torch.tensor(20.0).log()
    return -weight * Categorical(logits=logits).log_prob(targets)


def reference_gem(logits: Tensor, base: Tensor, targets: Tensor) -> Tensor:
    model, critic = Categorical(logits=logits), Categorical(logits=logits.detach() / 0.7)
    return (critic.probs * model.logits).sum(-1) - model.log_prob(targets)


def reference_ft_kl(logits: Tensor, base: Tensor, targets: Tensor) -> Tensor:
    model = Categorical(logits=logits)
    return -model.log_prob(targets) + 0.3 * kl_divergence(Categorical(logits=base), model)


def reference_asft(logits: Tensor, base: Tensor, targets: Tensor) -> Tensor:
    model = Categorical(logits=logits)
    ce = -model.log_prob(targets)
    return ce.neg().exp().detach() * ce + 0.3 * kl_divergence(Categorical(logits=base), model)


def reference_stm(logits: Tensor, base: Tensor, targets: Tensor) -> Tensor:
    kept = 1 / Categorical(logits=base).log_prob(targets).exp() <= 1000.0
    return torch.where(kept, -Categorical(logits=logits).log_prob(targets), 0.0)


REFERENCES: dict[str, Reference] = {
    "ft_kl": reference_ft_kl,
    "asft": reference_asft,
    "eaft": reference_eaft,
    "gem": reference_gem,
    "stm": reference_stm,
}


@pytest.mark.parametrize("padding_free", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize("objective", RIVALS, ids=name_of)
def test_loss_and_gradient_equal_full_logits_in_float64(
    make: Any, objective: Any, padding_free: bool, tiny_model_folder: Path, tmp_path: Path
) -> None:
    trainer = make(objective, padding_free=padding_free, max_length=None)
    move_from_base(trainer)
    trainer.model.train()
    batch = batch_of(trainer)
    assert ("position_ids" in batch) == padding_free
    loss = trainer.compute_loss(trainer.model, dict(batch))
    loss.backward()
    loss = loss.detach()

    # Another pair of models: the base from its folder, and the adapter on top of it.
    trainer.model.save_pretrained(tmp_path / "adapter")
    base, inner = (AutoModelForCausalLM.from_pretrained(tiny_model_folder, dtype=torch.float64) for _ in range(2))
    model = PeftModel.from_pretrained(inner, tmp_path / "adapter", is_trainable=True).double()
    rows = examples_of(batch)
    targets = torch.cat([labels[1:][labels[1:] != -100] for _, labels in rows])
    with torch.no_grad():
        base_logits = torch.cat([base(ids[None]).logits[0, :-1][labels[1:] != -100] for ids, labels in rows])
    logits = torch.cat([model(ids[None]).logits[0, :-1][labels[1:] != -100] for ids, labels in rows])
    expected = REFERENCES[name_of(objective)](logits, base_logits, targets)
    expected.mean().backward()

    assert float(loss) == pytest.approx(expected.mean().item(), rel=1e-5)
    theirs = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert gradients_of(trainer).keys() == theirs.keys()
    for name, gradient in gradients_of(trainer).items():
        assert gradient.abs().max() > 0
        torch.testing.assert_close(gradient.double(), theirs[name], rtol=1e-3, atol=1e-5)

    gauges = {name: values[-1] for name, values in trainer._metrics["train"].items()}
    prediction = Categorical(logits=logits)
    kl = kl_divergence(Categorical(logits=base_logits), prediction).mean().item()
    assert gauges["ce"] == pytest.approx(-prediction.log_prob(targets).mean().item(), rel=1e-5)
    assert gauges["entropy"] == pytest.approx(prediction.entropy().mean().item(), rel=1e-5)
    assert gauges["mean_token_accuracy"] == pytest.approx((logits.argmax(-1) == targets).double().mean().item())
    if name_of(objective) in ("ft_kl", "asft"):
        assert kl > 0.1
        assert gauges[f"{name_of(objective)}/kl"] == pytest.approx(kl, rel=1e-4)
    if name_of(objective) == "stm":
        kept = (expected > 0).double().mean().item()
        assert 0.1 < kept < 0.9
        assert gauges["stm/kept"] == pytest.approx(kept)


@pytest.mark.parametrize("model_changes", [{}, {"attention_dropout": 0.3}], ids=["lora-dropout", "own-dropout"])
def test_without_weight_it_is_sft(make: Any, model_changes: dict[str, Any]) -> None:
    """Also with dropout: the base's forward draws nothing, so the model's own forward drops what it drops in SFT."""
    settings = {
        "peft_config": LoraConfig(r=4, target_modules=["q_proj", "up_proj"], lora_dropout=0.2),
        "model_changes": model_changes,
    }
    ours = make(FTKLObjective(kl_weight=0.0), **settings)
    start = weights_of(ours)
    ours.train()
    theirs = make(None, **settings)  # its making sets the seed
    theirs.train()
    for name, weight in weights_of(theirs).items():
        assert (weights_of(ours)[name] - weight).norm() <= ROUNDING * weight.norm()
        assert not torch.allclose(weight, start[name], rtol=0, atol=1e-3)
    for mine, other in zip(ours.state.log_history[:4], theirs.state.log_history[:4], strict=True):
        assert mine["ce"] == pytest.approx(mine["loss"], rel=1e-5)
        for gauge in ("loss", "grad_norm", "entropy", "mean_token_accuracy", "num_tokens"):
            assert mine[gauge] == pytest.approx(other[gauge], rel=1e-4), gauge


def test_weight_holds_the_model_near_its_base(make: Any) -> None:
    divergences = []
    for kl_weight in (1e-6, 10.0):
        trainer = make(FTKLObjective(kl_weight=kl_weight), max_steps=8)
        trainer.train()
        divergences.append(trainer.state.log_history[7]["ft_kl/kl"])
    assert divergences[1] < 0.3 * divergences[0]


@pytest.mark.parametrize("objective", RIVALS, ids=name_of)
def test_gradients_equal_with_and_without_checkpointing(make: Any, objective: Any) -> None:
    gradients = []
    for checkpointing in (
        {"gradient_checkpointing": False},
        {"gradient_checkpointing": True},
        {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": True}},
    ):
        peft_config = LoraConfig(r=4, target_modules=["q_proj", "up_proj"], lora_dropout=0.2)
        trainer = make(objective, peft_config=peft_config, **checkpointing)
        move_from_base(trainer)
        batch = batch_of(trainer)
        torch.manual_seed(0)  # the same dropout
        trainer.compute_loss(trainer.model.train(), batch).backward()
        gradients.append(gradients_of(trainer))
    for other in gradients[1:]:
        assert other.keys() == gradients[0].keys()
        for name, gradient in other.items():
            torch.testing.assert_close(gradient, gradients[0][name], rtol=1e-4, atol=1e-6)


def equal_rows(num_rows: int) -> Dataset:
    """Rows of one length but with different numbers of labels, so that weights per row and per token differ."""
    rows = []
    for index in range(num_rows):
        input_ids = [(7 * index + 3 * position) % 250 for position in range(12)]
        num_prompt = 2 + index % 8
        rows.append({"input_ids": input_ids, "labels": [-100] * num_prompt + input_ids[num_prompt:]})
    return Dataset.from_list(rows)


@pytest.mark.parametrize("objective", RIVALS, ids=name_of)
def test_accumulated_small_batches_equal_one_large_batch(make: Any, objective: Any) -> None:
    runs = []
    for size, accumulation in ((8, 1), (2, 4)):
        trainer = make(
            objective,
            dataset=equal_rows(16),
            per_device_train_batch_size=size,
            gradient_accumulation_steps=accumulation,
            max_steps=2,
            weight_decay=0.0,
            optim="sgd",  # linear in the gradient, where Adam would blow up rounding
        )
        move_from_base(trainer)
        trainer.train()
        runs.append((weights_of(trainer), trainer.state.log_history[:2]))
    for name, weight in runs[0][0].items():
        torch.testing.assert_close(weight, runs[1][0][name], rtol=1e-4, atol=1e-6)
    for large, small in zip(runs[0][1], runs[1][1], strict=True):
        gauges = {"loss", "ce"} | {gauge for gauge in large if "/" in gauge}
        assert len(gauges) == 2 + (objective in WITH_BASE)
        for gauge in gauges:
            assert small[gauge] == pytest.approx(large[gauge], rel=1e-4), gauge


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("objective", WITH_BASE, ids=name_of)
def test_model_is_as_it_was_after_the_bases_turn(
    make: Any, objective: Any, fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make(objective)
    trainer.model.train()
    trainer.model.get_base_model().model.layers[1].eval()  # whatever was off stays off
    modes = [module.training for module in trainer.model.modules()]
    trained = [p.requires_grad for p in trainer.model.parameters()]
    batch = batch_of(trainer)
    random_state = torch.get_rng_state()
    if fails:

        def break_off(*_: Any, **__: Any) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(trainer.model.get_base_model().model.norm, "forward", break_off)
        with pytest.raises(ZeroDivisionError):
            trainer.compute_loss(trainer.model, batch)
    else:
        trainer.compute_loss(trainer.model, batch)
    assert torch.equal(random_state, torch.get_rng_state())
    assert trainer.model.get_model_status().enabled is True
    assert [module.training for module in trainer.model.modules()] == modes
    assert [p.requires_grad for p in trainer.model.parameters()] == trained


@pytest.mark.parametrize("objective", RIVALS, ids=name_of)
def test_batch_without_labels_is_finite(make: Any, objective: Any) -> None:
    rows = [{"input_ids": [5, 6, 7], "labels": [-100] * 3}] * 3
    trainer = make(objective, dataset=Dataset.from_list(rows), max_steps=1, max_length=None)
    trainer.train()
    assert trainer.state.log_history[0]["loss"] == 0
    assert trainer.state.log_history[0]["ce"] == 0


def test_evaluates_and_generates(make: Any, pairs: Dataset, tokenizer: PreTrainedTokenizerBase) -> None:
    trainer = make(FTKLObjective(kl_weight=0.3), trainer_arguments={"eval_dataset": pairs.select(range(3))})
    move_from_base(trainer)
    assert trainer.evaluate()["eval_loss"] > 0
    inputs = tokenizer("def f", return_tensors="pt")
    assert trainer.model.generate(**inputs, max_new_tokens=3, do_sample=False).shape[1] > inputs["input_ids"].shape[1]


@pytest.mark.parametrize("objective", [RIVALS[2], RIVALS[3]], ids=name_of)
def test_full_fine_tuning_without_base_works(make: Any, objective: Any) -> None:
    trainer = make(objective, peft_config=None, max_steps=2, learning_rate=1e-4)
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.train()
    assert all(not torch.equal(p, before[name]) for name, p in trainer.model.named_parameters())


def test_what_cannot_work_is_refused_with_the_remedy(make: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    for objective in WITH_BASE:
        with pytest.raises(UserError, match=f"{name_of(objective)} compares with the base model.*Train one, or use ft"):
            make(objective, peft_config=None)
    with pytest.raises(UserError, match="ft_kl reads the base model's logits through lm_head"):
        make(RIVALS[0], peft_config=LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["lm_head"]))
    for changes in ({"loss_type": "dft"}, {"label_smoothing_factor": 0.1}):
        with pytest.raises(UserError, match="gem is a loss of its own"):
            make(RIVALS[3], **changes)


def test_mixture_of_experts_with_its_own_loss_is_refused(make: Any, tmp_path: Path) -> None:
    arguments = SFTConfig(str(tmp_path), use_cpu=True, bf16=False, report_to="none")
    with pytest.raises(UserError, match="gem leaves out the load-balancing loss"):
        ObjectiveTrainer(
            tiny_model("mixtral", vocab_size=320, num_local_experts=2),
            arguments,
            objective=GEMObjective(),
            train_dataset=equal_rows(4),
            processing_class=make(None).processing_class,
        )


@pytest.fixture
def recipe(tiny_model_folder: Path, tmp_path: Path) -> Recipe:
    rows = [
        {"id": f"f{i}", "prompt": f"def f{i}(a):\n", "completion": f"    return a + {i}\n" * (1 + i % 3)}
        for i in range(10)
    ]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Recipe(
        name="run",
        output=str(tmp_path / "runs"),
        seed=3,
        model=ModelConfig(name=str(tiny_model_folder), dtype="float32", device="cpu"),
        data=DataConfig(train=str(tmp_path / "data.jsonl"), max_tokens=200),
        train=TrainConfig(
            max_steps=4,
            batch_size=4,
            batching="padded",
            learning_rate=1e-2,
            log_every=1,
            save_every=2,
            lora=RecipeLora(rank=4, dropout=0.0),
        ),
    )


def run_stage(recipe: Recipe, objective: Objective) -> tuple[dict[str, Tensor], list[TrainingLog]]:
    with RunFolder(recipe).open() as run:
        train(recipe, run, objective)
    folder = Path(recipe.output) / recipe.name / "train" / objective.arm
    adapter = load_file(folder / "adapter" / "adapter_model.safetensors")
    return adapter, list(read_rows(folder / "log.jsonl", TrainingLog))


def test_every_objective_of_the_recipe_is_tested_here() -> None:
    tested = {type(objective) for objective in ALL} | {IBObjective}
    assert tested == set(OBJECTIVES.values())


@pytest.mark.parametrize("batching", ["padded", "packed"])
@pytest.mark.parametrize("objective", ALL, ids=name_of)
def test_recipe_trains_a_plain_adapter(recipe: Recipe, objective: Any, batching: Any) -> None:
    recipe = msgspec.structs.replace(recipe, train=msgspec.structs.replace(recipe.train, batching=batching))
    adapter, log = run_stage(recipe, objective)
    assert len(adapter) == 4 * 7 * 2
    assert all("lora_A" in key or "lora_B" in key for key in adapter)
    assert any(weight.abs().max() > 0 for key, weight in adapter.items() if "lora_B" in key)
    assert [row.step for row in log] == [1, 2, 3, 4]
    assert all({"loss", "ce", "grad_norm"} <= row.metrics.keys() for row in log)
    is_ce = name_of(objective) in ("ft", "neftune")
    assert (log[-1].metrics["ce"] == log[-1].metrics["loss"]) == is_ce


@pytest.mark.slow
@pytest.mark.parametrize("objective", [NEFTuneObjective(), RIVALS[1]], ids=name_of)
def test_interrupted_run_ends_in_the_same_adapter(
    recipe: Recipe, objective: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lora = RecipeLora(rank=4, dropout=0.2)
    recipe = msgspec.structs.replace(recipe, train=msgspec.structs.replace(recipe.train, lora=lora))
    expected, expected_log = run_stage(msgspec.structs.replace(recipe, output=str(tmp_path / "whole")), objective)
    advance = fit.ProgressBar.on_step_end

    def killed(self: Any, args: Any, state: Any, control: Any, **keywords: Any) -> None:
        if state.global_step == 3:
            raise KeyboardInterrupt
        advance(self, args, state, control, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(fit.ProgressBar, "on_step_end", killed)
        with pytest.raises(KeyboardInterrupt):
            run_stage(recipe, objective)
    adapter, log = run_stage(recipe, objective)
    assert all(torch.equal(adapter[key], weight) for key, weight in expected.items())
    assert log == expected_log


def train_with_trl(recipe: Recipe, tokenizer: PreTrainedTokenizerBase, tmp_path: Path, **changes: Any) -> Any:
    """The same run by SFTTrainer itself, on token ids as the recipe makes them."""
    rows = []
    for line in (tmp_path / "data.jsonl").read_text().splitlines():
        pair = json.loads(line)
        prompt = tokenizer(pair["prompt"])["input_ids"]
        whole = tokenizer(pair["prompt"] + pair["completion"])["input_ids"] + [tokenizer.eos_token_id]
        border = max(n for n in range(len(prompt) + 1) if prompt[:n] == whole[:n])
        rows.append({"input_ids": whole, "labels": [-100] * border + whole[border:]})
    trainer = SFTTrainer(
        AutoModelForCausalLM.from_pretrained(recipe.model.name, dtype=torch.float32),
        SFTConfig(**(fit.common_arguments(recipe, tmp_path / "trl") | {"save_strategy": "no"} | changes)),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=LoraConfig(
            r=4, lora_alpha=32, lora_dropout=0.0, target_modules=list(recipe.train.lora.target_modules)
        ),
    )
    trainer.train()
    return trainer


@pytest.mark.parametrize(
    ("objective", "changes"),
    [
        (FTObjective(), {}),
        (DFTObjective(), {"loss_type": "dft"}),
        (NEFTuneObjective(noise_alpha=5.0), {"neftune_noise_alpha": 5.0}),
    ],
    ids=name_of,
)
def test_what_trl_has_is_trls(
    recipe: Recipe, tokenizer: PreTrainedTokenizerBase, tmp_path: Path, objective: Any, changes: dict[str, Any]
) -> None:
    adapter, log = run_stage(recipe, objective)
    trainer = train_with_trl(recipe, tokenizer, tmp_path, **changes)
    trainer.model.save_pretrained(tmp_path / "trl-adapter")
    theirs = load_file(tmp_path / "trl-adapter" / "adapter_model.safetensors")
    assert adapter.keys() == theirs.keys()
    for key, weight in theirs.items():
        assert (adapter[key] - weight).norm() <= ROUNDING * weight.norm()
    for row, entry in zip(log, trainer.state.log_history, strict=False):
        assert row.metrics["loss"] == pytest.approx(entry["loss"], rel=1e-5)


def test_dft_logs_the_cross_entropy(recipe: Recipe) -> None:
    """At the first step the model is the base, so plain fine-tuning's first loss is the cross-entropy of all arms."""
    ft = run_stage(recipe, FTObjective())[1][0].metrics
    for objective in (DFTObjective(), *RIVALS):
        assert run_stage(recipe, objective)[1][0].metrics["ce"] == pytest.approx(ft["loss"], rel=1e-5)


def test_a_negative_loss_is_no_explosion_afterwards(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """GEM's loss may be below 0, and a multiple of such a lowest loss is no limit."""
    monkeypatch.setattr(fit.StageTrainer, "_lowest", -5.0)
    assert len(run_stage(recipe, GEMObjective())[1]) == 4


@pytest.mark.slow
def test_noise_changes_the_adapter_by_its_size(recipe: Recipe) -> None:
    plain, _ = run_stage(recipe, FTObjective())
    tiny, _ = run_stage(recipe, NEFTuneObjective(arm="tiny", noise_alpha=1e-9))
    noisy, _ = run_stage(recipe, NEFTuneObjective(noise_alpha=50.0))
    for key, weight in plain.items():
        assert (tiny[key] - weight).norm() <= ROUNDING * weight.norm()
    assert not all(torch.allclose(noisy[key], weight, rtol=0, atol=1e-3) for key, weight in plain.items())
