"""Batching: packed rows that keep examples apart, seeded length groups, and only labelled positions at `lm_head`."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase
from trl.kernels import ChunkedLogProbFunction

from ibft.data.tokens import TokenizedExample
from ibft.errors import UserError
from ibft.models.loading import load_model
from ibft.objectives.base import Objective
from ibft.objectives.dft import DFTObjective
from ibft.objectives.ft import FTObjective
from ibft.objectives.ib import IBObjective
from ibft.objectives.neftune import NEFTuneObjective
from ibft.run.recipe import Recipe
from ibft.run.sections import LoraConfig, ModelConfig, TrainConfig
from ibft.training import fit, forward
from ibft.training.batching import attention_share, choose_batching, keeps_apart, split_batch

from ..conftest import tiny_model

CPU = torch.device("cpu")
FT = FTObjective()
IB = IBObjective(form="corrected", layer=2, bottleneck_dim=16)
PAPER = IBObjective(form="paper", layer=2, bottleneck_dim=16)


def example(name: str, length: int, num_prompt: int, seed: int) -> TokenizedExample:
    ids = torch.randint(5, 250, (length,), generator=torch.Generator().manual_seed(seed)).tolist()
    return TokenizedExample(id=name, input_ids=ids, trained=((num_prompt, length),))


def examples_of(lengths: list[int]) -> list[TokenizedExample]:
    return [example(f"e{i}", length, 1 + (3 * i) % (length - 1), i) for i, length in enumerate(lengths)]


EXAMPLES = examples_of([9, 24, 5, 17])


@pytest.fixture
def recipe(tiny_model_folder: Path) -> Recipe:
    return Recipe(
        name="run",
        seed=3,
        model=ModelConfig(name=str(tiny_model_folder), dtype="float32", device="cpu"),
        train=TrainConfig(
            max_steps=2,
            batch_size=4,
            learning_rate=1e-2,
            log_every=1,
            batching="padded",
            lora=LoraConfig(rank=4, dropout=0.0),
        ),
    )


def with_train(recipe: Recipe, **changes: Any) -> Recipe:
    return msgspec.structs.replace(recipe, train=msgspec.structs.replace(recipe.train, **changes))


def with_model(recipe: Recipe, **changes: Any) -> Recipe:
    return msgspec.structs.replace(recipe, model=msgspec.structs.replace(recipe.model, **changes))


class Setup:
    """Makes the stage's trainer on a tiny model, adapter moved off its start (where half of its gradient is 0)."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
        self.tokenizer, self.folder = tokenizer, folder

    def __call__(
        self, recipe: Recipe, objective: Objective = FT, examples: list[TokenizedExample] | None = None
    ) -> Any:
        trainer: Any = fit.make_trainer(recipe, objective, self.tokenizer, examples or EXAMPLES, self.folder)
        generator = torch.Generator().manual_seed(1)
        for name, parameter in trainer.model.named_parameters():
            if "lora_B" in name:
                parameter.data.normal_(std=0.1, generator=generator)
        trainer.current_gradient_accumulation_steps = 1
        return trainer


