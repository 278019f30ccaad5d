"""Robust planning against linear programmes, cvxpy and brute force, and what must hold of every worst case."""

import inspect
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product

import cvxpy as cp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog, minimize_scalar
from scipy.sparse import block_diag, csr_array

from ca14lib.environments import TabularModel, river_swim_model, tabular_model
from ca14lib.solvers import (
    policy_evaluation,
    policy_return,
    rectangular_constrained_plan,
    robust,
    robust_constrained_plan,
    value_iteration,
)
from ca14lib.solvers.robust import (
    RobustSolution,
    optimal_observation_attack,
    robust_policy_evaluation,
    robust_value_iteration,
    worst_candidate,
    worst_case_kl,
    worst_case_l1,
    worst_case_linf,
)

LARGEST = {"l1": 2.0, "linf": 1.0, "kl": 3.0}
WORST = {"l1": worst_case_l1, "linf": worst_case_linf, "kl": worst_case_kl}
SUPPORTS = ("simplex", "nominal")


@dataclass(frozen=True, eq=False)
class Problem:
    """A random problem with its uncertainty."""

    model: TabularModel
    discount: float
    radius: np.ndarray  # share of the largest sensible one, [S, A]
    reward_radius: np.ndarray
    support: str

    def solve(self, ball: str, **changes: object) -> RobustSolution:
        given = {"discount": self.discount, "support": self.support, "reward_radius": self.reward_radius} | changes
        return robust_value_iteration(self.model, self.radius * LARGEST[ball], ball, **given)


