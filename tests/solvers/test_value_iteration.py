"""Optimal values against closed forms, linear programmes, and trying every policy."""

from functools import cache

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ca14lib.environments import GridEnvironment, TabularModel, river_swim_model, tabular_model, uniform_policy
from ca14lib.solvers import policy_evaluation, policy_return, value_iteration

GRID, SEPSIS = "CA14/GridWorld-v0", "CA14/ICUSepsis-v0"
seeds = st.integers(0, 10**6)
discounts = st.sampled_from([0.05, 0.5, 0.9, 0.99])


def chain(successor: list[list[int]], reward: list, **keywords: object) -> TabularModel:
    """A deterministic problem: where each action leads, and what it earns."""
    return TabularModel(transition=np.eye(len(successor))[np.array(successor)], reward=np.array(reward), **keywords)


# --- closed forms -------------------------------------------------------------------------------------------------


def test_grid_worlds_optimum_is_0_3_in_every_cell_by_its_distance():
    solution = value_iteration(tabular_model(GRID))
    assert solution.optimal_return == pytest.approx(0.3, abs=1e-12)
    for x in range(5):
        for y in range(5):
            distance = 8 - x - y
            expected = 1 - 0.1 * (distance - 1) if distance else 0.0
            assert solution.value[5 * x + y] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("discount", [0.3, 0.9, 0.99, 1.0])
@pytest.mark.parametrize("size", [2, 5, 7])
def test_grid_worlds_discounted_optimum_is_the_geometric_sum(size, discount):
    steps = 2 * (size - 1)
    expected = sum(discount**t * -0.1 for t in range(steps - 1)) + discount ** (steps - 1)
    model = tabular_model(gym.make(GRID, size=size))
    assert value_iteration(model, discount).optimal_return == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize(("horizon", "expected"), [(1, -0.1), (7, -0.7), (8, 0.3), (50, 0.3)])
def test_grid_worlds_optimum_with_steps_left(horizon, expected):
    assert value_iteration(tabular_model(GRID), horizon=horizon).optimal_return == pytest.approx(expected)


def test_sepsis_optimum_is_0_8751():
    model = tabular_model(SEPSIS)
    solution = value_iteration(model)
    assert round(solution.optimal_return, 4) == 0.8751
    assert round(policy_return(model, solution.policy), 4) == 0.8751


def test_sepsis_worst_policy_earns_0_6330():
    model = tabular_model(SEPSIS)
    opposite = TabularModel(model.transition, -model.reward, terminal=model.terminal, initial=model.initial)
    worst = value_iteration(opposite)
    assert round(-worst.optimal_return, 4) == 0.6330
    assert round(policy_return(model, worst.policy), 4) == 0.6330


# --- against a linear programme and against every policy -------------------------------------------------------------


