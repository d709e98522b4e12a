"""The controller on a plant whose KL falls with its weight: holds the set point, never runs away, resumes exactly."""

from __future__ import annotations

import math

import pytest

from ibft.objectives.bottleneck.forms.controlled import RANGE, KLController


class Head:
    """A KL that drifts, in logarithms, towards strength / alpha, as far as the step size lets it."""

    def __init__(self, strength: float, speed: float) -> None:
        self.kl, self._strength, self._speed = 66.0, strength, speed

    def step(self, alpha: float) -> float:
        distance = math.log(self._strength / alpha) - math.log(self.kl)
        self.kl *= math.exp(self._speed * math.tanh(distance))
        return self.kl


def run(controller: KLController, head: Head, steps: int) -> list[float]:
    kls = []
    for _ in range(steps):
        kls.append(head.step(controller.alpha))
        controller.update(kls[-1])
    return kls


@pytest.mark.parametrize("strength", [0.3, 3.0, 30.0, 300.0])
@pytest.mark.parametrize("target", [10.0, 30.0, 100.0])
def test_holds_the_set_point_whatever_the_plant_needs(strength: float, target: float) -> None:
    controller = KLController(0.1, target, 5.0, 0.3, 50)
    kls = run(controller, Head(strength, 0.05), 200)
    assert all(abs(kl / target - 1) < 0.1 for kl in kls[-100:])
    assert controller.alpha == pytest.approx(strength / target, rel=0.2)


def test_set_point_moves_from_the_first_kl_geometrically() -> None:
    controller = KLController(0.1, 4.0, 0.0, 0.0, 4)
    assert controller.target is None
    targets = []
    for _ in range(6):
        controller.update(64.0)
        targets.append(controller.target)
    assert targets == pytest.approx([32, 16, 8, 4, 4, 4])


def test_without_warmup_the_set_point_is_there_at_once() -> None:
    assert KLController(0.1, 4.0, 1.0, 1.0, 0).target == 4.0


def test_weight_stays_in_its_range_and_comes_back_at_once() -> None:
    controller = KLController(0.1, 1.0, 0.0, 1.0, 0)
    for _ in range(100):
        controller.update(1e6)
    assert controller.alpha == pytest.approx(0.1 * RANGE)
    controller.update(1e-3)
    assert controller.alpha < 0.001 * 0.1 * RANGE * 1.01
    for _ in range(100):
        controller.update(1e-6)
    assert controller.alpha == pytest.approx(0.1 / RANGE)


@pytest.mark.parametrize("kl", [math.nan, math.inf, 0.0, -1.0])
def test_a_kl_that_means_nothing_is_passed_over(kl: float) -> None:
    controller = KLController(0.1, 4.0, 1.0, 1.0, 3)
    controller.update(10.0)
    before = controller.state_dict()
    controller.update(kl)
    assert controller.state_dict() == before


def test_goes_on_exactly_where_it_was() -> None:
    whole, head = KLController(0.1, 20.0, 5.0, 0.3, 10), Head(3.0, 0.05)
    run(whole, head, 7)
    resumed, other = KLController(0.1, 20.0, 5.0, 0.3, 10), Head(3.0, 0.05)
    resumed.load_state_dict(whole.state_dict())
    other.kl = head.kl
    assert run(resumed, other, 30) == run(whole, head, 30)
    assert resumed.alpha == whole.alpha
