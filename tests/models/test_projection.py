"""Chunked token losses against full logits in float64; the projection against the models' own logits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ibft.errors import UserError
from ibft.models import projection as module
from ibft.models.projection import Projection, TokenLoss, cross_entropy, labelled_states, token_losses

from ..conftest import tiny_model

HIDDEN, VOCABULARY, CHUNK = 16, 50, 8


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", CHUNK)


def make_head(frozen: bool, bias: bool = False, dtype: torch.dtype = torch.float32) -> nn.Linear:
    torch.manual_seed(1)
    return nn.Linear(HIDDEN, VOCABULARY, bias=bias, dtype=dtype).requires_grad_(not frozen)


def make_batch(num_positions: int) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states, targets, and the gradient that reaches each token's loss."""
    generator = torch.Generator().manual_seed(2)
    hidden = (torch.randn(num_positions, HIDDEN, generator=generator) * 3).requires_grad_()
    targets = torch.randint(VOCABULARY, (num_positions,), generator=generator)
    return hidden, targets, torch.randn(num_positions, generator=generator)


def margin_to_base(logits: Tensor, targets: Tensor, base_logits: Tensor | None) -> Tensor:
    """A loss that is not a cross-entropy, reads the base and weighs tokens by a detached quantity."""
    assert base_logits is not None
    rows = torch.arange(len(targets))
    weight = logits.softmax(dim=-1)[rows, targets].detach()
    return weight * (logits - base_logits).square().mean(dim=-1) + logits[rows, targets].sin()


def view_of_logits(logits: Tensor, targets: Tensor, base_logits: Tensor | None) -> Tensor:
    return logits[:, 3]


def full_logits(hidden: Tensor, head: nn.Linear, scale: float, softcap: float | None) -> Tensor:
    logits = scale * head(hidden)
    return logits if softcap is None else softcap * torch.tanh(logits / softcap)


@pytest.mark.parametrize("num_positions", [1, CHUNK - 1, CHUNK, 2 * CHUNK + 4])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize(("scale", "softcap"), [(1.0, None), (0.3, None), (1.0, 2.0), (1.7, 3.0)])
@pytest.mark.parametrize("loss", [cross_entropy, margin_to_base, view_of_logits])
def test_equals_full_logits_in_float64(
    loss: TokenLoss, scale: float, softcap: float | None, frozen: bool, bias: bool, num_positions: int
) -> None:
    head = make_head(frozen, bias)
    hidden, targets, grad_output = make_batch(num_positions)
    base_hidden = hidden.detach() + 0.5
    losses = token_losses(hidden, targets, Projection(head, scale, softcap), loss, base_hidden)
    losses.loss.backward(grad_output)

    exact_head = make_head(frozen, bias).double()
    exact_hidden = hidden.detach().double().requires_grad_()
    logits = full_logits(exact_hidden, exact_head, scale, softcap)
    base_logits = full_logits(base_hidden.double(), exact_head, scale, softcap).detach()
    distribution = torch.distributions.Categorical(logits=logits.detach())
    expected = -torch.log_softmax(logits, -1)[range(num_positions), targets]
    if loss is not cross_entropy:
        expected = loss(logits, targets, base_logits)
    expected.backward(grad_output.double())

    close = {"rtol": 1e-5, "atol": 1e-5, "check_dtype": False}
    torch.testing.assert_close(losses.loss, expected, **close)
    torch.testing.assert_close(losses.log_prob, distribution.log_prob(targets), **close)
    torch.testing.assert_close(losses.entropy, distribution.entropy(), **close)
    assert losses.is_top1.tolist() == (logits.argmax(dim=-1) == targets).tolist()
    torch.testing.assert_close(hidden.grad, exact_hidden.grad, **close)
    for ours, theirs in zip(head.parameters(), exact_head.parameters(), strict=True):
        if frozen:
            assert ours.grad is None
        else:
            torch.testing.assert_close(ours.grad, theirs.grad, **close)
    assert losses.loss.requires_grad
    assert not losses.log_prob.requires_grad
    assert not losses.entropy.requires_grad
    assert {values.dtype for values in losses[:3]} == {torch.float32}