@pytest.mark.parametrize("discount", [0.5, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("length", [3, 6, 12])
def test_river_swim_agrees_with_a_linear_programme(linear_programme, length, discount):
    model = river_swim_model(length)
    expected = linear_programme(model, discount)
    solution = value_iteration(model, discount)
    np.testing.assert_allclose(solution.value, expected, rtol=1e-8)
    assert solution.optimal_return == pytest.approx(model.initial @ expected, rel=1e-8)


@given(seed=seeds, discount=discounts, masked=st.booleans())
def test_random_problems_agree_with_a_linear_programme_and_the_best_of_all_policies(
    random_model, linear_programme, deterministic_policies, seed, discount, masked
):
    model = random_model(seed, masked=masked)
    solution = value_iteration(model, discount)
    np.testing.assert_allclose(solution.value, linear_programme(model, discount), atol=1e-7)
    best = np.full(model.num_states, -np.inf)
    for policy in deterministic_policies(model):
        chain = np.einsum("sa,sat->st", policy, model.transition) * ~model.terminal
        reward = (policy * model.expected_reward).sum(axis=1)
        best = np.maximum(best, np.linalg.solve(np.eye(model.num_states) - discount * chain, reward))
    np.testing.assert_allclose(solution.value, best, atol=1e-8)
    assert solution.optimal_return == pytest.approx(model.initial @ best, abs=1e-8)


@given(seed=seeds, masked=st.booleans())
def test_random_episodic_problems_agree_with_the_best_of_all_policies_undiscounted(
    random_model, deterministic_policies, long_run_total, seed, masked
):
    model = random_model(seed, ending=True, masked=masked)
    solution = value_iteration(model)
    best = np.max([long_run_total(model, policy) for policy in deterministic_policies(model)], axis=0)
    np.testing.assert_allclose(solution.value, best, atol=1e-8)
    np.testing.assert_allclose(long_run_total(model, solution.policy), best, atol=1e-8)


@given(seed=seeds)
def test_reaching_a_goal_with_idle_loops_and_dead_ends_agrees_with_the_best_of_all_policies(
    deterministic_policies, long_run_total, seed
):
    """Only entering the goal pays; waiting costs nothing, so many loops tie with the way out."""
    rng = np.random.default_rng(seed)
    states, actions = 5, 2
    transition = np.zeros((states, actions, states))
    for s, a in np.ndindex(states, actions):
        transition[s, a, rng.integers(states, size=2)] += 0.5
        transition[s, a] /= transition[s, a].sum()
    reward = np.zeros((states, actions, states))
    reward[..., -1] = 1
    model = TabularModel(transition, reward, terminal=np.arange(states) == states - 1)
    solution = value_iteration(model)
    best = np.max([long_run_total(model, policy) for policy in deterministic_policies(model)], axis=0)
    np.testing.assert_allclose(solution.value, best, atol=1e-8)
    np.testing.assert_allclose(long_run_total(model, solution.policy), best, atol=1e-8)


@settings(max_examples=60)
@given(seed=seeds, masked=st.booleans())
def test_losing_loops_dead_ends_and_free_loops_agree_with_the_best_of_all_policies(
    deterministic_policies, long_run_total, seed, masked
):
    """Steps cost 1 or nothing, for ever if there is no way out: values are finite or −∞, never undefined."""
    rng = np.random.default_rng(seed)
    states, actions = 4, 2
    transition = np.zeros((states, actions, states))
    for s, a in np.ndindex(states, actions):
        for following in rng.integers(states, size=2):
            transition[s, a, following] += 0.5
    mask = rng.random((states, actions)) < 0.6
    mask[np.arange(states), rng.integers(actions, size=states)] = True
    model = TabularModel(
        transition,
        rng.choice([0.0, 0.0, -1.0], size=(states, actions)),
        terminal=np.arange(states) >= states - rng.integers(2),
        action_mask=mask if masked else None,
    )
    totals = np.array([long_run_total(model, policy) for policy in deterministic_policies(model)])
    best = np.where(totals < -1e6, -np.inf, totals).max(axis=0)
    if best[0] == -np.inf:
        with pytest.raises(ValueError, match="has not settled"):
            value_iteration(model, max_iterations=500)
    else:
        solution = value_iteration(model)
        np.testing.assert_allclose(solution.value, best, atol=1e-8)
        assert policy_return(model, solution.policy) == pytest.approx(best[0], abs=1e-8)


@given(seed=seeds, horizon=st.integers(1, 6), discount=st.sampled_from([0.5, 0.9, 1.0]), masked=st.booleans())
def test_finite_horizon_agrees_with_a_plain_recursion(random_model, seed, horizon, discount, masked):
    model = random_model(seed, masked=masked)
    allowed = model.action_mask if masked else np.ones((model.num_states, model.num_actions), bool)

    @cache
    def value(state: int, left: int) -> float:
        if left == 0 or model.terminal[state]:
            return 0.0
        best = -np.inf
        for action in np.flatnonzero(allowed[state]):
            total = 0.0
            for following in range(model.num_states):
                chance = model.transition[state, action, following]
                reward = model.reward[(state, action, following)[: model.reward.ndim]]
                total += chance * (reward + discount * value(following, left - 1))
            best = max(best, total)
        return best

    solution = value_iteration(model, discount, horizon)
    assert solution.value.shape == (horizon + 1, model.num_states)
    assert solution.policy.shape == solution.q.shape == (horizon, model.num_states, model.num_actions)
    for step in range(horizon + 1):
        expected = [value(state, horizon - step) for state in range(model.num_states)]
        np.testing.assert_allclose(solution.value[step], expected, atol=1e-10)
    assert policy_return(model, solution.policy, discount, horizon) == pytest.approx(solution.optimal_return, abs=1e-10)


@given(seed=seeds, masked=st.booleans(), discount=discounts)
def test_solution_satisfies_the_optimality_equation_and_its_policy_attains_it(random_model, seed, masked, discount):
    model = random_model(seed, masked=masked)
    solution = value_iteration(model, discount)
    backup = model.expected_reward + discount * model.transition @ solution.value
    backup[model.terminal] = 0
    if masked:
        forbidden = ~model.action_mask & ~model.terminal[:, None]
        assert (solution.q[forbidden] == -np.inf).all()
        assert (solution.policy[forbidden] == 0).all()
        backup[forbidden] = -np.inf
    np.testing.assert_allclose(solution.q, backup, atol=1e-9)
    np.testing.assert_allclose(solution.value, backup.max(axis=1), atol=1e-8)
    assert (solution.value[model.terminal] == 0).all()
    assert set(np.unique(solution.policy)) <= {0.0, 1.0}
    assert (solution.policy.sum(axis=1) == 1).all()
    assert policy_return(model, solution.policy, discount) == pytest.approx(solution.optimal_return, abs=1e-9)


@given(seed=seeds, scale=st.sampled_from([1e-3, 10.0, 1e4]), discount=st.sampled_from([0.9, 1.0]))
def test_optimum_scales_with_the_reward(random_model, seed, scale, discount):
    model = random_model(seed, ending=True)
    scaled = TabularModel(model.transition, scale * model.reward, terminal=model.terminal, initial=model.initial)
    one, other = (value_iteration(problem, discount).value for problem in (model, scaled))
    np.testing.assert_allclose(other, scale * one, rtol=1e-6, atol=1e-8 * scale)


@pytest.mark.parametrize("discount", [0.99, 1.0])
def test_rewards_far_below_one_still_have_an_exact_optimum(discount):
    model = chain([[2, 1], [2, 2], [2, 2]], [[1e-10, 5e-10], [1e-10, 1e-10], [0, 0]], terminal=[False, False, True])
    assert value_iteration(model, discount).optimal_return == pytest.approx((5 + discount) * 1e-10, rel=1e-6)


def test_models_horizon_holds_unless_another_is_given():
    short = chain([[0]], [[1.0]], horizon=3)
    assert value_iteration(short).optimal_return == 3
    assert value_iteration(short, 0.5).optimal_return == 1.75
    assert value_iteration(short, horizon=5).optimal_return == 5
    assert value_iteration(short).horizon == 3


def test_best_action_may_change_with_the_time_left():
    """Cash in at once with one step left, walk on for more with two."""
    model = chain([[2, 1], [2, 2], [2, 2]], [[1.0, 0.0], [5.0, 5.0], [0, 0]], terminal=[False, False, True])
    policy = value_iteration(model, horizon=2).policy
    assert policy[0, 0].tolist() == [0, 1]
    assert policy[1, 0].tolist() == [1, 0]


# --- undiscounted: loops and problems without end --------------------------------------------------------------------


def test_idle_loop_is_not_preferred_to_the_way_out():
    """Waiting has the same q as walking to the goal, but who waits for ever never earns it."""
    model = chain([[0, 1], [1, 2], [2, 2]], [[0, 0], [0, 1.0], [0, 0]], terminal=[False, False, True])
    solution = value_iteration(model)
    assert solution.value.tolist() == [1, 1, 0]
    assert solution.policy[:2].tolist() == [[0, 1], [0, 1]]
    assert policy_return(model, solution.policy) == 1


def test_idle_loop_is_not_preferred_to_earning_where_nothing_is_terminal():
    """The same with an absorbing state that is not marked terminal: reward 1 for entering it, then 0 for ever."""
    model = chain([[0, 1], [1, 1]], [[0, 1.0], [0, 0]])
    solution = value_iteration(model)
    assert solution.value.tolist() == [1, 0]
    assert solution.policy[0].tolist() == [0, 1]
    assert solution.optimal_return == 1


def test_waiting_for_ever_is_best_where_leaving_costs():
    model = chain([[0, 1], [1, 1]], [[0, -1.0], [0, 0]], terminal=[False, True])
    solution = value_iteration(model)
    assert solution.value.tolist() == [0, 0]
    assert policy_return(model, solution.policy) == 0


def test_free_loop_without_a_way_out_is_better_than_a_costly_end():
    model = chain([[1, 2], [1, 1], [2, 2]], [[0, -1.0], [0, 0], [0, 0]], terminal=[False, False, True])
    solution = value_iteration(model)
    assert solution.value.tolist() == [0, 0, 0]
    assert solution.policy[0].tolist() == [1, 0]


def test_losing_loop_is_left_by_the_shortest_way():
    model = chain([[0, 1], [0, 2], [2, 2]], [[-1.0, -3], [-1, -4], [0, 0]], terminal=[False, False, True])
    assert value_iteration(model).value.tolist() == [-7, -4, 0]


@pytest.mark.parametrize("reward", [1.0, -1.0])
def test_problem_that_earns_or_loses_for_ever_has_no_undiscounted_optimum(reward):
    model = chain([[0, 0]], [[reward, reward]])
    with pytest.raises(ValueError, match=r"not settled after 50 sweeps.*discount"):
        value_iteration(model, max_iterations=50)
    assert value_iteration(model, 0.9).value[0] == pytest.approx(10 * reward)


def test_unreachable_cells_that_lose_for_ever_do_not_hide_the_optimum():
    """The middle of a block of walls cannot be entered or left; the way around it takes eight steps as before."""
    walls = [(x, y) for x in (1, 2, 3) for y in (1, 2, 3)]
    grid = GridEnvironment(
        1, width=5, height=5, start=(0, 0), goal=(4, 4), step_reward=-0.1, goal_reward=1, walls=walls, time_limit=None
    )
    solution = value_iteration(grid.tabular_model(), max_iterations=1_000)
    assert solution.optimal_return == pytest.approx(0.3)


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("discount", [0.0, -0.5, 1.01, float("nan")])
def test_discount_outside_its_range_is_named(discount):
    with pytest.raises(ValueError, match=rf"discount must lie in \(0, 1\], got {discount}"):
        value_iteration(river_swim_model(), discount)


@pytest.mark.parametrize("horizon", [0, -1])
def test_horizon_below_one_is_named(horizon):
    with pytest.raises(ValueError, match=f"horizon must be at least 1 or None, got {horizon}"):
        value_iteration(river_swim_model(), 0.9, horizon)


@given(seed=seeds, discount=discounts)
def test_no_random_policy_beats_the_optimum(random_model, random_policy, seed, discount):
    model = random_model(seed, masked=True)
    value = policy_evaluation(model, random_policy(model, seed), discount).value
    assert (value <= value_iteration(model, discount).value + 1e-9).all()


@given(seed=seeds, factor=st.floats(0.1, 5), discount=st.sampled_from([0.5, 0.9]))
def test_constant_bonus_raises_an_endless_problems_optimum_by_its_geometric_sum(random_model, seed, factor, discount):
    model = random_model(seed)
    assume(not model.terminal.any())
    raised = TabularModel(model.transition, model.reward + factor, initial=model.initial)
    difference = value_iteration(raised, discount).value - value_iteration(model, discount).value
    np.testing.assert_allclose(difference, factor / (1 - discount), rtol=1e-8)


def test_uniform_policy_on_one_action_is_optimal():
    model = chain([[1], [1]], [[2.0], [0]], terminal=[False, True])
    assert policy_return(model, uniform_policy(model)) == value_iteration(model).optimal_return == 2
