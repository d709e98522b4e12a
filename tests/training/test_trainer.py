"""IBTrainer: the paper form's loss, who gets gradients, and plain SFT at alpha 0 bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from datasets import Dataset
from peft import LoraConfig
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from ibft import IBConfig, IBTrainer
from ibft.errors import UserError
from ibft.training.bottleneck import HEAD_NAME

NO_NOISE = {"logvar_min": -40.0, "logvar_max": -30.0}
"""A posterior so narrow that the noise is nothing, to compare runs that draw it in different pieces."""


def lora_weights(trainer: Any) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters() if "lora_" in name}


def trained(make_trainer: Any, **settings: Any) -> Any:
    """A trainer made and run at once: making it seeds the global generator, from which dropout is drawn."""
    trainer = make_trainer(**settings)
    trainer.train()
    return trainer


def batch_of(trainer: Any, size: int = 4) -> dict[str, torch.Tensor]:
    return dict(trainer.data_collator([trainer.train_dataset[index] for index in range(size)]))


def paper_loss_in_float64(trainer: Any, batch: dict[str, torch.Tensor], noise: torch.Generator) -> dict[str, float]:
    """The reference code's formula written out: full logits, all positions in the KL, torch.distributions."""
    model = trainer.model.get_base_model().double().eval()
    head = trainer.bottleneck.double()[0]
    output = model(batch["input_ids"], attention_mask=batch["attention_mask"], output_hidden_states=True)
    hidden = output.hidden_states[trainer.objective.layer]
    mean, logvar = head.mean(hidden), head.logvar(hidden).clamp(-4, 4)
    scale = (logvar / 2).exp()
    prior = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    kl = torch.distributions.kl_divergence(torch.distributions.Normal(mean, scale), prior).mean()
    labels = batch["labels"][:, 1:]
    epsilon = torch.zeros_like(mean)
    labelled = F.pad(labels != -100, (0, 1))
    epsilon[labelled] = torch.randn(int(labelled.sum()), mean.size(-1), generator=noise).double()
    logits = model.lm_head(head.up(mean + scale * epsilon))
    ce_bottleneck = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels.flatten())
    ce = F.cross_entropy(output.logits[:, :-1].flatten(0, 1), labels.flatten())
    loss = ce + trainer.args.alpha * (kl + trainer.args.beta * ce_bottleneck)
    return {"loss": loss.item(), "ce": ce.item(), "ib/kl": kl.item(), "ib/ce": ce_bottleneck.item()}


@pytest.mark.parametrize("alpha", [0.1, 0.7])
def test_paper_form_equals_float64_reference(make_trainer: Any, alpha: float) -> None:
    trainer = make_trainer(alpha=alpha, beta=0.3)
    batch = batch_of(trainer)
    assert (batch["attention_mask"] == 0).any()  # padding, which the KL counts
    noise = torch.Generator().manual_seed(0)
    noise.set_state(trainer._bottleneck.generator.get_state())
    trainer.model.eval()
    loss = trainer.compute_loss(trainer.model, dict(batch)).item()
    expected = paper_loss_in_float64(trainer, batch, noise)
    assert loss == pytest.approx(expected.pop("loss"), rel=1e-5, abs=1e-5)
    for name, value in expected.items():
        assert trainer._metrics["eval"][name] == [pytest.approx(value, rel=1e-5, abs=1e-5)]


def test_alpha_zero_equals_sft_bit_for_bit(make_trainer: Any) -> None:
    plain = trained(make_trainer, plain=True)
    gauged = make_trainer(alpha=0.0)
    head = {name: value.clone() for name, value in gauged.bottleneck.state_dict().items()}
    start = lora_weights(gauged)
    gauged.train()
    assert lora_weights(plain).keys() == start.keys()
    for name, weight in lora_weights(plain).items():
        assert torch.equal(weight, lora_weights(gauged)[name]), name
        assert not torch.equal(weight, start[name]), name
    logged = [entry for entry in gauged.state.log_history if "loss" in entry]
    assert len(logged) == 4
    for ours, theirs in zip(logged, plain.state.log_history, strict=False):
        assert ours["loss"] == theirs["loss"]
        assert ours["grad_norm"] == theirs["grad_norm"]
        assert ours["ce"] == pytest.approx(ours["loss"], rel=1e-6)
        assert ours["ib/kl"] > 0
        assert ours["ib/ce"] > 0
        assert ours["ib/hidden_std"] > 0
    for name, value in gauged.bottleneck.state_dict().items():
        assert torch.equal(value, head[name])