def problems(number: int, first: int = 0) -> Iterator[Problem]:
    """Sparse problems of 3 to 5 states; terminal states, masks and rewards by successor each in some."""
    for seed in range(first, first + number):
        rng = np.random.default_rng(seed)
        states, actions = int(rng.integers(3, 6)), int(rng.integers(2, 4))
        weight = rng.exponential(size=(states, actions, states)) * (rng.random((states, actions, states)) < 0.6)
        stuck = weight.sum(axis=2) == 0
        weight[stuck, rng.integers(states, size=stuck.sum())] = 1.0
        mask = rng.random((states, actions)) < 0.7
        mask[np.arange(states), rng.integers(actions, size=states)] = True
        model = TabularModel(
            transition=weight / weight.sum(axis=2, keepdims=True),
            reward=rng.normal(size=(states, actions, states) if seed % 2 else (states, actions)),
            terminal=np.arange(states) == states - 1 if seed % 3 else None,
            initial=rng.dirichlet(np.ones(states)),
            action_mask=mask if seed % 5 < 2 else None,
        )
        radius = rng.random((states, actions)) * rng.choice([0.1, 0.5, 1.0])
        lower = rng.random((states, actions)) * (seed % 4 == 0)
        yield Problem(model, (0.5, 0.9)[seed // 2 % 2], radius, lower, SUPPORTS[seed // 4 % 2])


def open_pairs(model: TabularModel) -> np.ndarray:
    allowed = np.ones((model.num_states, model.num_actions), bool) if model.action_mask is None else model.action_mask
    return allowed & ~model.terminal[:, None]


def programme(ball: str, p: np.ndarray, v: np.ndarray, radius: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Least q·v of every row ``[N, S]``, by one linear programme for all."""
    rows, size = p.shape
    one, total = np.eye(size), block_diag([np.ones((1, size))] * rows)
    if ball == "linf":
        bounds = np.stack([np.maximum(p - radius[:, None], 0), np.where(allowed, p + radius[:, None], 0)], axis=-1)
        found = linprog(v.ravel(), A_eq=total, b_eq=np.ones(rows), bounds=bounds.reshape(-1, 2))
        assert found.success, found.message
        return (found.x.reshape(rows, size) * v).sum(axis=1)
    # unknowns of a row: q, and d with |q − p| ≤ d and Σ d ≤ radius
    inner = np.block([[one, -one], [-one, -one], [np.zeros((1, size)), np.ones((1, size))]])
    bounds = np.zeros((rows, 2, size, 2))
    bounds[:, 0, :, 1], bounds[:, 1, :, 1] = allowed, np.inf
    found = linprog(
        np.stack([v, np.zeros_like(v)], axis=1).ravel(),
        A_ub=csr_array(block_diag([inner] * rows)),
        b_ub=np.concatenate([p, -p, radius[:, None]], axis=1).ravel(),
        A_eq=csr_array(block_diag([np.append(np.ones(size), np.zeros(size))[None]] * rows)),
        b_eq=np.ones(rows),
        bounds=bounds.reshape(-1, 2),
    )
    assert found.success, found.message
    return (found.x.reshape(rows, 2, size)[:, 0] * v).sum(axis=1)


def programme_operator(problem: Problem, ball: str, value: np.ndarray) -> np.ndarray:
    """The robust Bellman operator, its inner problems solved as linear programmes."""
    model = problem.model
    state, action = np.nonzero(open_pairs(model))
    p = model.transition[state, action]
    worth = np.broadcast_to(problem.discount * value, p.shape)
    paid = np.zeros(len(p))
    if model.reward.ndim == 3:
        worth = worth + model.reward[state, action]
    else:
        paid = model.reward[state, action]
    allowed = p > 0 if problem.support == "nominal" else np.ones(p.shape, bool)
    radius = problem.radius[state, action] * LARGEST[ball]
    q = np.full((model.num_states, model.num_actions), -np.inf)
    q[state, action] = paid - problem.reward_radius[state, action] + programme(ball, p, worth, radius, allowed)
    return np.where(model.terminal, 0.0, q.max(axis=1))


def random_policy(model: TabularModel, rng: np.random.Generator) -> np.ndarray:
    weight = rng.exponential(size=(model.num_states, model.num_actions))
    if model.action_mask is not None:
        weight = weight * model.action_mask
    return weight / weight.sum(axis=1, keepdims=True)


def deterministic_policies(model: TabularModel) -> list[np.ndarray]:
    mask = np.ones((model.num_states, model.num_actions), bool) if model.action_mask is None else model.action_mask
    return [np.eye(model.num_actions)[list(choice)] for choice in product(*(np.flatnonzero(row) for row in mask))]


# What must hold; each is also run against the faults planted at the end of the file


def values_solve_the_linear_programmes(number: int = 60) -> None:
    """The operator is a contraction, so a residual bounds the distance to its only fixed point."""
    for problem in problems(number):
        for ball in ("l1", "linf"):
            value = problem.solve(ball).value
            residual = abs(programme_operator(problem, ball, value) - value).max()
            assert residual / (1 - problem.discount) <= 1e-6


def horizons_solve_the_linear_programmes() -> None:
    for problem in problems(10):
        for ball in ("l1", "linf"):
            solution = problem.solve(ball, horizon=3)
            value = np.zeros(problem.model.num_states)
            for step in reversed(range(3)):
                value = programme_operator(problem, ball, value)
                np.testing.assert_allclose(solution.value[step], value, atol=1e-6)
            assert solution.robust_return == pytest.approx(problem.model.initial @ value, abs=1e-6)


def radius_zero_is_the_nominal_optimum() -> None:
    for problem in problems(12):
        for ball, horizon in product(LARGEST, (None, 3)):
            optimum = value_iteration(problem.model, problem.discount, horizon)
            sure = replace(problem, radius=problem.radius * 0, reward_radius=problem.reward_radius * 0)
            solution = sure.solve(ball, horizon=horizon)
            np.testing.assert_allclose(solution.value, optimum.value, atol=1e-9)
            np.testing.assert_allclose(solution.q, optimum.q, atol=1e-9)
            assert solution.robust_return == pytest.approx(optimum.optimal_return, abs=1e-9)


def worst_problem_has_the_robust_return() -> None:
    for problem in problems(12):
        for ball, horizon in product(LARGEST, (None, 3)):
            solution = problem.solve(ball, horizon=horizon)
            worst, policy = solution.worst_problem()
            found = policy_return(worst, policy, problem.discount)
            assert found == pytest.approx(solution.robust_return, abs=1e-10)
            evaluated = robust_policy_evaluation(
                problem.model, solution.policy, problem.radius * LARGEST[ball], ball, discount=problem.discount,
                horizon=horizon, support=problem.support, reward_radius=problem.reward_radius,
            )  # fmt: skip
            np.testing.assert_allclose(evaluated.value, solution.value, atol=1e-9)


def best_policy_is_the_best_of_all() -> None:
    for problem in problems(6):
        policies = deterministic_policies(problem.model)
        for ball in LARGEST:
            given = {"discount": problem.discount, "support": problem.support, "reward_radius": problem.reward_radius}
            radius = problem.radius * LARGEST[ball]
            found = [
                robust_policy_evaluation(problem.model, policy, radius, ball, **given).value for policy in policies[:40]
            ]
            best = problem.solve(ball).value
            assert (np.array(found) <= best + 1e-9).all()
            mixed = random_policy(problem.model, np.random.default_rng(0))
            assert (robust_policy_evaluation(problem.model, mixed, radius, ball, **given).value <= best + 1e-9).all()
            if len(policies) <= 40:
                np.testing.assert_allclose(np.max(found, axis=0), best, atol=1e-9)


def kernel_lies_in_the_ball() -> None:
    for problem in problems(12):
        pairs = open_pairs(problem.model)
        for ball in LARGEST:
            solution = problem.solve(ball)
            p, q, t = problem.model.transition[pairs], solution.kernel[pairs], problem.radius[pairs] * LARGEST[ball]
            assert (q >= 0).all()
            np.testing.assert_allclose(q.sum(axis=1), 1, atol=1e-12)
            assert (distance(ball, p, q) <= t + 1e-9).all()
            if problem.support == "nominal" or ball == "kl":
                assert not q[p == 0].any()
            np.testing.assert_array_equal(solution.kernel[~pairs], problem.model.transition[~pairs])


def distance(ball: str, p: np.ndarray, q: np.ndarray) -> np.ndarray:
    if ball == "kl":
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(q > 0, q * np.log(q / p), 0.0).sum(axis=-1)
    return abs(p - q).sum(axis=-1) if ball == "l1" else abs(p - q).max(axis=-1)


def kl_rows_agree_with_a_convex_solver() -> None:
    rng = np.random.default_rng(0)
    rows, size = 12, 5
    p = rng.dirichlet(np.ones(size), size=rows)
    p[::3, 0] = 0
    p /= p.sum(axis=1, keepdims=True)
    v, radius = rng.normal(size=(rows, size)), rng.choice([0.01, 0.2, 1.0, 4.0], size=rows)
    found = (worst_case_kl(p, v, radius) * v).sum(axis=1)
    q = cp.Variable((rows, size), nonneg=True)
    limits = [cp.sum(q, axis=1) == 1]
    for row in range(rows):
        can = np.flatnonzero(p[row])
        limits += [q[row, int(i)] == 0 for i in np.flatnonzero(p[row] == 0)]
        limits.append(cp.sum(cp.rel_entr(q[row, can], p[row, can])) <= radius[row])
    cp.Problem(cp.Minimize(cp.sum(cp.multiply(q, v))), limits).solve(solver=cp.CLARABEL)
    np.testing.assert_allclose(found, (q.value * v).sum(axis=1), atol=1e-6)


def kl_rows_close_the_gap_to_the_dual() -> None:
    """Any multiplier gives a lower bound on every row of the ball; the best one shows that the row is the worst."""
    rng = np.random.default_rng(1)
    for _ in range(40):
        size = int(rng.integers(2, 7))
        p, v = rng.dirichlet(np.full(size, rng.choice([0.3, 2.0]))), rng.normal(size=size) * 10.0 ** rng.integers(-3, 4)
        radius = 10.0 ** rng.uniform(-6, 0.7)
        q = worst_case_kl(p, v, radius)
        assert distance("kl", p, q) <= radius + 1e-12
        width = np.ptp(v)

        def bound(log_multiplier: float, p=p, v=v, radius=radius) -> float:
            lam = np.exp(log_multiplier)
            return v.min() - lam * (np.log(p @ np.exp(-(v - v.min()) / lam)) + radius)

        best = minimize_scalar(lambda x: -bound(x), bounds=np.log(width) + np.array([-12, 12]), method="bounded")
        assert -best.fun <= q @ v + 1e-9 * width
        assert q @ v - -best.fun <= 1e-5 * width


def finite_sets_are_the_worst_of_every_choice() -> None:
    """Every policy against every way to give each state a candidate."""
    for problem in problems(8):
        rng = np.random.default_rng(7)
        models = [problem.model, shuffled(problem.model, rng)]
        solution = robust_value_iteration(models, ball="finite", discount=problem.discount)
        states = np.arange(problem.model.num_states)
        rows, rewards = (np.stack([getattr(m, name) for m in models]) for name in ("transition", "expected_reward"))
        choices, end = np.array(list(product(range(2), repeat=len(states)))), problem.model.terminal
        best = -np.inf
        for policy in deterministic_policies(problem.model):
            action = policy.argmax(axis=1)
            chain, paid = rows[choices, states, action] * ~end, rewards[choices, states, action] * ~end
            values = np.linalg.solve(np.eye(len(states)) - problem.discount * chain, paid[..., None])[..., 0]
            best = max(best, (values @ problem.model.initial).min())
        assert solution.robust_return == pytest.approx(best, abs=1e-9)
        assert policy_return(*solution.worst_problem(), problem.discount) == pytest.approx(best, abs=1e-9)


def shuffled(model: TabularModel, rng: np.random.Generator) -> TabularModel:
    """The same problem with other probabilities and rewards."""
    return replace(
        model,
        transition=model.transition[..., rng.permutation(model.num_states)],
        reward=rng.normal(size=model.expected_reward.shape),
    )


def attacks_are_the_worst_of_all() -> None:
    for problem in problems(12):
        model = replace(problem.model, action_mask=None)
        rng = np.random.default_rng(3)
        states = model.num_states
        shows = (rng.random((states, states)) < 0.5) | np.eye(states, dtype=bool)
        policy = random_policy(model, rng)
        maps = [np.array(each) for each in product(*(np.flatnonzero(row) for row in shows))]
        found = robust.optimal_observation_attack(model, policy, shows, problem.discount)
        values = np.array([policy_evaluation(model, policy[shown], problem.discount).value for shown in maps])
        np.testing.assert_allclose(found.value, values.min(axis=0), atol=1e-9)
        assert found.attacked_return == pytest.approx((values @ model.initial).min(), abs=1e-9)
        assert shows[np.arange(states), found.shown].all()
        np.testing.assert_allclose(found.policy, policy[found.shown])
        timed = np.stack([policy, random_policy(model, rng)])
        if len(maps) <= 24:
            found = robust.optimal_observation_attack(model, timed, shows, 1.0, horizon=2)
            returns = [
                policy_return(model, np.stack([timed[0][now], timed[1][then]]), 1.0, horizon=2)
                for now, then in product(maps, maps)
            ]
            assert found.attacked_return == pytest.approx(min(returns), abs=1e-9)


def test_values_solve_the_linear_programmes():
    values_solve_the_linear_programmes()


@pytest.mark.verify
def test_values_of_a_thousand_problems_solve_the_linear_programmes():
    values_solve_the_linear_programmes(1_000)


def test_horizons_solve_the_linear_programmes():
    horizons_solve_the_linear_programmes()


def test_radius_zero_is_the_nominal_optimum():
    radius_zero_is_the_nominal_optimum()


def test_worst_problem_has_the_robust_return():
    worst_problem_has_the_robust_return()


def test_best_policy_is_the_best_of_all():
    best_policy_is_the_best_of_all()


def test_kernel_lies_in_the_ball():
    kernel_lies_in_the_ball()


def test_kl_rows_agree_with_a_convex_solver():
    kl_rows_agree_with_a_convex_solver()


def test_kl_rows_close_the_gap_to_the_dual():
    kl_rows_close_the_gap_to_the_dual()


def test_finite_sets_are_the_worst_of_every_choice():
    finite_sets_are_the_worst_of_every_choice()


def test_attacks_are_the_worst_of_all():
    attacks_are_the_worst_of_all()


# --- properties -------------------------------------------------------------------------------------------------------

rows_of = st.integers(0, 10**6).map(np.random.default_rng)


def drawn(rng: np.random.Generator, ball: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    size, rows = int(rng.integers(2, 7)), int(rng.integers(1, 4))
    p = rng.dirichlet(np.full(size, rng.choice([0.2, 1.0])), size=rows) * (rng.random((rows, size)) < 0.8)
    p[p.sum(axis=1) == 0, 0] = 1.0
    v = rng.choice([rng.normal(size=(rows, size)), rng.integers(-1, 2, size=(rows, size)).astype(float)])
    return p / p.sum(axis=1, keepdims=True), v, rng.random(rows) * LARGEST[ball] * rng.choice([0.01, 1.0])


@pytest.mark.parametrize("ball", LARGEST)
@given(rng=rows_of)
@settings(max_examples=60, deadline=None)
def test_worst_row_is_a_distribution_of_the_ball_that_no_other_undercuts(ball, rng):
    p, v, radius = drawn(rng, ball)
    q = WORST[ball](p, v, radius)
    assert (q >= 0).all()
    np.testing.assert_allclose(q.sum(axis=1), 1, atol=1e-12)
    assert (distance(ball, p, q) <= radius + 1e-9).all()
    assert ((q * v).sum(axis=1) <= (p * v).sum(axis=1) + 1e-12).all()
    for _ in range(20):
        other = rng.dirichlet(np.ones(p.shape[1]), size=len(p)) * (p > 0 if ball == "kl" else 1)
        other /= other.sum(axis=1, keepdims=True)
        far = distance(ball, p, other)
        share = np.minimum(1, radius / np.maximum(far, 1e-12))[:, None]  # every distance here is convex
        other = p + share * (other - p)
        assert ((q * v).sum(axis=1) <= (other * v).sum(axis=1) + 1e-9).all()


@pytest.mark.parametrize("ball", LARGEST)
@given(rng=rows_of)
@settings(max_examples=30, deadline=None)
def test_worst_value_falls_with_the_radius_and_does_not_depend_on_units(ball, rng):
    p, v, radius = drawn(rng, ball)
    least = [(WORST[ball](p, v, share * radius) * v).sum(axis=1) for share in (0.0, 0.3, 1.0)]
    np.testing.assert_allclose(least[0], (p * v).sum(axis=1), atol=1e-12)
    assert (least[1] <= least[0] + 1e-12).all()
    assert (least[2] <= least[1] + 1e-12).all()
    np.testing.assert_allclose((WORST[ball](p, 1e3 * v + 7, radius) * v).sum(axis=1), least[2], atol=1e-8)


@pytest.mark.parametrize("ball", LARGEST)
@given(rng=rows_of)
@settings(max_examples=20, deadline=None)
def test_rows_are_solved_one_by_one(ball, rng):
    p, v, radius = drawn(rng, ball)
    together = WORST[ball](p, v, radius)
    alone = np.array([WORST[ball](*each) for each in zip(p, v, radius)])
    np.testing.assert_allclose(together, alone, atol=1e-12)
    stacked = WORST[ball](np.stack([p, p]), np.stack([v, v]), np.stack([radius, radius]))
    np.testing.assert_allclose(stacked[1], alone, atol=1e-12)
    shared = WORST[ball](p, v[0], radius)
    np.testing.assert_allclose(shared[0], alone[0], atol=1e-12)


@pytest.mark.parametrize("ball", ["l1", "linf"])
@given(rng=rows_of)
@settings(max_examples=20, deadline=None)
def test_smaller_support_leaves_less_to_nature(ball, rng):
    p, v, radius = drawn(rng, ball)
    everywhere, nominal = WORST[ball](p, v, radius), WORST[ball](p, v, radius, p > 0)
    assert not nominal[p == 0].any()
    assert ((everywhere * v).sum(axis=1) <= (nominal * v).sum(axis=1) + 1e-12).all()
    np.testing.assert_allclose(WORST[ball](p, v, radius, np.ones(p.shape[1], bool)), everywhere, atol=1e-12)


@pytest.mark.parametrize("ball", LARGEST)
@pytest.mark.parametrize("support", SUPPORTS)
def test_operator_is_a_contraction_and_monotone(ball, support):
    rng = np.random.default_rng(0)
    for problem in problems(6):
        model, _, _ = problem.model, problem.radius, problem.discount
        given = (model, problem.radius * LARGEST[ball], ball, 0.9, None, support, problem.reward_radius, 1e-10, 10)
        _, nature, _ = robust._prepared(*given)

        def operator(value, nature=nature):
            return nature.table(nature.q(value)).max(axis=1)

        for _ in range(10):
            one, other = (rng.normal(size=model.num_states) * ~model.terminal for _ in range(2))
            gap = abs(one - other).max()
            assert abs(operator(one) - operator(other)).max() <= 0.9 * gap + 1e-12
            assert (operator(np.minimum(one, other)) <= operator(one) + 1e-12).all()


def test_robust_return_falls_with_the_radius_and_is_least_on_the_simplex():
    for problem in problems(6):
        for ball in LARGEST:
            for horizon in (None, 4):
                found = [
                    replace(problem, radius=share * problem.radius).solve(ball, horizon=horizon).robust_return
                    for share in (0.0, 0.2, 0.6, 1.0)
                ]
                assert (np.diff(found) <= 1e-9).all()
            simplex, nominal = (problem.solve(ball, support=support).robust_return for support in SUPPORTS)
            assert simplex <= nominal + 1e-9


def test_no_model_of_the_ball_is_worse_than_the_worst():
    rng = np.random.default_rng(0)
    for problem in problems(6):
        model, solution = problem.model, problem.solve("l1")
        for _ in range(20):
            target = rng.dirichlet(np.ones(model.num_states), size=problem.radius.shape)
            if problem.support == "nominal":
                target = target * (model.transition > 0)
                target /= target.sum(axis=-1, keepdims=True)
            far = abs(target - model.transition).sum(axis=-1)
            share = np.minimum(1, 2 * problem.radius / np.maximum(far, 1e-12))[..., None]
            other = replace(model, transition=model.transition + share * (target - model.transition))
            lowered = replace(other, reward=other.expected_reward - rng.random() * problem.reward_radius)
            assert policy_return(lowered, solution.policy, problem.discount) >= solution.robust_return - 1e-9


# --- closed forms -----------------------------------------------------------------------------------------------------


def test_half_of_the_radius_moves_from_the_best_to_the_worst():
    p, v = np.array([0.1, 0.2, 0.3, 0.4]), np.array([1.0, 0.0, 3.0, 2.0])
    np.testing.assert_allclose(worst_case_l1(p, v, 0.2), [0.1, 0.3, 0.2, 0.4])
    np.testing.assert_allclose(worst_case_l1(p, v, 0.8), [0.1, 0.6, 0.0, 0.3])
    np.testing.assert_allclose(worst_case_l1(p, v, 2.0), [0, 1, 0, 0])
    np.testing.assert_allclose(worst_case_linf(p, v, 0.05), [0.15, 0.25, 0.25, 0.35])
    np.testing.assert_allclose(worst_case_linf(p, v, 1.0), [0, 1, 0, 0])
    sure = np.eye(4)[2]
    np.testing.assert_allclose(worst_case_l1(sure, v, 0.5), [0, 0.25, 0.75, 0])
    np.testing.assert_allclose(worst_case_l1(sure, v, 0.5, sure > 0), sure)
    np.testing.assert_allclose(worst_case_linf(sure, v, 0.5, [True, False, True, True]), [0.5, 0, 0.5, 0])


def test_two_successors_have_the_probability_whose_divergence_is_the_radius():
    for chance, radius in product((0.5, 0.01, 1 - 1e-6), (1e-8, 1e-3, 0.1)):
        q = worst_case_kl([chance, 1 - chance], [0.0, 1.0], radius)[0]
        if radius >= -np.log(chance):
            assert q == 1.0
            continue
        divergence = q * np.log(q / chance) + (1 - q) * np.log1p(-q) - (1 - q) * np.log1p(-chance)
        assert divergence == pytest.approx(radius, rel=1e-6, abs=1e-14)
        assert q > chance


def test_small_kl_radius_costs_its_root_times_the_standard_deviation():
    p, v = np.array([0.2, 0.5, 0.3]), np.array([1.0, 4.0, -2.0])
    deviation = np.sqrt(p @ v**2 - (p @ v) ** 2)
    for radius in (1e-6, 1e-10):
        loss = p @ v - worst_case_kl(p, v, radius) @ v
        assert loss == pytest.approx(np.sqrt(2 * radius) * deviation, rel=1e-2)


def test_kl_ball_that_holds_the_point_masses_gives_the_worst_of_the_support():
    p, v = np.array([0.5, 0.25, 0.25, 0.0]), np.array([2.0, 1.0, 1.0, -9.0])
    np.testing.assert_allclose(worst_case_kl(p, v, np.log(2)), [0, 0.5, 0.5, 0], atol=1e-12)
    np.testing.assert_allclose(worst_case_kl(p, v, np.inf), [0, 0.5, 0.5, 0], atol=1e-12)
    np.testing.assert_allclose(worst_case_kl(p, np.ones(4), 1.0), p)
    tiny = worst_case_kl([1e-17, 1.0], [0.0, 1.0], 20.0)
    assert 0 < tiny[0] < 1


def test_l1_worst_case_for_ever_is_a_geometric_sum():
    """One safe state of reward 1 and a terminal one: nature ends the episode with probability t/2."""
    model = TabularModel(np.eye(2)[[[0], [1]]], np.array([[1.0], [0.0]]), terminal=np.array([False, True]))
    for radius in (0.0, 0.2, 1.0, 2.0):
        found = robust_value_iteration(model, radius, discount=0.9).robust_return
        assert found == pytest.approx(1 / (1 - 0.9 * (1 - radius / 2)))
        assert robust_value_iteration(model, radius, discount=0.9, support="nominal").robust_return == pytest.approx(10)
    assert robust_value_iteration(model, 0.2, horizon=3).robust_return == pytest.approx(1 + 0.9 + 0.81)


def test_uncertain_rewards_are_lost_at_every_step_and_not_in_terminal_states():
    model = river_swim_model()
    sure, unsure = (robust_value_iteration(model, 0.1, discount=0.9, reward_radius=lower) for lower in (0.0, 0.03))
    np.testing.assert_allclose(sure.value - unsure.value, 0.3, atol=1e-9)
    table = np.zeros((6, 2))
    table[0, 0] = 1.0
    assert robust_value_iteration(model, 0.0, discount=0.9, reward_radius=table).value[-1] > 0
    ended = TabularModel(np.eye(2)[[[1], [1]]], np.array([[1.0], [0.0]]), terminal=np.array([False, True]))
    assert robust_value_iteration(ended, 0.0, discount=0.9, reward_radius=0.25).value.tolist() == [0.75, 0.0]


def test_rewards_by_successor_are_nature_s_to_choose():
    """The same successor value, but one move pays: nature avoids it."""
    transition, paid = np.tile(np.eye(3)[:, None], (1, 1, 1)), np.zeros((3, 1, 3))
    transition[0, 0], paid[0, 0, 1] = [0.0, 0.5, 0.5], 1.0
    model = TabularModel(transition, paid, terminal=np.arange(3) > 0)
    assert robust_value_iteration(model, 0.4, discount=0.9).robust_return == pytest.approx(0.3)
    assert robust_value_iteration(model, 0.1, "linf", discount=0.9, support="nominal").robust_return == pytest.approx(
        0.4
    )


def doors(stay: float) -> list[TabularModel]:
    """Two doors of which one pays 1, the left in the first candidate and the right in the second; staying pays."""
    transition = np.zeros((2, 3, 2))
    transition[..., 1] = 1
    return [
        TabularModel(
            transition,
            np.array([[left, 1 - left, stay], [0, 0, 0]]),
            cost=np.zeros((1, 2, 3)),
            terminal=np.array([False, True]),
        )
        for left in (1.0, 0.0)
    ]


def test_rectangular_set_of_two_doors_is_too_careful():
    models = doors(stay=0.2)
    rectangular = robust_value_iteration(models, ball="finite", horizon=1)
    assert rectangular.policy[0, 0].tolist() == [0, 0, 1]
    assert rectangular.robust_return == pytest.approx(0.2)
    fixed = robust_constrained_plan(models, np.inf, horizon=1)
    assert fixed.guaranteed_return == pytest.approx(0.5)
    coin = np.array([[0.5, 0.5, 0.0], [1, 0, 0]])
    assert min(policy_return(model, coin, horizon=1) for model in models) == pytest.approx(0.5)
    assert robust_policy_evaluation(models, coin, ball="finite", horizon=1).robust_return == pytest.approx(0.0)


def test_rectangular_guarantee_is_at_most_that_against_one_candidate_for_the_whole_episode():
    for problem in problems(5):
        model = replace(problem.model, cost=np.zeros((1, problem.model.num_states, problem.model.num_actions)))
        models = [model, replace(model, reward=-model.reward)]
        rectangular = robust_value_iteration(models, ball="finite", horizon=3)
        fixed = robust_constrained_plan(models, np.inf, horizon=3)
        assert rectangular.robust_return <= fixed.guaranteed_return + 1e-7


def test_finite_set_with_a_horizon_is_that_of_the_rectangular_plan():
    for problem in problems(6):
        model = replace(problem.model, cost=np.zeros((1, problem.model.num_states, problem.model.num_actions)))
        models = [model, shuffled(model, np.random.default_rng(1))]
        plan = rectangular_constrained_plan(models, 1.0, 0.9, horizon=4)
        found = robust_value_iteration(models, ball="finite", discount=0.9, horizon=4)
        assert found.robust_return == pytest.approx(plan.guaranteed_return, abs=1e-9)


def test_worst_candidate_counts_its_reward():
    candidates = np.array([[[0.5, 0.5], [1.0, 0.0]], [[0.9, 0.1], [0.0, 1.0]]])
    values = np.array([0.0, 1.0])
    assert worst_candidate(candidates, values).tolist() == [1, 0]
    assert worst_candidate(candidates, values, [[0, 0], [0.5, -2]]).tolist() == [0, 1]


def test_given_support_lies_between_nominal_and_simplex():
    for problem in problems(4):
        model = problem.model
        further = model.transition > 0
        further[..., 0] = True
        found = [problem.solve("l1", support=support).robust_return for support in ("nominal", further, "simplex")]
        assert found[0] >= found[1] - 1e-9 >= found[2] - 2e-9
        full = problem.solve("l1", support=np.ones(model.transition.shape, bool))
        np.testing.assert_allclose(full.value, problem.solve("l1", support="simplex").value, atol=1e-9)


def test_timed_policies_are_evaluated_step_by_step():
    for problem in problems(4):
        solution = problem.solve("l1", horizon=3)
        rng = np.random.default_rng(0)
        other = np.stack([random_policy(problem.model, rng) for _ in range(3)])
        found = robust_policy_evaluation(
            problem.model, other, problem.radius * 2, discount=problem.discount, horizon=3,
            support=problem.support, reward_radius=problem.reward_radius,
        )  # fmt: skip
        assert found.robust_return <= solution.robust_return + 1e-9
        worst, policy = found.worst_problem()
        assert policy_return(worst, policy, problem.discount) == pytest.approx(found.robust_return, abs=1e-10)


def test_horizon_of_the_model_is_taken():
    model = replace(river_swim_model(), horizon=5)
    assert robust_value_iteration(model, 0.1).horizon == 5
    assert robust_value_iteration(model, 0.1).robust_return == pytest.approx(
        robust_value_iteration(river_swim_model(), 0.1, horizon=5).robust_return
    )


def test_error_bound_is_within_the_tolerance():
    for problem in problems(6):
        for ball in LARGEST:
            assert problem.solve(ball).error_bound <= 1e-9
    patient = robust_value_iteration(river_swim_model(), 0.1, discount=0.999)
    assert patient.error_bound <= 1e-8


def test_problem_without_a_choice_and_without_a_future_is_solved():
    over = TabularModel(np.ones((1, 1, 1)), np.zeros((1, 1)), terminal=np.array([True]))
    for ball in LARGEST:
        assert robust_value_iteration(over, 0.5, ball, discount=0.9).value.tolist() == [0.0]


# --- observation attacks ----------------------------------------------------------------------------------------------


def test_an_adversary_who_may_only_tell_the_truth_changes_nothing():
    model = river_swim_model()
    policy = random_policy(model, np.random.default_rng(0))
    found = optimal_observation_attack(model, policy, np.eye(6, dtype=bool), 0.9)
    assert found.attacked_return == found.clean_return == pytest.approx(policy_return(model, policy, 0.9))
    blind = np.tile(policy[:1], (6, 1))
    found = optimal_observation_attack(model, blind, np.ones((6, 6), bool), 0.9)
    assert found.attacked_return == pytest.approx(found.clean_return)


def test_larger_sets_of_lies_hurt_more():
    for problem in problems(6):
        model = replace(problem.model, action_mask=None)
        policy = value_iteration(model, problem.discount).policy
        index = np.arange(model.num_states)
        found = [
            optimal_observation_attack(model, policy, abs(index[:, None] - index) <= reach, problem.discount)
            for reach in range(4)
        ]
        assert (np.diff([each.attacked_return for each in found]) <= 1e-9).all()
        assert all(each.attacked_return <= each.clean_return + 1e-9 for each in found)


def look_alikes() -> tuple[TabularModel, np.ndarray]:
    """Two states, either may be shown as the other; left pays 1 in the first and right in the second."""
    transition = np.zeros((3, 2, 3))
    transition[..., 2] = 1
    model = TabularModel(transition, np.array([[1.0, 0], [0, 1], [0, 0]]), terminal=np.arange(3) == 2,
                         initial=np.array([0.5, 0.5, 0]))  # fmt: skip
    shows = np.eye(3, dtype=bool)
    shows[:2, :2] = True
    return model, shows


def test_under_attack_no_policy_is_best_in_every_state():
    model, shows = look_alikes()

    def value(policy: np.ndarray) -> np.ndarray:
        return optimal_observation_attack(model, policy, shows, 0.9).value[:2]

    found = [value(policy) for policy in deterministic_policies(model)]
    assert sorted({tuple(each) for each in found}) == [(0, 0), (0, 1), (1, 0)]
    coin = value(np.full((3, 2), 0.5))
    np.testing.assert_allclose(coin, [0.5, 0.5])
    assert not any((each >= coin - 1e-9).all() for each in found)
    rng = np.random.default_rng(0)
    assert all(value(random_policy(model, rng)).sum() <= 1 + 1e-9 for _ in range(50))


# --- size, bad input --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_intensive_care_is_solved_in_seconds():
    model = tabular_model("CA14/ICUSepsis-v0")
    nominal = value_iteration(model, 0.99).optimal_return
    for ball, radius, support in (("l1", 0.1, "simplex"), ("l1", 0.1, "nominal"), ("linf", 0.01, "nominal")):
        start = time.process_time()
        found = robust_value_iteration(model, radius, ball, discount=0.99, support=support)
        assert time.process_time() - start < 10
        assert found.error_bound <= 1e-9
        assert 0 < found.robust_return < nominal


def test_bad_radii_are_named():
    p, v = [0.5, 0.5], [0.0, 1.0]
    for radius, shown in ((2.1, "2.1"), (-0.1, "-0.1"), (np.nan, "nan")):
        with pytest.raises(ValueError, match=rf"radius must be in \[0, 2\], got {shown}"):
            worst_case_l1(p, v, radius)
    with pytest.raises(ValueError, match=r"radius must be in \[0, 1\], got 1.5"):
        worst_case_linf(p, v, 1.5)
    with pytest.raises(ValueError, match="radius must be at least 0, got -1"):
        worst_case_kl(p, v, -1.0)
    model = river_swim_model()
    with pytest.raises(ValueError, match=r"radius must be in \[0, 2\], got 3"):
        robust_value_iteration(model, 3.0, discount=0.9)
    with pytest.raises(ValueError, match=r"radius must be a number or have shape \(6, 2\), got \(6,\)"):
        robust_value_iteration(model, np.zeros(6), discount=0.9)
    with pytest.raises(ValueError, match=r"reward_radius must be .*, got -1"):
        robust_value_iteration(model, 0.0, discount=0.9, reward_radius=-1)
    with pytest.raises(ValueError, match=r"radius must be 0 for a finite set of models, got 0\.1"):
        robust_value_iteration([model], 0.1, "finite", discount=0.9)


def test_bad_rows_are_named():
    with pytest.raises(ValueError, match="probabilities must be distributions"):
        worst_case_l1([0.5, 0.6], [0.0, 1.0], 0.1)
    with pytest.raises(ValueError, match=r"values must have shape \(2,\) or \(2,\), got \(3,\)"):
        worst_case_l1([0.5, 0.5], [0.0, 1.0, 2.0], 0.1)
    with pytest.raises(ValueError, match="values must be finite, got nan"):
        worst_case_kl([0.5, 0.5], [0.0, np.nan], 0.1)
    with pytest.raises(ValueError, match="support must hold every successor"):
        worst_case_linf([0.5, 0.5], [0.0, 1.0], 0.1, [True, False])
    with pytest.raises(ValueError, match="support must have shape"):
        worst_case_linf([0.5, 0.5], [0.0, 1.0], 0.1, [True])
    with pytest.raises(ValueError, match=r"values must have shape \(2,\)"):
        worst_candidate([[0.5, 0.5]], [[0.0, 1.0]])


def test_bad_arguments_of_the_planners_are_named():
    model = river_swim_model()
    with pytest.raises(ValueError, match="discount must be below 1 without a horizon, got 1"):
        robust_value_iteration(model, 0.1)
    with pytest.raises(ValueError, match=r"discount must lie in \(0, 1\], got 1.5"):
        robust_value_iteration(model, 0.1, discount=1.5)
    with pytest.raises(ValueError, match="horizon must be at least 1"):
        robust_value_iteration(model, 0.1, horizon=0)
    with pytest.raises(ValueError, match="ball must be one of l1, linf, kl, finite, got 'l2'"):
        robust_value_iteration(model, 0.1, "l2", discount=0.9)
    with pytest.raises(ValueError, match='support must be "simplex", "nominal" or booleans'):
        robust_value_iteration(model, 0.1, discount=0.9, support="all")
    with pytest.raises(ValueError, match=r"support must have shape \(6, 2, 6\), got \(6,\)"):
        robust_value_iteration(model, 0.1, discount=0.9, support=np.ones(6))
    with pytest.raises(ValueError, match="support must hold every successor"):
        robust_value_iteration(model, 0.1, discount=0.9, support=np.zeros((6, 2, 6)))
    with pytest.raises(ValueError, match="tolerance must be positive, got 0"):
        robust_value_iteration(model, 0.1, discount=0.9, tolerance=0)
    with pytest.raises(ValueError, match="max_iterations must be at least 1, got 0"):
        robust_value_iteration(model, 0.1, discount=0.9, max_iterations=0)
    with pytest.raises(RuntimeError, match="not settled after 1"):
        robust_value_iteration(model, 0.3, discount=0.99, max_iterations=1)
    with pytest.raises(ValueError, match="policy must have shape"):
        robust_policy_evaluation(model, np.ones((2, 2)), 0.1, discount=0.9)
    with pytest.raises(ValueError, match="too many for a table of kernels"):
        robust_value_iteration(model, 0.1, horizon=10_000_000)


def test_candidates_that_do_not_fit_are_named():
    model = river_swim_model()
    with pytest.raises(ValueError, match="model must be a sequence"):
        robust_value_iteration(model, ball="finite", discount=0.9)
    with pytest.raises(ValueError, match="model must be a sequence"):
        robust_value_iteration([model], 0.1, discount=0.9)
    with pytest.raises(ValueError, match="at least one candidate, got none"):
        robust_value_iteration([], ball="finite", discount=0.9)
    with pytest.raises(ValueError, match="candidates must agree in transition, but candidate 1"):
        robust_value_iteration([model, river_swim_model(5)], ball="finite", discount=0.9)
    with pytest.raises(ValueError, match="candidates must agree in initial, but candidate 1"):
        robust_value_iteration([model, replace(model, initial=np.eye(6)[0])], ball="finite", discount=0.9)
    with pytest.raises(ValueError, match="candidates must agree in horizon, got None and 3"):
        robust_value_iteration([model, replace(model, horizon=3)], ball="finite", discount=0.9)


def test_bad_neighbours_are_named():
    model = river_swim_model()
    policy = np.full((6, 2), 0.5)
    with pytest.raises(ValueError, match=r"neighbours must have shape \(6, 6\), got \(6,\)"):
        optimal_observation_attack(model, policy, np.ones(6), 0.9)
    with pytest.raises(ValueError, match="but state 3 may not"):
        optimal_observation_attack(model, policy, np.diag(np.arange(6) != 3), 0.9)
    with pytest.raises(ValueError, match="discount must be below 1 without a horizon"):
        optimal_observation_attack(model, policy, np.eye(6), 1.0)
    mask = np.ones((6, 2), bool)
    mask[2, 1] = False
    masked = replace(model, action_mask=mask)
    table = np.where(mask, policy, 0)
    table[2, 0] = 1.0
    shows = np.eye(6, dtype=bool)
    assert optimal_observation_attack(masked, table, shows, 0.9).attacked_return > 0
    shows[2, 4] = True
    with pytest.raises(ValueError, match="state 2 may be shown as 4, where the policy takes an action that 2 forbids"):
        optimal_observation_attack(masked, table, shows, 0.9)


# --- planted faults ---------------------------------------------------------------------------------------------------

Plant = Callable[[pytest.MonkeyPatch], None]


def altered(name: str, healthy: str, wrong: str) -> Plant:
    """A function or method of the module whose source reads ``wrong`` in place of ``healthy``."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        owner, _, method = name.partition(".")
        target = getattr(robust, owner) if method else robust
        source = textwrap.dedent(inspect.getsource(getattr(target, method or owner)))
        assert source.count(healthy) == 1, f"{healthy!r} stands {source.count(healthy)} times in {name}"
        space: dict[str, object] = {}
        exec(compile(source.replace(healthy, wrong), name, "exec"), vars(robust), space)
        patch.setattr(target, method or owner, space[method or owner])

    return plant


programmes = values_solve_the_linear_programmes
FAULTS: dict[str, tuple[Plant, tuple[Callable[[], None], ...]]] = {
    "l1: the whole radius moves": (altered("_l1", "radius / 2", "radius"), (programmes, kernel_lies_in_the_ball)),
    "l1: taken from the worst first": (
        altered("_l1", "np.cumsum(q[..., ::-1], axis=-1)[..., ::-1] - q", "np.cumsum(q, axis=-1) - q"),
        (programmes,),
    ),
    "l1: given back to the best": (
        altered("_l1", "q[..., 0] += taken", "q[..., -1] += taken"),
        (programmes,),
    ),
    "l1: support forgotten": (
        altered("_l1", "v if allowed is None else np.where(allowed, v, np.inf)", "v"),
        (programmes,),
    ),
    "linf: best successors filled first": (
        altered("_linf", "np.cumsum(room, axis=-1) - room", "np.cumsum(room[..., ::-1], axis=-1)[..., ::-1] - room"),
        (programmes, horizons_solve_the_linear_programmes),
    ),
    "linf: shares below zero": (
        altered("_linf", "np.maximum(nominal - t, 0.0)", "nominal - t"),
        (programmes, kernel_lies_in_the_ball),
    ),
    "linf: twice the radius": (
        altered("_linf", "np.minimum(nominal + t, 1.0)", "np.minimum(nominal + 2 * t, 1.0)"),
        (programmes, kernel_lies_in_the_ball),
    ),
    "kl: tilts towards the best": (
        altered("_tilt", "-tilt[:, None]", "tilt[:, None]"),
        (kl_rows_agree_with_a_convex_solver,),
    ),
    "kl: first guess of the multiplier": (
        altered("_tilted", "range(NEWTON_STEPS)", "range(1)"),
        (kl_rows_agree_with_a_convex_solver, kl_rows_close_the_gap_to_the_dual),
    ),
    "kl: half the radius": (
        altered("_tilted", "/ radius[active])", "/ (radius[active] / 2))"),
        (kl_rows_agree_with_a_convex_solver, kl_rows_close_the_gap_to_the_dual),
    ),
    "kl: saturates too early": (
        altered("_kl", ">= -np.log(share)", ">= -0.2 * np.log(share)"),
        (kl_rows_close_the_gap_to_the_dual,),
    ),
    "iteration: rewards rise by their radius": (
        altered("_ball_nature", "reward - less[pairs]", "reward + less[pairs]"),
        (programmes, horizons_solve_the_linear_programmes),
    ),
    "iteration: rewards averaged nominally": (
        altered(
            "_ball_nature",
            "(rows * by_successor[pairs]).sum(axis=1)",
            "model.expected_reward[state[pairs], action[pairs]]",
        ),
        (programmes, horizons_solve_the_linear_programmes),
    ),
    "iteration: nature is blind to rewards by successor": (
        altered("_ball_nature", "worth = by_successor[pairs] + worth", "pass"),
        (programmes, horizons_solve_the_linear_programmes),
    ),
    "iteration: masks ignored": (
        altered("_pairs", "open_pairs & model.action_mask", "open_pairs"),
        (programmes, radius_zero_is_the_nominal_optimum),
    ),
    "iteration: terminal states go on": (
        altered("_pairs", "~model.terminal[:, None]", "model.terminal[:, None] | True"),
        (programmes, kernel_lies_in_the_ball),
    ),
    "iteration: nature answers once": (
        altered("_settled", "bool(residual <=", "bool(True or residual <="),
        (programmes, best_policy_is_the_best_of_all),
    ),
    "iteration: not discounted": (
        altered("_Nature.q", "self.discount * (rows @ value)", "(rows @ value)"),
        (programmes,),
    ),
    "finite: mean of the candidates": (
        altered(
            "_finite_nature",
            "return rows[worst, pairs], rewards[worst, pairs]",
            "return rows[:, pairs].mean(axis=0), rewards[:, pairs].mean(axis=0)",
        ),
        (finite_sets_are_the_worst_of_every_choice,),
    ),
    "finite: rewards forgotten in the choice": (
        altered("_finite_nature", "(rewards[:, pairs] + discount * ", "(discount * "),
        (finite_sets_are_the_worst_of_every_choice,),
    ),
    "finite: best candidate": (
        altered("_finite_nature", ".argmin(axis=0)", ".argmax(axis=0)"),
        (finite_sets_are_the_worst_of_every_choice,),
    ),
    "attack: shown where it may not be": (
        altered(
            "optimal_observation_attack",
            "shows = _checked_neighbours(model, policy, neighbours)",
            "shows = _checked_neighbours(model, policy, neighbours).T",
        ),
        (attacks_are_the_worst_of_all,),
    ),
    "attack: dynamics of the shown state": (
        altered(
            "optimal_observation_attack", "found.q @ policy.T", "(policy * found.q).sum(axis=1)[None].repeat(states, 0)"
        ),
        (attacks_are_the_worst_of_all,),
    ),
    "attack: one improvement only": (
        altered("optimal_observation_attack", "if not (better & ~model.terminal).any():", "if True:"),
        (attacks_are_the_worst_of_all,),
    ),
    "attack: first step's policy throughout": (
        altered("optimal_observation_attack", "tables[step].T", "tables[0].T"),
        (attacks_are_the_worst_of_all,),
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_planted_fault_is_caught(name, monkeypatch):
    plant, caught_by = FAULTS[name]
    plant(monkeypatch)
    for holds in caught_by:
        with pytest.raises((AssertionError, ValueError, RuntimeError, np.linalg.LinAlgError)):
            holds()
