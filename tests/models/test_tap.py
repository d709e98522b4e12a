"""The tap reads `hidden_states[k]`, once a forward, and its gradient survives gradient checkpointing."""

from __future__ import annotations

import pytest
import torch
from transformers import PreTrainedModel

from ibft.errors import UserError
from ibft.models.tap import HiddenStateTap, decoder_layers

from ..conftest import tiny_model


def llama() -> PreTrainedModel:
    return tiny_model(vocab_size=50, num_hidden_layers=3)


def gpt2() -> PreTrainedModel:
    return tiny_model("gpt2", vocab_size=50, num_hidden_layers=3, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0)


@pytest.mark.parametrize("make", [llama, gpt2])
@pytest.mark.parametrize("layer", [1, 2])
def test_reads_the_hidden_state_of_its_index(make: type[PreTrainedModel], layer: int) -> None:
    model = make()
    tap = HiddenStateTap(decoder_layers(model)[layer])
    tap.arm()
    output = model(torch.arange(12).reshape(2, 6), output_hidden_states=True)
    assert torch.equal(tap.take(), output.hidden_states[layer])


def test_only_the_first_firing_after_arming_counts() -> None:
    model = llama()
    tap = HiddenStateTap(decoder_layers(model)[1])
    model(torch.arange(4)[None])
    with pytest.raises(AssertionError):
        tap.take()
    tap.arm()
    model(torch.arange(4)[None])
    model(torch.arange(6)[None])
    assert tap.take().shape == (1, 4, 32)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_gradients_are_those_without_checkpointing(use_reentrant: bool) -> None:
    gradients = []
    for checkpointing in (False, True):
        model = llama().double().train()
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
            model.enable_input_require_grads()
        tap = HiddenStateTap(decoder_layers(model)[2])
        tap.arm()
        logits = model(torch.arange(12).reshape(2, 6)).logits
        (logits.square().mean() + tap.take().square().mean()).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in decoder_layers(model).parameters()]))
    assert gradients[0].abs().sum() > 0
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-9, atol=1e-12)


def test_model_without_layers_is_refused() -> None:
    model = llama()
    model.config.num_hidden_layers = 7
    with pytest.raises(UserError, match="no list of its 7 layers"):
        decoder_layers(model)