def test_small_alpha_differs_from_sft(make_trainer: Any) -> None:
    ours = lora_weights(trained(make_trainer, alpha=1e-3))
    theirs = lora_weights(trained(make_trainer, plain=True))
    assert not all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_every_alpha_sees_the_same_batches(make_trainer: Any) -> None:
    orders = []
    for settings in ({"plain": True}, {"alpha": 0.5}):
        trainer = make_trainer(**settings)
        orders.append([batch["input_ids"].tolist() for batch in trainer.get_train_dataloader()])
    assert orders[0] == orders[1]


def test_gradient_reaches_the_adapter_and_the_head_only(make_trainer: Any) -> None:
    trainer = make_trainer(peft_config=None)
    batch = batch_of(trainer)
    torch.manual_seed(0)
    trainer.model.train()
    trainer.compute_loss(trainer.model, batch).backward()
    for name, parameter in trainer.model.named_parameters():
        expected = "lora_" in name or name.startswith(HEAD_NAME)
        assert (parameter.grad is not None) == expected, name
    assert all(p.grad.abs().sum() > 0 for p in trainer.bottleneck.parameters())


def test_bottleneck_reaches_only_the_layers_below_it(make_trainer: Any) -> None:
    gradients = []
    for alpha in (0.0, 5.0):
        trainer = make_trainer(alpha=alpha, peft_config=LoraConfig(r=4, target_modules=["up_proj"], lora_dropout=0.0))
        trainer.compute_loss(trainer.model.train(), batch_of(trainer)).backward()
        gradients.append({n: p.grad.clone() for n, p in trainer.model.named_parameters() if "lora_B" in n})
    for name in gradients[0]:
        is_below = ".layers.0." in name or ".layers.1." in name
        assert torch.allclose(gradients[0][name], gradients[1][name], rtol=1e-4, atol=1e-7) != is_below, name


