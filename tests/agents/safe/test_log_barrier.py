"""The log barrier: its derivative is the weight, it is finite beyond the limit, and it costs at most 1/t of return."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from ca14lib.agents.safe import log_barrier as module
from ca14lib.agents.safe.log_barrier import log_barrier, log_barrier_weight


def grid(limit: float) -> torch.Tensor:
    return torch.linspace(limit - 5.0, limit + 5.0, 2001, dtype=torch.float64)


# Properties, and faults that each must notice


def inside_it_is_the_logarithm_of_the_room_left() -> None:
    for limit, margin in ((0.6, 0.01), (25.0, 0.5), (-1.0, 2.0)):
        cost = torch.linspace(limit - 9.0, limit - margin, 50, dtype=torch.float64)
        barrier = module.log_barrier(cost, limit, margin)
        np.testing.assert_allclose(barrier, [-math.log(limit - float(c)) for c in cost], rtol=1e-9, atol=1e-9)
        weight = module.log_barrier_weight(cost, limit, 4.0, margin)
        np.testing.assert_allclose(weight, [1 / (4 * (limit - float(c))) for c in cost], rtol=1e-9)


def the_weight_is_the_derivative_over_the_temperature() -> None:
    for limit, margin, temperature in ((0.6, 0.01, 20.0), (3.0, 0.7, 2.0)):
        cost = grid(limit).requires_grad_()
        (slope,) = torch.autograd.grad(module.log_barrier(cost, limit, margin).sum(), cost)
        weight = module.log_barrier_weight(cost, limit, temperature, margin)
        np.testing.assert_allclose(slope / temperature, weight, rtol=1e-9)


def beyond_the_margin_it_goes_on_rising_ever_faster() -> None:
    for margin in (0.05, 0.5):
        cost = grid(1.0)
        barrier, weight = module.log_barrier(cost, 1.0, margin), module.log_barrier_weight(cost, 1.0, 1.0, margin)
        assert barrier.isfinite().all()
        assert (barrier.diff() > 0).all()
        assert (barrier.diff().diff() > 0).all()
        assert (weight > 0).all()
        assert (weight.diff() > 0).all()
        assert weight.diff().max() < 1.01 * float(cost.diff().mean()) / margin**2, "no jump"


def the_optimum_is_feasible_and_gives_up_at_most_one_over_t() -> None:
    """Return 9 and cost 0.6, or nothing at no cost: the best mixture under a limit of 0.3 is worth 4.5."""
    for temperature in (5.0, 50.0, 500.0):

        def objective(mixture: float, temperature: float = temperature) -> float:
            cost = torch.tensor(0.6 * mixture, dtype=torch.float64)
            return -9 * mixture + float(module.log_barrier(cost, 0.3, 1e-5)) / temperature

        best = minimize_scalar(objective, bounds=(0, 1), method="bounded", options={"xatol": 1e-10}).x
        assert 0.6 * best < 0.3
        assert 4.5 - 1 / temperature - 1e-6 <= 9 * best
        weight = module.log_barrier_weight(torch.tensor([0.6 * best], dtype=torch.float64), 0.3, temperature, 1e-5)
        assert float(weight) == pytest.approx(9 / 0.6, rel=1e-3), "at the optimum the weight is the multiplier"


PROPERTIES = [
    inside_it_is_the_logarithm_of_the_room_left,
    the_weight_is_the_derivative_over_the_temperature,
    beyond_the_margin_it_goes_on_rising_ever_faster,
    the_optimum_is_feasible_and_gives_up_at_most_one_over_t,
]


@pytest.mark.parametrize("holds", PROPERTIES, ids=lambda holds: holds.__name__)
def test_property(holds):
    holds()


def no_continuation(patch):
    patch.setattr(module, "log_barrier", lambda cost, limit, margin=0.01: -(limit - cost).log())


def weight_is_clipped_to_zero_outside(patch):
    patch.setattr(module, "log_barrier_weight", lambda cost, limit, temperature=20.0, margin=0.01: (
        (limit - cost > 0) / (temperature * (limit - cost).clamp_min(margin))).detach())  # fmt: skip


def weight_of_the_wrong_sign_outside(patch):
    """1 / (t(ℓ − C)) without a continuation: beyond the limit it rewards cost."""
    patch.setattr(module, "log_barrier_weight", lambda cost, limit, temperature=20.0, margin=0.01: (
        1 / (temperature * (limit - cost))).detach())  # fmt: skip


def temperature_multiplies(patch):
    healthy = log_barrier_weight
    patch.setattr(module, "log_barrier_weight", lambda c, top, t=20.0, m=0.01: healthy(c, top, t, m) * t * t)


def barrier_of_the_negative(patch):
    patch.setattr(module, "log_barrier", lambda c, top, m=0.01: -log_barrier(c, top, m))


def continuation_starts_at_the_limit(patch):
    """The expansion about ℓ − m, used only beyond ℓ."""
    patch.setattr(module, "log_barrier", lambda cost, limit, margin=0.01: torch.where(
        cost < limit, -(limit - cost).clamp_min(1e-300).log(), log_barrier(cost, limit, margin)))  # fmt: skip


FAULTS = [
    (no_continuation, beyond_the_margin_it_goes_on_rising_ever_faster),
    (weight_is_clipped_to_zero_outside, beyond_the_margin_it_goes_on_rising_ever_faster),
    (weight_is_clipped_to_zero_outside, the_weight_is_the_derivative_over_the_temperature),
    (weight_of_the_wrong_sign_outside, beyond_the_margin_it_goes_on_rising_ever_faster),
    (temperature_multiplies, inside_it_is_the_logarithm_of_the_room_left),
    (temperature_multiplies, the_optimum_is_feasible_and_gives_up_at_most_one_over_t),
    (barrier_of_the_negative, the_optimum_is_feasible_and_gives_up_at_most_one_over_t),
    (continuation_starts_at_the_limit, beyond_the_margin_it_goes_on_rising_ever_faster),
]


@pytest.mark.parametrize("plant, holds", FAULTS, ids=lambda function: function.__name__)
def test_planted_fault_is_caught(plant, holds, monkeypatch):
    holds()
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        holds()


# More


@given(
    cost=st.floats(-1e6, 1e6), limit=st.floats(-1e6, 1e6), margin=st.floats(1e-3, 1e3), temperature=st.floats(1e-2, 1e4)
)
def test_any_finite_input_gives_a_finite_barrier_and_a_positive_weight(cost, limit, margin, temperature):
    costs = torch.tensor([cost], dtype=torch.float64)
    assert log_barrier(costs, limit, margin).isfinite().all()
    weight = log_barrier_weight(costs, limit, temperature, margin)
    assert weight.isfinite().all()
    assert (weight > 0).all()


def test_several_limits_are_taken_together_and_no_gradient_flows_through_the_weight():
    costs = torch.tensor([0.1, 0.9], requires_grad=True)
    weight = log_barrier_weight(costs, torch.tensor([0.6, 0.5]), 2.0, 0.1)
    assert weight.tolist() == pytest.approx([1.0, 0.5 * (1 + 5) / 0.1])
    assert not weight.requires_grad


def test_bad_input_is_refused():
    cost = torch.tensor([0.1])
    for margin in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="margin"):
            log_barrier(cost, 1.0, margin)
    for temperature in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="temperature"):
            log_barrier_weight(cost, 1.0, temperature)
    for wrong in (torch.tensor([float("nan")]), torch.tensor([float("inf")])):
        with pytest.raises(ValueError, match="finite"):
            log_barrier(wrong, 1.0)
    with pytest.raises(ValueError, match="finite"):
        log_barrier_weight(cost, float("nan"))