@pytest.fixture
def setup(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> Setup:
    return Setup(tokenizer, tmp_path)


class Result:
    """One forward and backward: the loss, each labelled token's log-probability in order, and all gradients."""

    def __init__(self, trainer: Any, examples: list[TokenizedExample]) -> None:
        batch = trainer.data_collator([{"input_ids": e.input_ids, "labels": e.labels} for e in examples])
        outputs: list[Any] = []
        handle = trainer.model.register_forward_hook(lambda *arguments: outputs.append(arguments[-1]))
        num_items = sum(label != -100 for e in examples for label in e.labels[1:])
        trainer.model.train()
        loss = trainer.compute_loss(trainer.model, batch, num_items_in_batch=torch.tensor(num_items))
        loss.backward()
        handle.remove()
        self.loss = loss.item()
        self.log_probs = outputs[0].log_probs[outputs[0].label_mask].detach()
        self.gradients = {n: p.grad for n, p in trainer.model.named_parameters() if p.grad is not None}
        trainer.model.zero_grad()


def assert_same(ours: Result, theirs: Result, tolerance: float) -> None:
    assert ours.loss == pytest.approx(theirs.loss, rel=tolerance, abs=tolerance)
    torch.testing.assert_close(ours.log_probs, theirs.log_probs, rtol=tolerance, atol=tolerance)
    assert ours.gradients.keys() == theirs.gradients.keys()
    for name, gradient in theirs.gradients.items():
        scale = float(gradient.abs().max())
        torch.testing.assert_close(ours.gradients[name], gradient, rtol=tolerance, atol=tolerance * scale, msg=name)


def alone(folder: Path, tokens: TokenizedExample) -> torch.Tensor:
    """The log-probabilities of the labelled tokens, by a forward of the one example through plain transformers."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)
    with torch.no_grad():
        log_probs = model(torch.tensor([tokens.input_ids])).logits[0, :-1].log_softmax(-1)
    labels = torch.tensor(tokens.labels[1:])
    rows = (labels != -100).nonzero()[:, 0]
    return log_probs[rows, labels[rows]].float()


# Packed


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("objective", [FT, IB], ids=["ft", "ib"])
def test_packed_batch_has_the_values_of_the_padded_one(
    recipe: Recipe, setup: Setup, attention: str, objective: Objective
) -> None:
    recipe = with_model(recipe, attention=attention)
    padded = setup(recipe, objective)
    packed = setup(with_train(recipe, batching="packed"), objective)
    assert padded.model.config._attn_implementation == attention
    batch = packed.data_collator([{"input_ids": e.input_ids, "labels": e.labels} for e in EXAMPLES])
    assert batch["input_ids"].shape == (1, sum(len(e.input_ids) for e in EXAMPLES))
    assert batch["position_ids"][0].tolist() == [i for e in EXAMPLES for i in range(len(e.input_ids))]
    assert_same(Result(packed, EXAMPLES), Result(padded, EXAMPLES), 1e-5)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_examples_do_not_see_each_other(
    recipe: Recipe, setup: Setup, tiny_model_folder: Path, attention: str
) -> None:
    trainer = fit.make_trainer(
        with_train(with_model(recipe, attention=attention), batching="packed"),
        FT,
        setup.tokenizer,
        EXAMPLES,
        setup.folder,
    )  # the adapter at its start: the base model
    log_probs = Result(trainer, EXAMPLES).log_probs
    expected = torch.cat([alone(tiny_model_folder, e) for e in EXAMPLES])
    torch.testing.assert_close(log_probs, expected, rtol=1e-5, atol=1e-5)
    other = [EXAMPLES[0], example("other", 24, 3, 99), *EXAMPLES[2:]]
    counts = [sum(label != -100 for label in e.labels[1:]) for e in EXAMPLES]
    before, changed, after = Result(trainer, other).log_probs.split(
        [counts[0], sum(label != -100 for label in other[1].labels[1:]), sum(counts[2:])]
    )
    torch.testing.assert_close(before, expected[: counts[0]], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(after, expected[counts[0] + counts[1] :], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(changed, alone(tiny_model_folder, other[1]), rtol=1e-5, atol=1e-5)


def test_packed_paper_form_leaves_padding_out_of_its_kl(recipe: Recipe, setup: Setup) -> None:
    padded, packed = (setup(with_train(recipe, batching=name), PAPER) for name in ("padded", "packed"))
    kl = []
    for trainer in (padded, packed):
        batch = trainer.data_collator([{"input_ids": e.input_ids, "labels": e.labels} for e in EXAMPLES])
        hidden = trainer.model(**{k: v for k, v in batch.items() if k != "labels"}, output_hidden_states=True)
        mask = batch.get("attention_mask", torch.ones_like(batch["input_ids"])).bool()
        with torch.no_grad():
            mean, logvar = trainer.bottleneck[0].encode(hidden.hidden_states[2][mask])
        variance = logvar.exp()
        kl.append(((variance + mean**2 - 1 - logvar) / 2).mean().item())
        Result(trainer, EXAMPLES)
    assert kl[0] == pytest.approx(kl[1], rel=1e-4)
    assert packed._metrics["train"]["ib/kl"] == [pytest.approx(kl[1], rel=1e-4)]
    assert padded._metrics["train"]["ib/kl"] != [pytest.approx(kl[1], rel=1e-2)]


def test_packed_training_ends_in_the_adapter_of_padded_training(recipe: Recipe, setup: Setup) -> None:
    weights = []
    for how in ("padded", "packed"):
        changes = {"batching": how, "max_steps": 3, "batch_size": 3, "gradient_accumulation": 2}
        trainer = setup(with_train(recipe, **changes), examples=examples_of([9, 24, 5, 17, 30, 6, 11]))
        trainer.train()
        weights.append({n: p.detach() for n, p in trainer.model.named_parameters() if "lora_" in n})
        assert trainer.state.global_step == 3
    for name, weight in weights[0].items():
        torch.testing.assert_close(weights[1][name], weight, rtol=1e-3, atol=1e-4, msg=name)


def test_noise_on_packed_embeddings_is_as_strong_as_on_padded_ones(recipe: Recipe, setup: Setup) -> None:
    data = examples_of([20] * 4)
    spread = []
    for how in ("padded", "packed"):
        trainer = setup(with_train(recipe, batching=how, max_steps=1), NEFTuneObjective(noise_alpha=5.0), data)
        embedding = trainer.model.get_input_embeddings()
        noise: list[torch.Tensor] = []

        # First among the hooks that run after transformers', which adds the noise.
        def observe(module: Any, arguments: Any, output: Any, noise: list[torch.Tensor] = noise) -> None:
            noise.append(output.detach() - module.weight[arguments[0]].detach())

        on_step = trainer.training_step

        def training_step(
            *arguments: Any, on_step: Any = on_step, observe: Any = observe, embedding: Any = embedding
        ) -> Any:
            embedding.register_forward_hook(observe)
            return on_step(*arguments)

        trainer.training_step = training_step
        trainer.train()
        spread.append(noise[0].abs().max().item())
    assert spread[0] == pytest.approx(5.0 / (20 * 64) ** 0.5, rel=0.01)  # uniform in +- alpha / sqrt(T H)
    assert spread[1] == pytest.approx(spread[0], rel=0.01)


FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {},
    "qwen3": {"head_dim": 8},
    "deepseek_v3": {
        "moe_intermediate_size": 16, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 2, "topk_group": 1,
        "n_shared_experts": 1, "q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8,
        "v_head_dim": 8, "first_k_dense_replace": 1,
    },
    "gemma2": {"head_dim": 8},
    "gemma3_text": {"head_dim": 8},
    "starcoder2": {},
    "gpt_neox": {},
}  # fmt: skip


def tiny(family: str, **settings: Any) -> Any:
    return tiny_model(family, **({"vocab_size": 64, "num_key_value_heads": 4, "pad_token_id": 0} | settings)).eval()


@pytest.mark.parametrize("family", FAMILIES)
def test_families_that_can_be_packed(family: str) -> None:
    model = tiny(family, **FAMILIES[family])
    assert keeps_apart(model)
    first, second = [7, 3, 9, 4, 5], [4, 4, 8]
    with torch.no_grad():
        positions = torch.tensor([[0, 1, 2, 3, 4, 0, 1, 2]])
        row = model(torch.tensor([first + second]), position_ids=positions, use_cache=False).logits[0]
        expected = [model(torch.tensor([ids]), use_cache=False).logits[0] for ids in (first, second)]
    torch.testing.assert_close(row, torch.cat(expected), rtol=1e-4, atol=1e-5)


def test_model_that_mixes_packed_examples_is_found_out(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    bloom = tiny("bloom", n_layer=2, n_head=4)  # ALiBi: no position ids
    assert not keeps_apart(bloom)
    model = load_model(recipe.model)
    inner = model.model.forward

    def forward(input_ids: Any, position_ids: Any, **keywords: Any) -> Any:
        return inner(input_ids, position_ids=position_ids, attention_mask=torch.ones_like(input_ids), **keywords)

    monkeypatch.setattr(model.model, "forward", forward)  # takes position ids, but sees the whole row
    assert not keeps_apart(model)
    with pytest.raises(UserError, match=r"LlamaForCausalLM lets examples in one row see each other\. Use sorted"):
        choose_batching("packed", model, [5, 5], 2, CPU)
    assert choose_batching("auto", model, [5, 5], 2, CPU) == "sorted"


# Auto


def test_auto_is_decided_by_the_share_of_attention(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(recipe.model)
    # Per layer: q 64x64, k and v 64x32, o 64x64, three of the MLP 64x128. Attention: 2 * row * 64.
    weights = 2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 128
    assert attention_share(model, 100.0) == pytest.approx(2 * 100 * 64 / weights)
    limit = 0.1 * weights / (2 * 64)  # tokens a row
    fits, too_long = int(limit / 4), int(limit / 4) + 1
    assert choose_batching("auto", model, [fits] * 10, 4, CPU) == "packed"
    assert choose_batching("auto", model, [too_long] * 10, 4, CPU) == "sorted"
    assert choose_batching("auto", model, [too_long] * 10, 1, CPU) == "padded"
    assert choose_batching("padded", model, [fits] * 10, 4, CPU) == "padded"
    # A GPU's masked attention is slower against its matrix products.
    assert choose_batching("auto", model, [fits] * 10, 4, torch.device("cuda")) == "sorted"
    assert choose_batching("auto", model, [int(0.3 * fits)] * 10, 4, torch.device("cuda")) == "packed"
    monkeypatch.setattr(model.config, "_attn_implementation_internal", "flash_attention_2")
    assert choose_batching("auto", model, [10 * too_long] * 10, 4, CPU) == "packed"


# Sorted


def batches(trainer: Any) -> list[list[list[int]]]:
    return [split_batch(batch) for batch in trainer.get_train_dataloader()]


def test_sorted_batches_are_the_same_for_every_arm_and_whole(recipe: Recipe, setup: Setup) -> None:
    lengths = [5 + (37 * i) % 60 for i in range(40)]
    data = examples_of(lengths)
    recipe = with_train(recipe, batching="sorted", batch_size=2)
    orders = []
    for objective in (FT, IB):
        trainer = setup(recipe, objective, data)
        torch.rand(len(orders))  # what one arm draws from the global generator must not matter to the other
        orders.append(batches(trainer))
    assert orders[0] == orders[1]
    rows = [row for batch in orders[0] for row in batch]
    assert sorted(rows) == sorted(e.input_ids for e in data)
    padding = sum(2 * max(map(len, batch)) - sum(map(len, batch)) for batch in orders[0])
    random = batches(setup(with_train(recipe, batching="padded"), FT, data))
    assert padding < 0.3 * sum(2 * max(map(len, batch)) - sum(map(len, batch)) for batch in random)
    longest = [max(map(len, batch)) for batch in orders[0]]
    assert longest[0] == max(lengths)
    assert sorted(longest[1:], reverse=True) != longest[1:]
    other_seed = batches(setup(msgspec.structs.replace(recipe, seed=4), FT, data))
    assert other_seed != orders[0]
    trainer.state.epoch = 1.0
    assert batches(trainer) != orders[0]


def test_sorted_run_resumes_with_the_same_batches(recipe: Recipe, setup: Setup, tmp_path: Path) -> None:
    data = examples_of([5 + (37 * i) % 60 for i in range(16)])
    recipe = with_train(
        recipe, batching="sorted", batch_size=2, max_steps=12, save_every=11, lora=LoraConfig(rank=4, dropout=0.2)
    )  # 8 steps an epoch: step 11 is in the second
    seen: dict[str, list[Any]] = {"whole": [], "resumed": []}

    def watched(name: str) -> Any:
        trainer: Any = fit.make_trainer(recipe, FT, setup.tokenizer, data, tmp_path / "run")
        compute = trainer.compute_loss

        def compute_loss(model: Any, inputs: Any, *arguments: Any, **keywords: Any) -> Any:
            seen[name].append(split_batch(inputs))
            return compute(model, inputs, *arguments, **keywords)

        trainer.compute_loss = compute_loss
        return trainer

    whole = watched("whole")
    whole.train()
    resumed = watched("resumed")
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoints" / "checkpoint-11"))
    assert seen["resumed"] == seen["whole"][11:]
    assert seen["whole"][8:] != seen["whole"][:4]
    for ours, theirs in zip(resumed.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


# Only labelled positions at `lm_head`


@pytest.fixture
def projected(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[int]]:
    """How many positions each call of a function that projects onto the vocabulary was given, by its owner."""
    calls: dict[str, list[int]] = {"trl": [], "ibft": []}
    apply, ours = ChunkedLogProbFunction.apply, forward.token_losses

    def spy_trl(hidden: Any, *arguments: Any) -> Any:
        calls["trl"].append(len(hidden))
        return apply(hidden, *arguments)

    def spy_ours(hidden: Any, *arguments: Any) -> Any:
        calls["ibft"].append(len(hidden))
        return ours(hidden, *arguments)

    monkeypatch.setattr(ChunkedLogProbFunction, "apply", spy_trl)
    monkeypatch.setattr(forward, "token_losses", spy_ours)
    return calls


@pytest.mark.parametrize("how", ["padded", "packed"])
@pytest.mark.parametrize("objective", [FT, DFTObjective(), IB, PAPER], ids=["ft", "dft", "corrected", "paper"])
def test_only_labelled_positions_are_projected_and_nothing_else_changes(
    recipe: Recipe, setup: Setup, projected: dict[str, list[int]], monkeypatch: pytest.MonkeyPatch, how: str,
    objective: Objective,
) -> None:  # fmt: skip
    recipe = with_train(recipe, batching=how)
    ours = Result(setup(recipe, objective), EXAMPLES)
    num_labelled = sum(label != -100 for e in EXAMPLES for label in e.labels[1:])
    assert projected == {"trl": [0], "ibft": [num_labelled]}
    monkeypatch.setattr(fit.StageTrainer, "labelled_only", False)
    theirs = Result(setup(recipe, objective), EXAMPLES)
    assert projected["trl"][1] > 1.4 * num_labelled
    assert ours.loss == pytest.approx(theirs.loss, rel=1e-6)
    assert_same(ours, theirs, 3e-6)  # another order of summation, in float32


def test_output_is_the_one_that_trl_has_with_triton(recipe: Recipe, setup: Setup) -> None:
    trainer = setup(recipe)
    batch = trainer.data_collator([{"input_ids": e.input_ids, "labels": e.labels} for e in EXAMPLES])
    output = trainer.model(**batch, fused_lm_head=True)
    assert output.log_probs.shape == output.entropy.shape == output.is_top1.shape == (4, batch["labels"].size(1) - 1)
    assert torch.equal(output.label_mask, batch["labels"][:, 1:] != -100)
    assert output.log_probs[~output.label_mask].abs().max() == 0
    assert output.loss.item() == pytest.approx(-output.log_probs.sum().item() / int(output.label_mask.sum()), rel=1e-6)
    weighted = trainer.model(**batch, fused_lm_head=True, num_items_in_batch=100)
    assert weighted.loss.item() == pytest.approx(-output.log_probs.sum().item() / 100, rel=1e-6)


def test_trained_head_gets_the_gradient_that_trl_gives_it(
    recipe: Recipe, setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = with_train(recipe, lora=None)
    ours = Result(setup(recipe), EXAMPLES)
    monkeypatch.setattr(fit.StageTrainer, "labelled_only", False)
    theirs = Result(setup(recipe), EXAMPLES)
    assert "model.embed_tokens.weight" in ours.gradients  # tied to lm_head
    assert ours.loss == pytest.approx(theirs.loss, rel=1e-6)
    assert_same(ours, theirs, 3e-6)  # another order of summation, in float32


def test_metrics_of_trl_are_kept(recipe: Recipe, setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = setup(recipe)
    Result(ours, EXAMPLES)
    monkeypatch.setattr(fit.StageTrainer, "labelled_only", False)
    theirs = setup(recipe)
    Result(theirs, EXAMPLES)
    for name in ("entropy", "mean_token_accuracy", "num_tokens"):
        assert ours._metrics["train"][name] == pytest.approx(theirs._metrics["train"][name], rel=1e-5), name


@pytest.mark.parametrize("objective", [FT, IB], ids=["ft", "ib"])
def test_batch_without_labels_gives_zero(recipe: Recipe, setup: Setup, objective: Objective) -> None:
    nothing = [TokenizedExample(e.id, e.input_ids, trained=((len(e.input_ids), len(e.input_ids)),)) for e in EXAMPLES]
    result = Result(setup(recipe, objective), nothing)
    assert result.loss == 0
    assert len(result.log_probs) == 0
    assert all(gradient.abs().max() == 0 for name, gradient in result.gradients.items() if "lora_" in name)


def test_forwards_without_labels_are_left_alone(recipe: Recipe, setup: Setup, tiny_model_folder: Path) -> None:
    trainer = fit.make_trainer(recipe, FT, setup.tokenizer, EXAMPLES, setup.folder)
    plain = AutoModelForCausalLM.from_pretrained(tiny_model_folder, dtype=torch.float32)
    ids = torch.tensor([EXAMPLES[0].input_ids])
    with torch.no_grad():
        assert torch.equal(trainer.model.eval()(ids).logits, plain(ids).logits)
        assert torch.equal(trainer.model(ids, labels=ids).loss, plain(ids, labels=ids).loss)
        settings = {"max_new_tokens": 4, "do_sample": False}
        assert torch.equal(trainer.model.generate(ids, **settings), plain.generate(ids, **settings))
    assert not trainer.model.get_base_model().model._forward_hooks


# Who was in the batch


@pytest.mark.parametrize("how", ["padded", "packed", "sorted"])
def test_not_finite_loss_names_the_examples_of_its_batch_alone(
    recipe: Recipe, setup: Setup, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    data = examples_of([9, 24, 5, 17, 30, 6, 11, 8, 13, 21])
    recipe = with_train(recipe, batching=how, batch_size=2, gradient_accumulation=2)
    trainer = setup(recipe, FT, data)
    seen: list[list[list[int]]] = []
    compute = trainer.compute_loss

    def poisoned(model: Any, inputs: dict[str, Any], *arguments: Any, **keywords: Any) -> Any:
        if how == "packed":  # found anew, by the borders alone
            starts = [*(inputs["position_ids"][0] == 0).nonzero()[:, 0].tolist(), inputs["input_ids"].size(1)]
            seen.append([inputs["input_ids"][0, a:b].tolist() for a, b in itertools.pairwise(starts)])
        else:
            seen.append([row[row != 0].tolist() for row in inputs["input_ids"]])
        loss = compute(model, inputs, *arguments, **keywords)
        return loss * float("inf") if len(seen) == 4 else loss

    trainer.compute_loss = poisoned
    with pytest.raises(UserError, match="the loss is inf at step 2") as caught:
        trainer.train()
    named = str(caught.value).partition("(examples ")[2].partition(")")[0].split(", ")
    of_step_2 = [row for batch in seen[2:] for row in batch]
    assert sorted(named) == sorted(e.id for e in data if e.input_ids in of_step_2)
    assert len(named) == 4


# Attention


def test_attention_is_the_recipes(recipe: Recipe) -> None:
    for name in ("eager", "sdpa"):
        assert load_model(with_model(recipe, attention=name).model).config._attn_implementation == name
    with pytest.raises(UserError, match="flash_attention_2, and the package flash-attn is not usable here"):
        load_model(with_model(recipe, attention="flash_attention_2").model)