def test_gradients_equal_with_and_without_checkpointing(make_trainer: Any) -> None:
    gradients = []
    for checkpointing in (
        {"gradient_checkpointing": False},
        {},
        {"gradient_checkpointing_kwargs": {"use_reentrant": True}},
    ):
        trainer = make_trainer(alpha=0.5, **checkpointing)
        torch.manual_seed(0)  # the same dropout
        trainer.compute_loss(trainer.model.train(), batch_of(trainer)).backward()
        gradients.append([p.grad for p in trainer.model.parameters() if p.grad is not None])
    for other in gradients[1:]:
        assert len(other) == len(gradients[0])
        for ours, theirs in zip(other, gradients[0], strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def equal_rows(num_rows: int) -> Dataset:
    """Rows of one length but with different numbers of labels, so that weights per row and per token differ."""
    rows = []
    for index in range(num_rows):
        input_ids = [(7 * index + 3 * position) % 250 for position in range(12)]
        num_prompt = 2 + index % 8
        rows.append({"input_ids": input_ids, "labels": [-100] * num_prompt + input_ids[num_prompt:]})
    return Dataset.from_list(rows)


def test_accumulated_small_batches_equal_one_large_batch(make_trainer: Any) -> None:
    runs = []
    for size, accumulation in ((8, 1), (2, 4)):
        trainer = make_trainer(
            dataset=equal_rows(16),
            peft_config=LoraConfig(r=4, target_modules=["q_proj", "up_proj"], lora_dropout=0.0),
            per_device_train_batch_size=size,
            gradient_accumulation_steps=accumulation,
            max_steps=2,
            alpha=0.5,
            beta=1.0,
            weight_decay=0.0,
            optim="sgd",  # linear in the gradient, where Adam would blow up rounding
            **NO_NOISE,
        )
        trainer.train()
        runs.append((lora_weights(trainer), [entry for entry in trainer.state.log_history if "loss" in entry]))
    for name, weight in runs[0][0].items():
        torch.testing.assert_close(weight, runs[1][0][name], rtol=1e-4, atol=1e-6)
    for large, small in zip(runs[0][1], runs[1][1], strict=True):
        for gauge in ("loss", "ce", "ib/kl", "ib/ce", "ib/penalty"):
            assert small[gauge] == pytest.approx(large[gauge], rel=1e-4), gauge


def test_logged_loss_is_the_sum_of_its_parts(make_trainer: Any) -> None:
    trainer = make_trainer(alpha=0.3, beta=0.2, gradient_accumulation_steps=2, max_steps=2)
    trainer.train()
    for entry in trainer.state.log_history[:2]:
        assert entry["ib/penalty"] == pytest.approx(0.3 * (entry["ib/kl"] + 0.2 * entry["ib/ce"]), rel=1e-5)
        assert entry["loss"] == pytest.approx(entry["ce"] + entry["ib/penalty"], rel=1e-5)


@pytest.mark.parametrize("shape", ["text", "messages", "conversation", "tokens"])
def test_takes_the_data_sets_that_trl_takes(make_trainer: Any, shape: str) -> None:
    turn = {"role": "user", "content": "add"}
    answer = {"role": "assistant", "content": "a + b"}
    rows = {
        "text": {"text": "def add(a, b): return a + b"},
        "messages": {"messages": [turn, answer]},
        "conversation": {"prompt": [turn], "completion": [answer]},
        "tokens": {"input_ids": [5, 6, 7, 8], "labels": [-100, -100, 7, 8]},
    }
    trainer = make_trainer(dataset=Dataset.from_list([rows[shape]] * 4), max_steps=1)
    trainer.train()
    assert trainer.state.log_history[0]["ib/ce"] > 0


def test_batch_without_labels_is_finite(make_trainer: Any) -> None:
    rows = [{"input_ids": [5, 6, 7], "labels": [-100] * 3}] * 3
    trainer = make_trainer(dataset=Dataset.from_list(rows), max_steps=1, max_length=None)
    trainer.train()
    entry = trainer.state.log_history[0]
    assert entry["ib/ce"] == 0
    assert 0 < entry["loss"] < float("inf")


def test_full_fine_tuning_keeps_the_head_out_of_the_model(make_trainer: Any, tmp_path: Path) -> None:
    trainer = make_trainer(full=True, max_steps=1)
    trainer.train()
    trainer.save_model(str(tmp_path / "model"))
    assert not [key for key in load_file(tmp_path / "model" / "model.safetensors") if HEAD_NAME in key]
    AutoModelForCausalLM.from_pretrained(tmp_path / "model")


def test_removed_bottleneck_leaves_an_ordinary_model(make_trainer: Any) -> None:
    trainer = make_trainer()
    trainer.remove_bottleneck()
    assert not hasattr(trainer.model, HEAD_NAME)
    assert not any(module._forward_pre_hooks for module in trainer.model.modules())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layer": 4}, "layer is 4: this model has 4 layers, so layer must be from 1 to 3"),
        ({"layer": 0}, "layer is 0: it must be an index from 1 up"),
        ({"alpha": -1.0}, "alpha is -1.0: Expected"),
        ({"alpha": float("nan")}, "alpha is nan"),
        ({"bottleneck_dim": 0}, "bottleneck_dim is 0"),
        ({"logvar_min": 5.0}, "logvar_min is 5.0"),
        ({"form": "papre"}, "form is 'papre': known forms are paper, corrected"),
        ({"label_smoothing_factor": 0.1}, "label_smoothing_factor is 0.1"),
        ({"peft_config": LoraConfig(target_modules=["q_proj"], bias="all")}, 'bias is "all"'),
        ({"trainer_arguments": {"compute_loss_func": lambda *_: 0}}, "compute_loss_func is set"),
    ],
)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_what_cannot_work_is_refused_with_the_remedy(make_trainer: Any, settings: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_trainer(**settings)


def test_config_of_trl_is_refused(make_trainer: Any, pairs: Dataset) -> None:
    plain = make_trainer(plain=True)
    with pytest.raises(UserError, match="args is a SFTConfig"):
        IBTrainer(plain.model, plain.args, train_dataset=pairs)


def test_defaults_are_the_papers() -> None:
    config = IBConfig("out", use_cpu=True, bf16=False)
    assert (config.alpha, config.objective.ce_share, config.layer, config.bottleneck_dim) == (0.1, 0.01, 20, 256)
    assert (config.logvar_min, config.logvar_max, config.form) == (-4.0, 4.0, "paper")
