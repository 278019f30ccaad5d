"""The nearest action under linear constraints and bounds is that of a general solver, and its certificates hold."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog, minimize

from ca14lib.agents.safe import projection
from ca14lib.agents.safe.projection import nearest_action

SIZES = [(1, 1), (2, 1), (1, 3), (2, 2), (3, 3), (6, 2)]  # dimensions and constraints


def problems(dimensions: int, constraints: int, count: int, seed: int = 0) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng([seed, dimensions, constraints])
    normal = rng.normal(size=(count, constraints, dimensions)) * rng.exponential(size=(count, constraints, 1))
    return 2 * rng.normal(size=(count, dimensions)), normal, rng.normal(size=(count, constraints))


def general_solver(
    a: np.ndarray, g: np.ndarray, h: np.ndarray, low: float, high: float, slack_weight: float
) -> tuple[np.ndarray, bool]:
    """The same programme by SLSQP, in action and slack together; and whether it has a solution."""
    size, count = len(a), len(h)
    bounds = [(low, high)] * size
    if math.isinf(slack_weight):
        if linprog(np.zeros(size), A_ub=g, b_ub=h, bounds=bounds).status != 0:
            return a, False
        found = minimize(
            lambda x: 0.5 * ((x - a) ** 2).sum(), np.zeros(size), jac=lambda x: x - a, method="SLSQP", bounds=bounds,
            constraints={"type": "ineq", "fun": lambda x: h - g @ x, "jac": lambda x: -g},
            options={"ftol": 1e-14, "maxiter": 1000},
        )  # fmt: skip
        return found.x, True
    found = minimize(
        lambda z: 0.5 * ((z[:size] - a) ** 2).sum() + slack_weight * (z[size:] ** 2).sum(), np.zeros(size + count),
        method="SLSQP", bounds=bounds + [(None, None)] * count, options={"ftol": 1e-14, "maxiter": 1000},
        constraints={"type": "ineq", "fun": lambda z: h + z[size:] - g @ z[:size]},
    )  # fmt: skip
    return found.x[:size], True


@pytest.mark.parametrize("slack_weight", [math.inf, 10.0, 0.3])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_it_equals_a_general_solver(size, slack_weight):
    a, g, h = problems(*size, 12)
    found = nearest_action(a, g, h, low=-1.0, high=1.5, slack_weight=slack_weight)
    for i in range(len(a)):
        expected, feasible = general_solver(a[i], g[i], h[i], -1.0, 1.5, slack_weight)
        assert found.feasible[i] == feasible
        if feasible:
            np.testing.assert_allclose(found.action[i], expected, atol=2e-5)


def optimality_holds(count: int = 400) -> None:
    """Every number of the solution by the optimality conditions of the programme."""
    for size in SIZES:
        for weight in (math.inf, 5.0):
            for low, high in ((-1.0, 1.5), (-math.inf, math.inf)):
                a, g, h = problems(*size, count, seed=1)
                found = nearest_action(a, g, h, low=low, high=high, slack_weight=weight)
                rows = found.feasible
                x, multiplier, slack = found.action[rows], found.multiplier[rows], found.slack[rows]
                assert rows.mean() > 0.2
                assert (x >= low).all()
                assert (x <= high).all()
                assert (multiplier >= 0).all()
                assert (abs(slack - multiplier / (2 * weight)) <= 1e-7 * (1 + multiplier)).all()
                reached = np.einsum("nkd,nd->nk", g[rows], x)
                assert (reached - h[rows] - slack <= 1e-7).all()
                assert (abs(multiplier * (reached - h[rows] - slack)) < 1e-6 * (1 + multiplier)).all()
                pull = a[rows] - np.einsum("nk,nkd->nd", multiplier, g[rows]) - x  # of the bounds
                tolerance = 1e-7 * (1 + abs(pull))
                assert (abs(pull[(x > low) & (x < high)]) < 1e-7).all()
                assert (pull[x == low] <= tolerance[x == low]).all()
                assert (pull[x == high] >= -tolerance[x == high]).all()


def test_optimality_holds():
    optimality_holds()


@pytest.mark.parametrize("fault", ["slack", "sign", "bounds after", "one sweep", "hidden margin"])
def test_the_optimality_conditions_notice(fault, monkeypatch):
    healthy, root = projection.nearest_action, projection._root
    if fault == "slack":  # M s² has the derivative 2Ms
        monkeypatch.setitem(globals(), "nearest_action", lambda *a, slack_weight, **k: healthy(
            *a, slack_weight=slack_weight / 2, **k))  # fmt: skip
    elif fault == "sign":
        monkeypatch.setitem(globals(), "nearest_action", lambda a, g, h, **k: healthy(a, g, -np.asarray(h), **k))
    elif fault == "bounds after":

        def clipped(a, g, h, *, low, high, slack_weight):
            found = healthy(a, g, h, slack_weight=slack_weight)
            return projection.Projection(
                np.clip(found.action, low, high), found.multiplier, found.slack, found.feasible
            )

        monkeypatch.setitem(globals(), "nearest_action", clipped)
    elif fault == "one sweep":  # every constraint once, one after the other, each assumed solved
        monkeypatch.setattr(projection, "SWEEPS", 1)
        monkeypatch.setattr(projection, "TOLERANCE", math.inf)
    else:
        monkeypatch.setattr(projection, "_root", lambda y, g, h, *rest: root(y, g, h - 0.1, *rest))
    with pytest.raises(AssertionError):
        optimality_holds()


@given(seed=st.integers(0, 10**6))
def test_a_second_projection_changes_nothing(seed):
    a, g, h = problems(2, 2, 20, seed)
    once = nearest_action(a, g, h, low=-1, high=1)
    again = nearest_action(once.action, g, h, low=-1, high=1)
    np.testing.assert_allclose(again.action[once.feasible], once.action[once.feasible], atol=1e-7)


@given(seed=st.integers(0, 10**6))
def test_where_nothing_is_feasible_the_violation_is_the_least(seed):
    rng = np.random.default_rng(seed)
    a, g, h = problems(2, 1, 30, seed)
    found = nearest_action(a, g, h - 4, low=-1, high=1)
    assert (~found.feasible).any()
    corner = -np.sign(g[:, 0])
    least = np.maximum((g[:, 0] * corner).sum(axis=1) - (h[:, 0] - 4), 0)
    hopeless = least > 1e-9
    np.testing.assert_array_equal(hopeless, ~found.feasible)
    np.testing.assert_allclose(found.slack[hopeless, 0], least[hopeless], rtol=1e-5, atol=1e-6)
    # opposite demands on one number, each of unit size: the middle violates both the least, in squares
    left, right = -rng.exponential(), rng.exponential()
    both = nearest_action(np.zeros((1, 1)), np.array([[[1.0], [-1.0]]]), np.array([[left, -right]]))
    assert not both.feasible[0]
    assert both.action[0, 0] == pytest.approx((left + right) / 2, abs=1e-4)


def test_a_normal_of_zero_changes_nothing_and_is_infeasible_only_if_it_asks_for_something():
    a = np.array([[0.3, -0.2]] * 2)
    found = nearest_action(a, np.zeros((2, 1, 2)), np.array([[0.5], [-0.5]]))
    np.testing.assert_array_equal(found.action, a)
    assert found.feasible.tolist() == [True, False]
    assert found.slack[:, 0].tolist() == [0.0, 0.5]


def test_bad_input_is_refused():
    a, g, h = problems(2, 2, 3)
    for arguments, message in (
        ((a[0], g, h), "must be"), ((a, g[:, 0], h), "must be"), ((a, g, h[:, :1]), "must be"),
        ((a * np.nan, g, h), "action must be finite"), ((a, g * np.inf, h), "normal must be finite"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message), np.errstate(invalid="ignore"):
            nearest_action(*arguments)
    for keywords, message in (
        ({"low": 1.0, "high": 0.0}, "exceed"), ({"low": np.zeros(3)}, "low"), ({"high": np.nan}, "high"),
        ({"slack_weight": 0.0}, "slack_weight"), ({"slack_weight": np.nan}, "slack_weight"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            nearest_action(a, g, h, **keywords)