def test_labelled_states_predict_the_next_token() -> None:
    hidden = torch.arange(8.0).reshape(2, 4, 1)
    labels = torch.tensor([[-100, -100, 5, 6], [7, 8, -100, -100]])
    next_labels = labels[:, 1:]
    padded = torch.cat([next_labels, torch.full((2, 1), -100)], dim=1)  # as long as the input, as for packed rows
    for given in (next_labels, padded):
        mask = given != -100
        # Row 0: positions 1 and 2 predict 5 and 6. Row 1: position 0 predicts 8; token 7 has no predecessor.
        assert labelled_states(hidden, mask).flatten().tolist() == [1.0, 2.0, 4.0]
        assert given[mask].tolist() == [5, 6, 8]


class ScaledLinear(nn.Linear):
    """Not a plain linear layer: its weight alone does not say what it computes."""

    def forward(self, hidden: Tensor) -> Tensor:
        return super().forward(hidden) * 2


def test_any_other_head_is_called() -> None:
    torch.manual_seed(1)
    head = ScaledLinear(HIDDEN, VOCABULARY).requires_grad_(False)
    hidden, targets, grad_output = make_batch(20)
    token_losses(hidden, targets, Projection(head)).loss.backward(grad_output)
    exact_hidden = hidden.detach().double().requires_grad_()
    logits = 2 * nn.functional.linear(exact_hidden, head.weight.double(), head.bias.double())
    (-torch.log_softmax(logits, -1)[range(20), targets]).backward(grad_output.double())
    torch.testing.assert_close(hidden.grad, exact_hidden.grad, rtol=1e-5, atol=1e-5, check_dtype=False)


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("loss", [cross_entropy, margin_to_base])
def test_no_position_gives_no_loss_and_zero_gradient(frozen: bool, loss: TokenLoss) -> None:
    hidden_BTH = torch.randn(2, 3, HIDDEN, requires_grad=True)
    states, targets = labelled_states(hidden_BTH, torch.zeros(2, 2, dtype=torch.bool)), torch.empty(0).long()
    losses = token_losses(states, targets, Projection(make_head(frozen)), loss, states.detach())
    assert [len(values) for values in losses] == [0, 0, 0, 0]
    assert losses.is_top1.dtype == torch.bool
    losses.loss.sum().backward()
    assert hidden_BTH.grad is not None
    assert hidden_BTH.grad.abs().sum() == 0


@pytest.mark.parametrize("frozen", [True, False])
def test_bfloat16_head_reduces_in_float32(frozen: bool) -> None:
    head = make_head(frozen, dtype=torch.bfloat16)
    hidden, targets, _ = make_batch(20)
    losses = token_losses(hidden, targets, Projection(head))
    losses.loss.sum().backward()
    logits = head(hidden.detach().bfloat16()).detach().double()
    expected = -torch.log_softmax(logits, -1)[range(20), targets]
    assert losses.loss.dtype == torch.float32
    torch.testing.assert_close(losses.loss.double(), expected, rtol=1e-6, atol=1e-6)
    assert hidden.grad is not None
    assert hidden.grad.dtype == torch.float32
    exact = (logits.softmax(-1) - nn.functional.one_hot(targets, VOCABULARY)) @ head.weight.detach().double()
    torch.testing.assert_close(hidden.grad.double(), exact, rtol=2e-2, atol=2e-2)


