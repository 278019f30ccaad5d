"""The linear programme against enumeration of policies and their mixtures, pencil and paper, and its own dual."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
from scipy.optimize import linprog, minimize, minimize_scalar

from ca14lib.environments import TabularModel, tabular_model
from ca14lib.solvers import (
    InfeasibleError,
    constrained,
    constrained_optimum,
    dual_function,
    lagrangian_optimum,
    pareto_front,
    policy_costs,
    policy_evaluation,
    policy_return,
    smallest_cost,
    value_iteration,
)

SAFE_GRID = "CA14/SafeGrid-v0"


def small_problem(seed: int, num_costs: int = 1, *, ending: bool = False) -> TabularModel:
    """Three or four states, two actions, stochastic, perhaps masked, perhaps with rewards by successor."""
    rng = np.random.default_rng(seed)
    states = int(rng.integers(3, 5))
    weight = rng.exponential(size=(states, 2, states)) * (rng.random((states, 2, states)) < 0.6)
    weight[..., -1] += 0.3 * ending
    stuck = weight.sum(axis=2) == 0
    weight[stuck, rng.integers(states, size=stuck.sum())] = 1.0
    by_successor, masked = rng.random(2) < 0.5
    mask = rng.random((states, 2)) < 0.7
    mask[np.arange(states), rng.integers(2, size=states)] = True
    ends = ending or rng.random() < 0.5
    initial = rng.dirichlet(np.ones(states)) * (rng.random(states) < 0.7) + 1e-3 * np.eye(states)[0]
    return TabularModel(
        transition=weight / weight.sum(axis=2, keepdims=True),
        reward=rng.normal(size=(states, 2, states) if by_successor else (states, 2)),
        cost=rng.normal(0.5, 1.0, size=(num_costs, states, 2, states) if by_successor else (num_costs, states, 2)),
        terminal=np.arange(states) == states - 1 if ends else None,
        initial=initial / initial.sum(),
        action_mask=mask if masked else None,
    )


def every_deterministic_policy(model: TabularModel, horizon: int | None) -> Iterator[np.ndarray]:
    """Every choice where there is one; terminal states and steps of no consequence are not told apart."""
    mask = np.ones((model.num_states, 2), bool) if model.action_mask is None else model.action_mask
    rows = [np.flatnonzero(row) if not end else [int(row.argmax())] for row, end in zip(mask, model.terminal)]
    if horizon is not None:
        rows = rows * horizon
    for choice in product(*rows):
        table = np.eye(2)[list(choice)]
        yield table if horizon is None else table.reshape(horizon, model.num_states, 2)


def totals(model: TabularModel, policy: np.ndarray, discount: float, horizon: int | None) -> np.ndarray:
    """Return and costs of a policy by following the distribution of the state, ``[1 + K]``."""
    signals = [model.reward, *model.cost]
    state, weight, total = model.initial.copy(), 1.0, np.zeros(len(signals))
    for step in range(4_000 if horizon is None else horizon):
        joint = (state[:, None] * (policy if horizon is None else policy[step]))[..., None] * model.transition
        total += [weight * (joint * (each if each.ndim == 3 else each[..., None])).sum() for each in signals]
        state, weight = joint.sum(axis=(0, 1)), weight * discount
        if weight * state[~model.terminal].sum() < 1e-13:
            break
    return total


def every_outcome(model: TabularModel, discount: float, horizon: int | None) -> np.ndarray:
    """Return and costs of every deterministic policy, ``[N, 1 + K]``."""
    return np.array([totals(model, p, discount, horizon) for p in every_deterministic_policy(model, horizon)])


def best_mixture(outcomes: np.ndarray, limits: np.ndarray) -> float | None:
    """The best return of a mixture that keeps the limits, None where there is none."""
    bounded = np.isfinite(limits)
    rows = outcomes[:, 1:].T[bounded]
    found = linprog(
        -outcomes[:, 0],
        A_ub=rows if bounded.any() else None,
        b_ub=limits[bounded] if bounded.any() else None,
        A_eq=np.ones((1, len(outcomes))),
        b_eq=[1.0],
    )
    return None if found.status == 2 else -found.fun


SETTINGS = [(1.0, 2), (0.8, 2), (1.0, 3), (0.7, None), (0.95, None), (1.0, None)]


def cases(count: int, num_costs: int = 1) -> Iterator[tuple[TabularModel, float, int | None, np.random.Generator]]:
    for seed in range(count):
        discount, horizon = SETTINGS[seed % len(SETTINGS)]
        model = small_problem(seed, num_costs, ending=horizon is None and discount == 1.0)
        yield model, discount, horizon, np.random.default_rng(seed)


# What must hold; each is also run against the faults planted at the end of the file


def no_mixture_of_policies_is_better_and_one_is_as_good() -> None:
    for num_costs in (1, 2):
        solved = 0
        for model, discount, horizon, rng in cases(36, num_costs):
            outcomes = every_outcome(model, discount, horizon)
            limits = rng.uniform(outcomes[:, 1:].min(axis=0), outcomes[:, 1:].max(axis=0) + 0.1)
            limits[rng.random(num_costs) < 0.1] = np.inf
            expected = best_mixture(outcomes, limits)
            if expected is None:
                with pytest.raises(InfeasibleError):
                    constrained_optimum(model, limits, discount, horizon)
                continue
            solution = constrained_optimum(model, limits, discount, horizon)
            assert solution.optimal_return == pytest.approx(expected, abs=1e-7)
            assert (solution.costs <= limits + 1e-8).all()
            solved += 1
        assert solved > 18


def policy_has_the_return_and_the_costs_that_are_reported() -> None:
    for model, discount, horizon, rng in cases(36, 2):
        limits = lagrangian_optimum(model, rng.exponential(size=2), discount, horizon).costs
        solution = constrained_optimum(model, limits, discount, horizon)
        measured = totals(model, solution.policy, discount, horizon)
        np.testing.assert_allclose(np.append(solution.optimal_return, solution.costs), measured, atol=1e-8)
        assert policy_return(model, solution.policy, discount, horizon) == pytest.approx(measured[0], abs=1e-8)
        np.testing.assert_allclose(policy_costs(model, solution.policy, discount, horizon), measured[1:], atol=1e-8)
        visits = solution.occupancy if horizon is None else solution.occupancy.sum(axis=0)
        assert (visits * model.expected_reward).sum() == pytest.approx(measured[0], abs=1e-8)


def dual_is_minimised_at_the_multipliers_and_has_no_gap() -> None:
    for model, discount, horizon, rng in cases(18):
        front = pareto_front(model, discount, horizon)
        if len(front.multipliers) == 0:
            continue
        limit = float(rng.uniform(front.costs[0], front.costs[-1]))
        solution = constrained_optimum(model, limit, discount, horizon)

        def dual(price: float, model=model, limit=limit, discount=discount, horizon=horizon) -> float:
            return dual_function(model, abs(price), limit, discount, horizon)

        assert dual(solution.multipliers[0]) == pytest.approx(solution.optimal_return, abs=1e-7)
        for price in rng.exponential(scale=3, size=10):
            assert dual(price) >= solution.optimal_return - 1e-8
        span = (0.0, 2 * front.multipliers[0] + 1)
        least = minimize_scalar(dual, bounds=span, method="bounded", options={"xatol": 1e-10})
        assert least.fun == pytest.approx(solution.optimal_return, abs=1e-5)


def multiplier_is_the_slope_of_the_optimal_return() -> None:
    seen = 0
    for model, discount, horizon, rng in cases(36, 2):
        outcomes = every_outcome(model, discount, horizon)
        limits = lagrangian_optimum(model, rng.exponential(size=2), discount, horizon).costs + rng.exponential(0.3, 2)
        solution = constrained_optimum(model, limits, discount, horizon)
        assert (solution.multipliers >= 0).all()
        slack = limits - solution.costs
        np.testing.assert_allclose(solution.multipliers * slack, 0, atol=1e-6)
        for k in range(2):
            change = 1e-5 * np.eye(2)[k]
            up, down = best_mixture(outcomes, limits + change), best_mixture(outcomes, limits - change)
            if down is None:
                continue
            slopes = (up - solution.optimal_return) / 1e-5, (solution.optimal_return - down) / 1e-5
            assert slopes[0] - 1e-3 <= solution.multipliers[k] <= slopes[1] + 1e-3
            seen += solution.multipliers[k] > 0.01
    assert seen > 10


def front_is_the_upper_edge_of_all_outcomes() -> None:
    corners = 0
    for model, discount, horizon, rng in cases(36):
        outcomes = every_outcome(model, discount, horizon)
        front = pareto_front(model, discount, horizon)
        assert front.costs[0] == pytest.approx(outcomes[:, 1].min(), abs=1e-8)
        assert front.returns[-1] == pytest.approx(outcomes[:, 0].max(), abs=1e-8)
        best = outcomes[outcomes[:, 0] > outcomes[:, 0].max() - 1e-9]
        assert front.costs[-1] == pytest.approx(best[:, 1].min(), abs=1e-8)
        limits = np.append(front.costs, rng.uniform(front.costs[0], front.costs[-1] + 0.5, size=8))
        expected = [best_mixture(outcomes, np.array([limit + 1e-10])) for limit in limits]
        np.testing.assert_allclose(front.optimal_return(limits), expected, atol=1e-6)
        assert (np.diff(front.costs) > 0).all()
        assert (np.diff(front.multipliers) < 0).all()
        assert (front.multipliers > 0).all()
        for policy, cost, value in zip(front.policies, front.costs, front.returns):
            assert set(np.unique(policy)) <= {0.0, 1.0} or (discount == 1.0 and horizon is None)
            assert totals(model, policy, discount, horizon) == pytest.approx([value, cost], abs=1e-8)
        assert np.isnan(front.optimal_return(front.costs[0] - 0.01))
        corners += len(front.costs) - 2
    assert corners > 20, "most fronts must have more than their two ends"


def optimum_where_the_limit_does_not_bind_has_the_least_cost() -> None:
    for model, discount, horizon, _ in cases(36):
        idle = replace(model, reward=np.round(model.expected_reward), cost=model.expected_cost)
        outcomes = every_outcome(idle, discount, horizon)
        best = outcomes[outcomes[:, 0] > outcomes[:, 0].max() - 1e-9]
        solution = constrained_optimum(idle, np.inf, discount, horizon)
        assert solution.optimal_return == pytest.approx(outcomes[:, 0].max(), abs=1e-8)
        assert solution.costs[0] == pytest.approx(best[:, 1].min(), abs=1e-7)
        assert solution.multipliers[0] == 0


def two_state_example_is_what_pencil_and_paper_say() -> None:
    """In state 0 work (reward 1, cost 1, on to state 1 for certain) or rest; from state 1 back to 0 for nothing.

    With x expected discounted visits to working, V(0) visits to state 0 and V(1) = γ x:
    V(0) = 1 + γ (V(0) − x) + γ² x, so resting and working share V(0) = (1 − γ x + γ² x) / (1 − γ). The return is x.
    """
    transition = np.zeros((2, 2, 2))
    transition[0, 0, 0] = transition[0, 1, 1] = transition[1, :, 0] = 1
    model = TabularModel(transition, [[0, 1.0], [0, 0]], cost=[[[0, 1.0], [0, 0]]])
    gamma = 0.5
    for limit in (0.0, 0.25, 1.0):
        solution = constrained_optimum(model, limit, gamma)
        visits = (1 - gamma * limit + gamma**2 * limit) / (1 - gamma)
        assert solution.optimal_return == pytest.approx(limit, abs=1e-12)
        assert solution.policy[0] == pytest.approx([1 - limit / visits, limit / visits], abs=1e-12)
    assert constrained_optimum(model, 2.0, gamma).optimal_return == pytest.approx(1 / (1 - gamma**2))
    assert constrained_optimum(model, 0.5, gamma).multipliers == pytest.approx([1.0])


def grid_has_the_known_values() -> None:
    model = tabular_model(SAFE_GRID)
    for limit, best in [(0.1, -5.0), (0.3, 0.64), (0.5, 6.28), (0.6, 9.1), (1.0, 9.1)]:
        solution = constrained_optimum(model, limit)
        assert solution.optimal_return == pytest.approx(best, abs=1e-9)
        assert solution.costs == pytest.approx([min(limit, 0.6)], abs=1e-9)
        if limit in (0.3, 0.5):
            assert solution.multipliers == pytest.approx([28.2], abs=1e-6)
    front = pareto_front(model)
    assert front.costs == pytest.approx([0.1, 0.6])
    assert front.returns == pytest.approx([-5.0, 9.1])
    assert front.multipliers == pytest.approx([28.2])


PROPERTIES = {
    each.__name__: each
    for each in (
        no_mixture_of_policies_is_better_and_one_is_as_good,
        policy_has_the_return_and_the_costs_that_are_reported,
        dual_is_minimised_at_the_multipliers_and_has_no_gap,
        multiplier_is_the_slope_of_the_optimal_return,
        front_is_the_upper_edge_of_all_outcomes,
        optimum_where_the_limit_does_not_bind_has_the_least_cost,
        two_state_example_is_what_pencil_and_paper_say,
        grid_has_the_known_values,
    )
}


@pytest.mark.parametrize("name", PROPERTIES)
def test_property_holds(name):
    PROPERTIES[name]()


# Other properties


def test_several_multipliers_minimise_the_dual():
    for seed in range(4):
        model = small_problem(seed, 2)
        limits = lagrangian_optimum(model, [0.5, 1.0], 0.9).costs + 0.05
        solution = constrained_optimum(model, limits, 0.9)

        def dual(prices: np.ndarray, model=model, limits=limits) -> float:
            return dual_function(model, np.maximum(prices, 0), limits, 0.9) - 10 * np.minimum(prices, 0).sum()

        least = minimize(dual, solution.multipliers + 0.1, method="Nelder-Mead", options={"fatol": 1e-10})
        assert dual(solution.multipliers) == pytest.approx(solution.optimal_return, abs=1e-7)
        assert solution.optimal_return - 1e-6 <= least.fun <= solution.optimal_return + 1e-2


def test_policy_randomises_in_at_most_as_many_places_as_there_are_limits():
    for num_costs in (1, 2):
        for model, discount, horizon, rng in cases(30, num_costs):
            limits = lagrangian_optimum(model, rng.exponential(size=num_costs), discount, horizon).costs + 0.02
            solution = constrained_optimum(model, limits, discount, horizon)
            visited = solution.occupancy.sum(axis=-1) > 1e-9
            split = (solution.policy > 1e-7).sum(axis=-1)[visited] - 1
            assert split.sum() <= num_costs


def test_where_the_policy_never_comes_it_takes_the_best_action_of_the_lagrangian():
    for model, discount, horizon, _ in cases(24):
        if horizon is None and discount == 1.0:
            continue
        front = pareto_front(model, discount, horizon)
        solution = constrained_optimum(model, front.costs.mean(), discount, horizon)
        priced = model.expected_reward - solution.multipliers[0] * model.expected_cost[0]
        lagrangian = value_iteration(replace(model, reward=priced), discount, horizon)
        value = policy_evaluation(replace(model, reward=priced), solution.policy, discount, horizon).value
        np.testing.assert_allclose(value, lagrangian.value, atol=1e-6)


def test_lagrangian_policy_attains_its_value_and_is_deterministic():
    for model, discount, horizon, rng in cases(30, 2):
        prices = rng.exponential(size=2)
        best = lagrangian_optimum(model, prices, discount, horizon)
        outcomes = every_outcome(model, discount, horizon)
        assert best.value == pytest.approx((outcomes[:, 0] - outcomes[:, 1:] @ prices).max(), abs=1e-8)
        assert best.expected_return - prices @ best.costs == pytest.approx(best.value)
        assert totals(model, best.policy, discount, horizon)[0] == pytest.approx(best.expected_return, abs=1e-8)


def test_smallest_cost_is_the_least_limit_that_can_be_kept():
    for model, discount, horizon, _ in cases(24, 2):
        outcomes = every_outcome(model, discount, horizon)
        for k in range(2):
            least = smallest_cost(model, k, discount, horizon)
            assert least == pytest.approx(outcomes[:, 1 + k].min(), abs=1e-8)
            limits = np.where(np.arange(2) == k, least, np.inf)
            assert constrained_optimum(model, limits, discount, horizon).costs[k] == pytest.approx(least, abs=1e-8)
            with pytest.raises(InfeasibleError):
                constrained_optimum(model, limits - 1e-4, discount, horizon)


def test_front_has_no_two_segments_of_one_slope():
    for model, discount, horizon, _ in cases(24):
        front = pareto_front(model, discount, horizon)
        assert all(one - other > 1e-7 for one, other in pairwise(front.multipliers))


def test_scale_of_reward_and_cost_changes_nothing_else():
    model = tabular_model(SAFE_GRID)
    for scale in (1e-6, 1e5):
        scaled = replace(model, reward=10 * scale * model.reward, cost=scale * model.cost)
        solution = constrained_optimum(scaled, 0.3 * scale)
        assert solution.optimal_return == pytest.approx(6.4 * scale, rel=1e-8)
        assert solution.multipliers == pytest.approx([282.0], rel=1e-6)
        assert pareto_front(scaled).costs == pytest.approx(np.array([0.1, 0.6]) * scale)


def test_models_horizon_holds_unless_another_is_given():
    model = tabular_model(SAFE_GRID)
    assert constrained_optimum(model, 0.3).horizon == 50
    assert constrained_optimum(model, 0.1, horizon=7).optimal_return == pytest.approx(-0.7)
    assert constrained_optimum(model, 0.3).policy.shape == (50, 36, 4)


def test_one_number_bounds_every_cost():
    model = small_problem(3, 2)
    limits = lagrangian_optimum(model, 5.0, 0.9).costs.max() + 0.1
    one, both = constrained_optimum(model, limits, 0.9), constrained_optimum(model, [limits, limits], 0.9)
    assert one.optimal_return == both.optimal_return
    np.testing.assert_array_equal(one.limits, [limits, limits])


def test_start_in_a_terminal_state_leaves_nothing_to_decide():
    model = TabularModel([[[1.0]]], [[1.0]], cost=[[[1.0]]], terminal=[True])
    for discount, horizon in [(1.0, None), (0.9, None), (1.0, 3)]:
        solution = constrained_optimum(model, 0.0, discount, horizon)
        assert (solution.optimal_return, solution.costs[0]) == (0.0, 0.0)
        with pytest.raises(InfeasibleError, match=r"below 0 \(limit -1\)"):
            constrained_optimum(model, -1.0, discount, horizon)


# Limits that cannot be kept, problems without an optimum, bad input


def test_infeasible_limit_says_how_low_the_cost_can_be():
    with pytest.raises(InfeasibleError, match=r"^no policy has cost below 0\.1 \(limit 0\.05\)$") as caught:
        constrained_optimum(tabular_model(SAFE_GRID), 0.05)
    assert isinstance(caught.value, ValueError)
    assert caught.value.smallest_costs == pytest.approx([0.1])
    assert caught.value.limits.tolist() == [0.05]


def crossroads() -> TabularModel:
    """Two ways to the end: one costs (1, 0), the other (0, 1)."""
    transition = np.zeros((2, 2, 2))
    transition[..., 1] = 1
    return TabularModel(transition, np.ones((2, 2)), cost=[[[1, 0], [0, 0]], [[0, 1], [0, 0]]], terminal=[False, True])


@pytest.mark.parametrize(("discount", "horizon"), [(1.0, None), (0.9, None), (1.0, 1)])
def test_limits_that_can_be_met_alone_but_not_together_are_reported_as_such(discount, horizon):
    assert constrained_optimum(crossroads(), [0.4, 0.6], discount, horizon).policy[..., 0, :].ravel() == pytest.approx(
        [0.4, 0.6]
    )
    with pytest.raises(
        InfeasibleError, match=r"each limit alone can be met .* cost 1 can be as low as 0 \(limit 0.5\)"
    ):
        constrained_optimum(crossroads(), [0.4, 0.5], discount, horizon)
    with pytest.raises(InfeasibleError, match=r"^no policy has cost 1 below 0 \(limit -0\.5\)$"):
        constrained_optimum(crossroads(), [2.0, -0.5], discount, horizon)


def loop(reward: float, cost: float, *, ends: bool = True) -> TabularModel:
    """Stay (for the reward and the cost given) or leave, for nothing."""
    transition = np.zeros((2, 2, 2))
    transition[0, 0, 0] = transition[1, :, 1] = 1
    transition[0, 1, int(ends)] = 1
    return TabularModel(transition, [[reward, 0], [0, 0]], cost=[[[cost, 0], [0, 0]]], terminal=[False, ends])


def test_loop_that_earns_and_costs_is_used_as_often_as_the_limit_allows():
    solution = constrained_optimum(loop(1.0, 0.5), 2.0)
    assert solution.optimal_return == pytest.approx(4.0)
    assert solution.policy[0] == pytest.approx([0.8, 0.2])


def test_undiscounted_loop_that_earns_for_ever_is_reported():
    with pytest.raises(ValueError, match="unbounded"):
        constrained_optimum(loop(1.0, 0.0), 2.0)


def test_undiscounted_problem_that_cannot_end_is_reported():
    with pytest.raises(ValueError, match="no policy is sure to end"):
        constrained_optimum(loop(0.0, 0.0, ends=False), 2.0)


def test_return_that_is_only_approached_is_reported():
    """The loop, which pays in cost for its reward, lies where the policy would go with vanishing probability."""
    transition = np.zeros((3, 2, 3))
    transition[0, 0, 2] = transition[0, 1, 1] = transition[1, 0, 1] = transition[1, 1, 2] = transition[2, :, 2] = 1
    reward = [[0.0, -1.0], [1.0, 0.0], [0.0, 0.0]]
    cost = [[[0.0, 0.0], [1.0, 0.0], [0.0, 0.0]]]
    model = TabularModel(transition, reward, cost=cost, terminal=[False, False, True])
    with pytest.raises(ValueError, match="approached but not attained"):
        constrained_optimum(model, 5.0)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (np.nan, "limits must be numbers"),
        (-np.inf, "limits must be numbers"),
        ([0.1, 0.2], r"shape \(1,\), got shape \(2,\)"),
        ([[0.1]], r"got shape \(1, 1\)"),
    ],
)
def test_bad_limits_are_named(limits, message):
    with pytest.raises(ValueError, match=message):
        constrained_optimum(tabular_model(SAFE_GRID), limits)


def test_other_bad_input_is_named():
    model = tabular_model(SAFE_GRID)
    free = replace(model, cost=np.zeros((0, 36, 4)))
    with pytest.raises(ValueError, match="at least one cost function"):
        constrained_optimum(free, 0.1)
    assert policy_costs(free, np.full((36, 4), 0.25)).shape == (0,)
    for function in (constrained_optimum, lagrangian_optimum):
        with pytest.raises(ValueError, match=r"discount .* got 0\.0"):
            function(model, 0.1, 0.0)
        with pytest.raises(ValueError, match="horizon must be at least 1"):
            function(model, 0.1, horizon=0)
    with pytest.raises(ValueError, match="multipliers must be finite and at least 0"):
        lagrangian_optimum(model, -1.0)
    with pytest.raises(ValueError, match="multipliers must be 0 where limits are infinite"):
        dual_function(model, 1.0, np.inf)
    for function in (lambda: smallest_cost(model, 1), lambda: pareto_front(model, constraint=-1)):
        with pytest.raises(ValueError, match=r"constraint must lie in 0…0"):
            function()
    with pytest.raises(ValueError, match="probabilities"):
        policy_costs(model, np.ones((36, 4)))


# Planted faults

Plant = Callable[[pytest.MonkeyPatch], None]


def flow_with(change: Callable[[constrained._Flow, float], dict]) -> Plant:
    healthy = constrained._flow

    def wrong(model: TabularModel, discount: float, horizon: int | None) -> constrained._Flow:
        flow = healthy(model, discount, horizon)
        return replace(flow, **change(flow, discount))

    return lambda patch: patch.setattr(constrained, "_flow", wrong)


def solver_with(change: Callable) -> Plant:
    healthy = constrained._maximise
    return lambda patch: patch.setattr(constrained, "_maximise", lambda *given: change(healthy(*given)))


def flipped_multiplier(result):
    result.ineqlin.marginals = -result.ineqlin.marginals
    return result


def unscaled_multiplier(result):
    result.unit = 1.0
    return result


def cost_per_visit_without_discount(patch: pytest.MonkeyPatch) -> None:
    healthy = constrained._Flow.per_visit
    patch.setattr(
        constrained._Flow,
        "per_visit",
        lambda flow, table: table[:, flow.state, flow.action] if table.ndim == 3 else healthy(flow, table),
    )


def mask_forgotten(patch: pytest.MonkeyPatch) -> None:
    healthy = constrained._flow
    patch.setattr(constrained, "_flow", lambda model, *rest: healthy(replace(model, action_mask=None), *rest))


def second_objective_forgotten(patch: pytest.MonkeyPatch) -> None:
    healthy = constrained._lexicographic
    patch.setattr(
        constrained,
        "_lexicographic",
        lambda model, first, second, *rest: healthy(model, first, np.zeros_like(second), *rest),
    )


def price_adds_cost(patch: pytest.MonkeyPatch) -> None:
    healthy = constrained._priced
    patch.setattr(constrained, "_priced", lambda model, multipliers: healthy(model, -multipliers))


FAULTS: dict[str, tuple[Plant, tuple[Callable[[], None], ...]]] = {
    "dual of the wrong sign": (
        solver_with(flipped_multiplier),
        (multiplier_is_the_slope_of_the_optimal_return, grid_has_the_known_values),
    ),
    "multiplier left in the solver's unit": (
        solver_with(unscaled_multiplier),
        (dual_is_minimised_at_the_multipliers_and_has_no_gap, grid_has_the_known_values),
    ),
    "initial distribution forgotten": (
        flow_with(lambda flow, discount: {"inflow": np.eye(len(flow.inflow))[0]}),
        (no_mixture_of_policies_is_better_and_one_is_as_good,),
    ),
    "cost not discounted": (
        cost_per_visit_without_discount,
        (no_mixture_of_policies_is_better_and_one_is_as_good, multiplier_is_the_slope_of_the_optimal_return),
    ),
    "flow discounted twice": (
        flow_with(
            lambda flow, discount: {
                "conservation": flow.conservation + (discount - 1) * flow.conservation.minimum(0) * (not flow.horizon)
            }
        ),
        (two_state_example_is_what_pencil_and_paper_say, no_mixture_of_policies_is_better_and_one_is_as_good),
    ),
    "mass is kept in terminal states": (
        lambda patch: patch.setattr(
            constrained,
            "_flow",
            lambda model, *rest, healthy=constrained._flow: healthy(replace(model, terminal=None), *rest),
        ),
        (no_mixture_of_policies_is_better_and_one_is_as_good,),
    ),
    "mask forgotten": (mask_forgotten, (no_mixture_of_policies_is_better_and_one_is_as_good,)),
    "ties are not broken": (second_objective_forgotten, (grid_has_the_known_values,)),
    "costs are not the least": (
        lambda patch: patch.setattr(constrained, "_least_cost", lambda flow, result, *rest: result.x),
        (optimum_where_the_limit_does_not_bind_has_the_least_cost,),
    ),
    "price adds the cost": (price_adds_cost, (dual_is_minimised_at_the_multipliers_and_has_no_gap,)),
    "hollow corners are kept": (
        lambda patch: patch.setattr(constrained, "_bulge", lambda *points: -1.0),
        (front_is_the_upper_edge_of_all_outcomes,),
    ),
    "occupancy keeps the first step's policy": (
        lambda patch: patch.setattr(
            constrained,
            "_occupancy",
            lambda model, policy, discount, horizon, healthy=constrained._occupancy: healthy(
                model, policy if horizon is None else policy[0], discount, horizon
            ),
        ),
        (policy_has_the_return_and_the_costs_that_are_reported, grid_has_the_known_values),
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_planted_fault_is_caught(name, monkeypatch):
    plant, caught_by = FAULTS[name]
    plant(monkeypatch)
    for holds in caught_by:
        with pytest.raises((AssertionError, ValueError, pytest.fail.Exception)):
            holds()
