"""The two-parameter problem is the model it says it is, its derivatives are exact, and CPO on it arrives."""

import numpy as np
import pytest

from ca14lib.agents.safe.cpo import trust_region_dual
from ca14lib.experiments.safe.two_logits import TwoLogits
from ca14lib.solvers import constrained_optimum, policy_costs, policy_return

RNG = np.random.default_rng(0)
PLACES = RNG.uniform(-3, 3, (12, 2))


@pytest.fixture(scope="module")
def firm() -> TwoLogits:
    return TwoLogits()


def test_closed_form_is_the_models_return_and_cost(firm):
    model = firm.model()
    value, cost = firm.expected(PLACES)
    for place, one_value, one_cost in zip(PLACES, value, cost):
        assert one_value == pytest.approx(policy_return(model, firm.policy(place)))
        assert one_cost == pytest.approx(policy_costs(model, firm.policy(place))[0])


def numeric_gradient(function, place, width=1e-5):
    return np.array([
        (function(place + shift) - function(place - shift)) / (2 * width) for shift in width * np.eye(2)
    ])  # fmt: skip


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_gradients_are_those_of_return_and_cost_per_step(firm, place):
    problem = firm.linearised(place)
    length = 1 + 0.4 + 0.6 * firm.policy(place)[0, 1]
    np.testing.assert_allclose(
        -problem.objective * length, numeric_gradient(lambda x: firm.expected(x)[0], place), rtol=1e-5
    )
    np.testing.assert_allclose(problem.cost * length, numeric_gradient(lambda x: firm.expected(x)[1], place), rtol=1e-5)
    assert problem.excess * length == pytest.approx(firm.expected(place)[1] - firm.limit)


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_surrogates_touch_the_truth_where_the_data_come_from(firm, place):
    problem = firm.linearised(place)
    assert firm.surrogates(place, place) == pytest.approx((0.0, 0.0), abs=1e-12)
    np.testing.assert_allclose(
        numeric_gradient(lambda x: firm.surrogates(place, x)[0], place), -problem.objective, rtol=1e-5
    )
    np.testing.assert_allclose(numeric_gradient(lambda x: firm.surrogates(place, x)[1], place), problem.cost, rtol=1e-5)


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_hessian_is_that_of_the_divergence_and_the_damping(firm, place):
    width = 1e-3
    for axis in range(2):
        shift = width * np.eye(2)[axis]
        ahead, back = firm.divergence(place, place + shift), firm.divergence(place, place - shift)
        second = (ahead + back) / width**2
        assert second == pytest.approx(firm.linearised(place).hessian[axis, axis] - firm.damping, rel=1e-4)
    assert firm.divergence(place, place) == pytest.approx(0.0, abs=1e-12)
    assert (firm.divergence(place, PLACES) >= -1e-12).all()


def test_divergence_stays_finite_for_certain_policies(firm):
    assert np.isfinite(firm.divergence([40.0, -40.0], [60.0, -60.0]))


def test_step_of_a_solution_keeps_both_constraints(firm):
    for place in PLACES:
        problem = firm.linearised(place)
        dual = trust_region_dual(*problem.forms(), problem.excess, 0.05)
        step = problem.step(dual)
        assert 0.5 * step @ problem.hessian @ step <= 0.05 * (1 + 1e-9)
        if dual.case != 0:
            assert problem.cost @ step + problem.excess <= 1e-9


def test_line_search_accepts_only_what_holds_exactly(firm):
    shortened = 0
    for place in PLACES:
        problem = firm.linearised(place)
        dual = trust_region_dual(*problem.forms(), problem.excess, 0.4)
        share = firm.line_search(place, problem.step(dual), dual.case, 0.4)
        moved = place + share * problem.step(dual)
        assert firm.divergence(place, moved) <= 0.4
        reward, cost = firm.surrogates(place, moved)
        assert cost <= max(-problem.excess, 0.0) + 1e-12
        assert dual.case <= 1 or reward >= 0
        shortened += 0 < share < 1
    assert shortened >= 2


def test_cpo_with_exact_gradients_reaches_the_constrained_optimum(firm):
    best = constrained_optimum(firm.model(), firm.limit).optimal_return
    for start in PLACES:
        path, cases = firm.iterates(start, 80, 0.02)
        value, cost = firm.expected(path[-1])
        assert value > 0.995 * best
        assert cost <= firm.limit + 1e-3
        assert path.shape == (81, 2)
        assert len(cases) == 80


@pytest.mark.parametrize("limit", [0.15, 0.4, 0.8])
def test_other_limits_are_reached_too(limit):
    firm = TwoLogits(limit=limit)
    path, _ = firm.iterates((0.0, 0.0), 150, 0.02)
    value, cost = firm.expected(path[-1])
    assert value > 0.98 * constrained_optimum(firm.model(), limit).optimal_return
    assert cost <= limit + 1e-3


@pytest.mark.parametrize("place", [(-0.3, -0.3), (0.5, 0.2)])
def test_a_wrong_sign_of_r_breaks_the_limit(firm, place):
    problem = firm.linearised(place)
    q, r, s = problem.forms()
    step = problem.step(trust_region_dual(q, -r, s, problem.excess, 0.05))
    assert problem.cost @ step + problem.excess > 0.01