def test_autocast_projects_in_its_dtype_and_reduces_in_float32() -> None:
    head = make_head(frozen=True)
    hidden, targets, _ = make_batch(20)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = token_losses(hidden, targets, Projection(head))
        logits = head(hidden.detach()).double()
    assert losses.loss.dtype == torch.float32
    expected = torch.distributions.Categorical(logits=logits)
    torch.testing.assert_close(losses.loss.double(), -expected.log_prob(targets), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(losses.entropy.double(), expected.entropy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("frozen", [True, False])
def test_without_gradient_nothing_is_kept(frozen: bool) -> None:
    hidden, targets, _ = make_batch(20)
    with torch.no_grad():
        losses = token_losses(hidden, targets, Projection(make_head(frozen)), margin_to_base, hidden)
    assert not losses.loss.requires_grad
    head = make_head(frozen)
    expected = margin_to_base(head(hidden), targets, head(hidden))
    torch.testing.assert_close(losses.loss, expected.detach())


def test_no_gradient_reaches_the_base() -> None:
    hidden, targets, _ = make_batch(20)
    base = hidden.detach().clone().requires_grad_()
    for frozen in (True, False):
        token_losses(hidden, targets, Projection(make_head(frozen)), margin_to_base, base).loss.sum().backward()
    assert base.grad is None


class LargestTensor(TorchDispatchMode):
    """Remembers the number of elements of the largest tensor that any operation returns, and of those over tokens."""

    num_elements = num_logits = 0

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), keywords: Any = None) -> Any:
        result = function(*arguments, **(keywords or {}))
        for value in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(value, Tensor):
                self.num_elements = max(self.num_elements, value.numel())
                if value.shape[-1:] == (VOCABULARY,) and value.shape[0] != HIDDEN:  # the weight's transpose
                    self.num_logits = max(self.num_logits, value.numel())
        return result


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("loss", [cross_entropy, margin_to_base])
def test_never_makes_more_logits_than_a_chunk(frozen: bool, loss: TokenLoss) -> None:
    head = make_head(frozen)
    hidden, targets, grad_output = make_batch(10 * CHUNK)
    with LargestTensor() as largest:
        losses = token_losses(hidden, targets, Projection(head, 1.5, 4.0), loss, hidden.detach())
        losses.loss.backward(grad_output)
    assert largest.num_logits == CHUNK * VOCABULARY
    assert largest.num_elements == hidden.numel() < len(hidden) * VOCABULARY


def test_nothing_of_vocabulary_size_is_kept_for_the_backward() -> None:
    hidden, targets, _ = make_batch(10 * CHUNK)
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (kept.append(t.numel()), t)[1], lambda t: t):
        for frozen in (True, False):
            token_losses(hidden, targets, Projection(make_head(frozen)))
    assert max(kept) <= max(hidden.numel(), HIDDEN * VOCABULARY)


@pytest.mark.parametrize(
    ("family", "settings", "scale", "softcap"),
    [
        ("llama", {}, 1.0, None),
        ("llama", {"tie_word_embeddings": True}, 1.0, None),
        ("gemma2", {"head_dim": 8, "final_logit_softcapping": 1.5}, 1.0, 1.5),
        ("cohere", {"logit_scale": 0.25}, 0.25, None),
        ("granite", {"logits_scaling": 4.0}, 0.25, None),
    ],
    ids=["llama", "llama-tied", "gemma2", "cohere", "granite"],
)
def test_projection_is_what_the_model_does(
    family: str, settings: dict[str, Any], scale: float, softcap: float | None
) -> None:
    model = tiny_model(family, vocab_size=40, pad_token_id=0, **settings).eval()
    projection = Projection.of(model)
    assert (projection.scale, projection.softcap) == (scale, softcap)
    input_ids = torch.randint(3, 40, (1, 20), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = model(input_ids).logits[0, :-1].double()
        hidden = model.base_model(input_ids).last_hidden_state[0, :-1]
    targets = input_ids[0, 1:]
    for trained in (False, True):
        model.requires_grad_(trained)
        losses = token_losses(hidden, targets, projection)
        torch.testing.assert_close(
            losses.loss.detach().double(),
            -torch.log_softmax(logits, -1)[range(19), targets],
            rtol=1e-5,
            atol=1e-5,
        )


def test_model_without_a_head_is_refused() -> None:
    with pytest.raises(UserError, match="LlamaModel has no lm_head"):
        Projection.of(tiny_model(vocab_size=40).model)
