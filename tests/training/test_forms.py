"""The forms beside `paper`: each loss against its formula in float64, who gets gradients, schedules, gauges."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from datasets import Dataset
from peft import LoraConfig
from torch.distributions import Normal, kl_divergence

from ibft.errors import UserError

from .conftest import lora

HEADED = ("corrected", "controlled", "in_path")


def batch_of(trainer: Any, size: int = 4) -> dict[str, torch.Tensor]:
    return dict(trainer.data_collator([trainer.train_dataset[index] for index in range(size)]))


def gauges_of(trainer: Any) -> dict[str, float]:
    return {
        name: values[-1] for name, values in trainer._metrics["train" if trainer.model.training else "eval"].items()
    }


def expected_terms(trainer: Any, batch: dict[str, torch.Tensor], noise: torch.Generator) -> dict[str, float]:
    """The corrected form written out: response positions, h / rms(h), final norm, torch.distributions, float64."""
    model = trainer.model.get_base_model().double().eval()
    output = model(batch["input_ids"], attention_mask=batch["attention_mask"], output_hidden_states=True)
    labels = batch["labels"][:, 1:]
    mask = labels != -100
    kls, ces, corrects = [], [], []
    for layer, head in zip(trainer.objective.layer_indices(4), trainer.bottleneck.double(), strict=True):
        hidden = output.hidden_states[layer][:, :-1][mask]
        hidden = hidden / (hidden.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        mean, scale = head.mean(hidden), (head.logvar(hidden).clamp(-4, 4) / 2).exp()
        kls.append(kl_divergence(Normal(mean, scale), Normal(torch.zeros_like(mean), torch.ones_like(mean))))
        epsilon = torch.randn(mean.shape, generator=noise).double()
        logits = model.lm_head(model.model.norm(head.up(mean + scale * epsilon)))
        ces.append(F.cross_entropy(logits, labels[mask]))
        corrects.append((logits.argmax(-1) == labels[mask]).double().mean())
    kl_per_token = torch.stack(kls).sum(-1).mean()
    return {
        "ce": F.cross_entropy(output.logits[:, :-1][mask], labels[mask]).item(),
        "ib/kl": kl_per_token.item() / kls[0].size(-1),
        "ib/kl_per_token": kl_per_token.item(),
        "ib/kl_per_dim": kl_per_token.item() / kls[0].size(-1),
        "ib/active_units": sum(float((kl.mean(0) > 0.01).sum()) for kl in kls) / len(kls),
        "ib/ce": torch.stack(ces).mean().item(),
        "ib/accuracy": torch.stack(corrects).mean().item(),
    }


@pytest.mark.parametrize("layer", [2, 0.5, [1, 3]], ids=["index", "fraction", "list"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_corrected_equals_float64_reference(make_trainer: Any, layer: Any, reduction: str) -> None:
    trainer = make_trainer(form="corrected", alpha=0.3, beta=0.7, layer=layer, kl_reduction=reduction)
    batch = batch_of(trainer)
    assert (batch["attention_mask"] == 0).any()
    noise = torch.Generator()
    noise.set_state(trainer._bottleneck.generator.get_state())
    trainer.model.eval()
    loss = trainer.compute_loss(trainer.model, dict(batch)).item()
    gauges = gauges_of(trainer)
    expected = expected_terms(trainer, batch, noise)
    if reduction == "sum":
        expected["ib/kl"] = expected["ib/kl_per_token"]
    for name, value in expected.items():
        assert gauges[name] == pytest.approx(value, rel=1e-4, abs=1e-5), name
    assert loss == pytest.approx(expected["ce"] + 0.3 * (expected["ib/kl"] + 0.7 * expected["ib/ce"]), rel=1e-5)


def test_a_final_norm_that_is_trained_is_the_one_that_is_applied(make_trainer: Any) -> None:
    trainer = make_trainer(form="corrected", peft_config=lora(modules_to_save=["norm"]))
    norm = trainer.model.get_base_model().model.norm
    trained = norm.modules_to_save["default"]
    before = trained.weight.detach().clone()
    trainer.train()
    assert not torch.equal(trained.weight, before)
    states = torch.randn(3, len(before))
    assert torch.equal(trainer._bottleneck._final_norm(states), trained(states))
    assert not torch.equal(trained(states), norm.original_module(states))


@pytest.mark.parametrize("form", HEADED)
def test_prompt_and_padding_do_not_count(make_trainer: Any, form: str) -> None:
    trainer = make_trainer(form=form, logvar_min=-40.0, logvar_max=-30.0)
    batch = batch_of(trainer, 3)
    trainer.model.eval()
    trainer.compute_loss(trainer.model, dict(batch))
    padded = {
        "input_ids": F.pad(batch["input_ids"], (0, 5)),
        "attention_mask": F.pad(batch["attention_mask"], (0, 5)),
        "labels": F.pad(batch["labels"], (0, 5), value=-100),
    }
    trainer.compute_loss(trainer.model, padded)
    for name in ("ib/kl", "ib/ce", "ib/kl_per_token"):
        before, after = trainer._metrics["eval"][name]
        assert after == pytest.approx(before, rel=1e-5), name


def test_scale_of_the_hidden_state_does_not_count(make_trainer: Any) -> None:
    kls = []
    for factor in (1.0, 30.0):
        trainer = make_trainer(form="corrected")
        trainer.model.eval()
        layer = trainer.model.get_base_model().model.layers[2]
        layer.register_forward_pre_hook(
            lambda _module, arguments, factor=factor: (factor * arguments[0], *arguments[1:]), prepend=True
        )
        trainer.compute_loss(trainer.model, batch_of(trainer))
        kls.append(gauges_of(trainer)["ib/kl"])
    assert kls[1] == pytest.approx(kls[0], rel=1e-4)


@pytest.mark.parametrize("form", ["corrected", "controlled", "entropy"])
def test_alpha_zero_equals_sft_bit_for_bit(make_trainer: Any, form: str) -> None:
    adapters = []
    for settings in ({"plain": True}, {"form": form, "alpha": 0.0}):
        trainer = make_trainer(**settings, max_steps=2)
        trainer.train()
        adapters.append({n: p.detach().clone() for n, p in trainer.model.named_parameters() if "lora_" in n})
    assert all(torch.equal(adapters[0][name], adapters[1][name]) for name in adapters[0])


@pytest.mark.parametrize("form", [*HEADED, "entropy"])
@pytest.mark.parametrize("checkpointing", [False, True, "reentrant"])
def test_gradients_with_and_without_checkpointing(make_trainer: Any, form: str, checkpointing: Any) -> None:
    gradients = []
    for chosen in (False, checkpointing):
        trainer = make_trainer(
            form=form,
            alpha=0.5,
            gradient_checkpointing=bool(chosen),
            **({"gradient_checkpointing_kwargs": {"use_reentrant": True}} if chosen == "reentrant" else {}),
        )
        trainer.state.max_steps = 10
        trainer.state.global_step = 4
        torch.manual_seed(0)  # the same dropout
        trainer.compute_loss(trainer.model.train(), batch_of(trainer)).backward()
        if form == "in_path":
            assert gauges_of(trainer)["ib/replaced"] == 0.5
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in trainer.bottleneck.parameters())
        gradients.append({n: p.grad for n, p in trainer.model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-6, msg=name)


def test_in_path_equals_a_model_with_the_mixture_in_it(make_trainer: Any) -> None:
    trainer = make_trainer(form="in_path", alpha=0.2, beta=0.1, peft_config=LoraConfig(r=4, lora_dropout=0.0))
    trainer.state.max_steps, trainer.state.global_step = 10, 4
    batch = batch_of(trainer)
    noise = torch.Generator()
    noise.set_state(trainer._bottleneck.generator.get_state())
    trainer.model.train()
    loss = trainer.compute_loss(trainer.model, dict(batch)).item()
    gauges = gauges_of(trainer)
    assert gauges["ib/replaced"] == 0.5
    trainer.remove_bottleneck()
    model = trainer.model.get_base_model().double().eval()
    head = trainer.bottleneck.double()[0]
    labels = batch["labels"][:, 1:]
    mask = labels != -100
    epsilon = torch.randn(int(mask.sum()), 16, generator=noise).double()

    def mix(_module: Any, arguments: Any, keywords: Any) -> Any:
        hidden = (arguments[0] if arguments else keywords["hidden_states"]).clone()
        chosen = hidden[:, :-1][mask]
        rms = (chosen.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        mean, logvar = head.mean(chosen / rms), head.logvar(chosen / rms).clamp(-4, 4)
        code = mean + (logvar / 2).exp() * epsilon
        hidden[:, :-1][mask] = 0.5 * chosen + 0.5 * rms * head.up(code)
        return ((hidden, *arguments[1:]), keywords) if arguments else ((), {**keywords, "hidden_states": hidden})

    handle = model.model.layers[2].register_forward_pre_hook(mix, with_kwargs=True)
    logits = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    handle.remove()
    ce = F.cross_entropy(logits[:, :-1][mask], labels[mask]).item()
    assert gauges["ce"] == pytest.approx(ce, rel=1e-4)
    assert loss == pytest.approx(ce + 0.2 * (gauges["ib/kl"] + 0.1 * gauges["ib/ce"]), rel=1e-4)


def test_in_path_ends_without_the_bottleneck_and_evaluates_without_it(make_trainer: Any) -> None:
    trainer = make_trainer(form="in_path", max_steps=8)
    trainer.train()
    shares = [entry["ib/replaced"] for entry in trainer.state.log_history if "loss" in entry]
    assert shares[0] == pytest.approx(0.5)
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] == 0
    trainer.model.eval()
    batch = batch_of(trainer)
    trainer.compute_loss(trainer.model, dict(batch))
    ce = gauges_of(trainer)["ce"]
    trainer.remove_bottleneck()
    outputs = trainer.model(**{k: batch[k] for k in ("input_ids", "attention_mask", "labels")})
    assert outputs.loss.item() == pytest.approx(ce, rel=1e-5)


def test_entropy_form_equals_its_formula_and_has_no_head(make_trainer: Any) -> None:
    trainer = make_trainer(form="entropy", alpha=0.3)
    batch = batch_of(trainer)
    trainer.model.eval()
    loss = trainer.compute_loss(trainer.model, dict(batch)).item()
    assert not list(trainer.bottleneck.parameters())
    model = trainer.model.get_base_model().double()
    output = model(batch["input_ids"], attention_mask=batch["attention_mask"], output_hidden_states=True)
    hidden = output.hidden_states[2][:, :-1][batch["labels"][:, 1:] != -100]
    hidden = hidden - hidden.mean(0)
    hidden = hidden / hidden.norm(dim=-1, keepdim=True)
    eigenvalues = torch.linalg.eigvalsh(hidden @ hidden.T / len(hidden))
    entropy = -eigenvalues.square().sum().log().item()
    gauges = gauges_of(trainer)
    assert gauges["ib/entropy"] == pytest.approx(entropy, rel=1e-4)
    assert loss == pytest.approx(gauges["ce"] + 0.3 * entropy, rel=1e-5)


def test_alpha_rises_over_the_warmup(make_trainer: Any) -> None:
    trainer = make_trainer(form="corrected", alpha=0.4, warmup=0.5, max_steps=8)
    trainer.train()
    alphas = [entry["ib/alpha"] for entry in trainer.state.log_history if "loss" in entry]
    assert alphas == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4, 0.4, 0.4, 0.4])
    for entry in trainer.state.log_history[:8]:
        assert entry["loss"] == pytest.approx(entry["ce"] + entry["ib/penalty"], rel=1e-5)
        expected = entry["ib/alpha"] * (entry["ib/kl"] + 0.01 * entry["ib/ce"])
        assert entry["ib/penalty"] == pytest.approx(expected, rel=1e-5)


def test_gradient_ratio_is_that_of_separate_backwards(make_trainer: Any) -> None:
    def gradients(**settings: Any) -> tuple[dict[str, torch.Tensor], Any]:
        trainer = make_trainer(peft_config=LoraConfig(r=4, lora_dropout=0.0), max_steps=1, **settings)
        trainer.current_gradient_accumulation_steps = trainer.state.logging_steps = 1
        trainer.training_step(trainer.model, batch_of(trainer))
        grads = {n: p.grad.clone() for n, p in trainer.model.named_parameters() if "lora_" in n}
        return grads, trainer

    plain, _ = gradients(alpha=0.0)
    both, trainer = gradients(alpha=0.5)
    of_penalty = math.sqrt(sum(float((both[n] - plain[n]).square().sum()) for n in plain))
    of_ce = math.sqrt(sum(float(plain[n].square().sum()) for n in plain))
    assert trainer._metrics["train"]["ib/grad_ratio"] == [pytest.approx(of_penalty / of_ce, rel=1e-3)]


def test_gradient_ratio_is_logged_at_logging_steps_only(make_trainer: Any) -> None:
    trainer = make_trainer(logging_steps=2, max_steps=4)
    seen = []
    original = trainer._is_gauged_forward
    trainer._is_gauged_forward = lambda: seen.append(original()) or seen[-1]
    trainer.train()
    assert seen == [False, True, False, True]
    assert [("ib/grad_ratio" in entry) for entry in trainer.state.log_history if "loss" in entry] == [True, True]


def test_measuring_the_gradients_changes_nothing(make_trainer: Any) -> None:
    adapters = []
    for steps in (1, 100):
        trainer = make_trainer(logging_steps=steps, max_steps=3, gradient_accumulation_steps=2)
        trainer.train()
        adapters.append([p.detach().clone() for p in trainer.model.parameters() if p.requires_grad])
    assert all(torch.equal(a, b) for a, b in zip(*adapters, strict=True))


@pytest.mark.slow
def test_predicting_a_share_of_the_tokens_is_unbiased(make_trainer: Any) -> None:
    """The mean gradient over many draws equals the gradient from all tokens, within four standard errors."""

    def gradient(trainer: Any) -> torch.Tensor:
        trainer.model.zero_grad()
        trainer.compute_loss(trainer.model, batch_of(trainer)).backward()
        return torch.cat([p.grad.flatten().double() for n, p in trainer.model.named_parameters() if "lora_B" in n])

    settings = {"form": "corrected", "alpha": 1.0, "beta": 1.0, "logvar_min": -40.0, "logvar_max": -30.0}
    whole = make_trainer(**settings)
    whole.model.eval()
    expected = gradient(whole)
    sampled = make_trainer(**settings, predict_tokens=0.25)
    sampled.model.eval()
    draws = torch.stack([gradient(sampled) for _ in range(300)])
    direction = expected / expected.norm()
    projected = draws @ direction
    assert projected.std() > 0
    error = projected.std() / math.sqrt(len(draws))
    assert abs(projected.mean() - expected.norm()) < 4 * error
    deviation = (draws.mean(0) - expected).norm() ** 2
    assert deviation < 4 * draws.var(0).sum() / len(draws)
    # and would notice a missing weight: a quarter of the tokens without it is 0.25 of their cross-entropy's gradient
    assert error < 0.1 * expected.norm()


def test_free_bits_stop_the_kl_below_the_floor(make_trainer: Any) -> None:
    trainer = make_trainer(form="corrected", free_bits=1000.0, alpha=1.0, beta=0.0)
    trainer.compute_loss(trainer.model.eval(), batch_of(trainer)).backward()
    assert gauges_of(trainer)["ib/kl"] == pytest.approx(1000)
    assert all(p.grad is None or p.grad.abs().sum() == 0 for p in trainer.bottleneck.parameters())


@pytest.mark.slow
def test_controlled_holds_its_set_point(make_trainer: Any) -> None:
    trainer = make_trainer(form="controlled", kl_target=2.0, max_steps=120, peft_config=LoraConfig(r=4))
    trainer.train()
    entries = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert entries[0]["ib/kl_per_token"] > 3
    held = [entry["ib/kl_per_token"] for entry in entries[60:]]
    assert sum(held) / len(held) == pytest.approx(2.0, rel=0.1)
    assert len({round(entry["ib/alpha"], 6) for entry in entries}) > 60  # it is the controller that holds it


def test_adaptive_weighs_each_example(make_trainer: Any, pairs: Dataset) -> None:
    weights = [0.0, 2.0] * 6
    weighted = make_trainer(
        form="corrected", adaptive=True, dataset=pairs.add_column("compression_weight", weights), alpha=1.0, beta=0.0
    )
    plain = make_trainer(form="corrected", alpha=1.0, beta=0.0)
    for trainer in (weighted, plain):
        trainer.model.eval()
    weighted.compute_loss(weighted.model, batch_of(weighted, 2))
    examples = [plain.train_dataset[index] for index in (0, 1)]
    kls, tokens = [], []
    for example in examples:
        plain.compute_loss(plain.model, dict(plain.data_collator([example])))
        kls.append(gauges_of(plain)["ib/kl"])
        tokens.append(sum(label != -100 for label in example["labels"]))
    expected = 2.0 * kls[1] * tokens[1] / sum(tokens)
    assert gauges_of(weighted)["ib/kl"] == pytest.approx(expected, rel=1e-5)


def test_adaptive_without_the_column_is_refused(make_trainer: Any) -> None:
    trainer = make_trainer(form="corrected", adaptive=True)
    with pytest.raises(UserError, match="compression_weight"):
        trainer.train()


@pytest.mark.parametrize("form", HEADED)
def test_accumulated_small_batches_equal_one_large_batch(make_trainer: Any, form: str) -> None:
    runs = []
    for size, accumulation in ((6, 1), (2, 3)):
        trainer = make_trainer(
            form=form,
            peft_config=LoraConfig(r=4, lora_dropout=0.0),
            per_device_train_batch_size=size,
            gradient_accumulation_steps=accumulation,
            max_steps=3,
            optim="sgd",
            logvar_min=-40.0,
            logvar_max=-30.0,
        )
        trainer.train()
        runs.append([entry for entry in trainer.state.log_history if "loss" in entry])
    for large, small in zip(*runs, strict=True):
        for gauge in ("loss", "ce", "ib/kl", "ib/ce", "ib/penalty", "ib/alpha"):
            assert small[gauge] == pytest.approx(large[gauge], rel=1e-4), gauge


@pytest.mark.parametrize("form", ["paper", "corrected"])
def test_whether_the_head_takes_a_share_of_the_clipping(make_trainer: Any, form: str) -> None:
    """Of a huge penalty that reaches the head alone, the paper's form lets the model's gradient shrink."""
    steps = []
    for alpha in (0.0, 1.0):
        trainer = make_trainer(
            form=form,
            alpha=alpha,
            beta=1e6,
            warmup=0.0,
            max_grad_norm=0.1,
            max_steps=1,
            optim="sgd",
            peft_config=LoraConfig(r=4, lora_dropout=0.0, target_modules=["layers.3.mlp.up_proj"]),  # above the layer
        )
        before = {n: p.detach().clone() for n, p in trainer.model.named_parameters() if "lora_B" in n}
        trainer.train()
        after = {n: p.detach() for n, p in trainer.model.named_parameters() if "lora_B" in n}
        steps.append(sum((after[n] - before[n]).norm() for n in before))
    assert (steps[1] < 0.5 * steps[0]) == (form == "paper")
