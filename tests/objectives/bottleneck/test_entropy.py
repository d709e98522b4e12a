"""Matrix-based entropy: against eigenvalues, its limits, what it must not depend on."""

from __future__ import annotations

import math

import pytest
import torch

from ibft.objectives.bottleneck.forms.entropy import matrix_entropy


def by_eigenvalues(hidden: torch.Tensor) -> float:
    centered = hidden.double() - hidden.double().mean(0)
    unit = centered / centered.norm(dim=-1, keepdim=True)
    eigenvalues = torch.linalg.eigvalsh(unit @ unit.T / len(unit))
    return -math.log(float(eigenvalues.square().sum()))


@pytest.mark.parametrize("shape", [(5, 40), (40, 5), (17, 17)])
def test_equals_the_eigenvalue_formula(shape: tuple[int, int]) -> None:
    hidden = torch.randn(shape, generator=torch.Generator().manual_seed(0)) + 3
    assert matrix_entropy(hidden).item() == pytest.approx(by_eigenvalues(hidden), rel=1e-5)


def test_limits() -> None:
    one_line = torch.arange(1.0, 21.0)[:, None] * torch.ones(8)
    assert matrix_entropy(one_line).item() == pytest.approx(0, abs=1e-5)
    simplex = torch.eye(64)
    assert matrix_entropy(simplex).item() == pytest.approx(math.log(63), rel=1e-5)


def test_scale_shift_and_order_do_not_count() -> None:
    hidden = torch.randn(30, 12, generator=torch.Generator().manual_seed(1))
    expected = matrix_entropy(hidden).item()
    for other in (hidden * 50, hidden + 7, hidden.flip(0)):
        assert matrix_entropy(other).item() == pytest.approx(expected, rel=1e-4)


def test_descending_it_lowers_the_number_of_directions() -> None:
    hidden = torch.randn(40, 16, generator=torch.Generator().manual_seed(2), requires_grad=True)
    optimizer = torch.optim.Adam([hidden], lr=0.05)
    start = matrix_entropy(hidden).item()
    for _ in range(100):
        optimizer.zero_grad()
        matrix_entropy(hidden).backward()
        optimizer.step()
    assert by_eigenvalues(hidden.detach()) < 0.5 * start


@pytest.mark.parametrize("num_rows", [0, 1])
def test_too_few_states_are_zero_and_connected(num_rows: int) -> None:
    hidden = torch.ones(num_rows, 4, requires_grad=True)
    entropy = matrix_entropy(hidden)
    entropy.backward()
    assert entropy.item() == 0
    assert hidden.grad is not None
