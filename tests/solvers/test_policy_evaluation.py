"""Values of given policies: against simulation, against enumeration, and where they are infinite or undefined."""

from itertools import product

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ca14lib.environments import TabularModel, behaviour_policy, river_swim_model, tabular_model, uniform_policy
from ca14lib.solvers import policy_evaluation, policy_return, value_iteration

GRID, RIVER, SEPSIS = "CA14/GridWorld-v0", "CA14/RiverSwim-v0", "CA14/ICUSepsis-v0"
UP, DOWN, LEFT, RIGHT = range(4)
seeds = st.integers(0, 10**6)


def always(model: TabularModel, action: int) -> np.ndarray:
    return np.tile(np.eye(model.num_actions)[action], (model.num_states, 1))


def chain(successor: list[list[int]], reward: list, **keywords: object) -> TabularModel:
    """A deterministic problem: where each action leads, and what it earns."""
    return TabularModel(transition=np.eye(len(successor))[np.array(successor)], reward=np.array(reward), **keywords)


# --- known numbers ----------------------------------------------------------------------------------------------------


def test_sepsis_clinicians_earn_0_7818_and_uniform_0_7801():
    model = tabular_model(SEPSIS)
    assert round(policy_return(model, behaviour_policy(SEPSIS, "clinician")), 4) == 0.7818
    assert round(policy_return(model, behaviour_policy(SEPSIS, "random")), 4) == 0.7801


def test_grid_worlds_expert_earns_the_optimum():
    model = tabular_model(GRID)
    assert policy_return(model, behaviour_policy(GRID, "expert")) == pytest.approx(0.3, abs=1e-12)


def test_geometric_episode_has_the_geometric_sum():
    """Stay with probability 0.75 at cost 1: 4 steps on average."""
    model = TabularModel(transition=[[[0.75, 0.25]], [[0, 1]]], reward=[[[-1, -1]], [[0, 0]]], terminal=[False, True])
    policy = np.ones((2, 1))
    assert policy_return(model, policy) == pytest.approx(-4)
    assert policy_return(model, policy, 0.9) == pytest.approx(-1 / (1 - 0.9 * 0.75))
    assert policy_return(model, policy, horizon=3) == pytest.approx(-(1 + 0.75 + 0.75**2))


# --- simulation -------------------------------------------------------------------------------------------------------


def simulated_returns(environment_id: str, policy: np.ndarray, discount: float, episodes: int) -> np.ndarray:
    """Returns of the first episode of every copy of a batch, with actions drawn by inverse probabilities."""
    environment = gym.make_vec(environment_id, num_envs=episodes)
    rng = np.random.default_rng(1)
    observation, _ = environment.reset(seed=2)
    returns, alive, weight = np.zeros(episodes), np.ones(episodes, dtype=bool), 1.0
    while alive.any():
        state = environment.unwrapped.state_index(observation)
        action = (policy[state].cumsum(axis=1) < rng.random((episodes, 1))).sum(axis=1).clip(max=policy.shape[1] - 1)
        observation, reward, terminated, truncated, _ = environment.step(action)
        returns += weight * reward * alive
        alive &= ~(terminated | truncated)
        weight *= discount
    return returns


@pytest.mark.parametrize(
    ("environment_id", "name", "discount", "horizon"),
    [
        (GRID, "mixed", 1.0, 50),
        (GRID, "random", 0.95, 50),
        (RIVER, "random", 1.0, 20),
        (RIVER, "right", 0.9, 20),
        (SEPSIS, "clinician", 1.0, None),
        (SEPSIS, "random", 0.9, None),
    ],
)
def test_exact_return_agrees_with_simulation(environment_id, name, discount, horizon):
    policy = behaviour_policy(environment_id, name)
    returns = simulated_returns(environment_id, policy, discount, 4_000)
    exact = policy_return(tabular_model(environment_id), policy, discount, horizon)
    assert abs(returns.mean() - exact) < 5 * returns.std() / np.sqrt(len(returns))


# --- enumeration ------------------------------------------------------------------------------------------------------


def return_by_trajectories(model: TabularModel, tables: np.ndarray, discount: float) -> float:
    """The sum over every trajectory of its probability times its return; ``tables`` is ``[H, S, A]``."""
    total = 0.0
    paths = [(state, chance, 0.0, 1.0) for state, chance in enumerate(model.initial) if chance]
    for table in tables:
        following = []
        for (state, chance, earned, weight), action in product(paths, range(model.num_actions)):
            if model.terminal[state] or not table[state, action]:
                continue
            for successor in np.flatnonzero(model.transition[state, action]):
                reward = model.reward[(state, action, successor)[: model.reward.ndim]]
                probability = chance * table[state, action] * model.transition[state, action, successor]
                following.append((successor, probability, earned + weight * reward, weight * discount))
        total += sum(chance * earned for state, chance, earned, _ in paths if model.terminal[state])
        paths = following
    return total + sum(chance * earned for _, chance, earned, _ in paths)


@given(
    seed=seeds,
    horizon=st.integers(1, 3),
    discount=st.sampled_from([0.5, 1.0]),
    timed=st.booleans(),
    masked=st.booleans(),
)
def test_finite_horizon_return_is_the_mean_over_all_trajectories(
    random_model, random_policy, seed, horizon, discount, timed, masked
):
    model = random_model(seed, masked=masked)
    policy = random_policy(model, seed, horizon if timed else None)
    expected = return_by_trajectories(model, policy if timed else np.stack([policy] * horizon), discount)
    assert policy_return(model, policy, discount, horizon) == pytest.approx(expected, abs=1e-9)


@given(seed=seeds)
def test_time_dependent_policies_count_steps_from_the_start(random_model, random_policy, seed):
    model = random_model(seed)
    policy = random_policy(model, seed, 2)
    reordered = policy_return(model, policy[::-1], horizon=2)
    assert reordered == pytest.approx(return_by_trajectories(model, policy[::-1], 1.0), abs=1e-9)


@given(seed=seeds, discount=st.sampled_from([0.3, 0.9, 0.99]))
def test_long_horizon_approaches_the_endless_value(random_model, random_policy, seed, discount):
    model = random_model(seed)
    policy = random_policy(model, seed)
    horizon = int(np.ceil(np.log(1e-10) / np.log(discount)))
    long = policy_evaluation(model, policy, discount, horizon)
    endless = policy_evaluation(model, policy, discount)
    np.testing.assert_allclose(long.value[0], endless.value, atol=1e-6)
    np.testing.assert_allclose(long.q[0], endless.q, atol=1e-6)
    assert (long.value[-1] == 0).all()


@given(seed=seeds, discount=st.sampled_from([0.3, 0.9, 1.0]))
def test_value_is_the_policys_mean_of_q_and_q_one_step_ahead(random_model, random_policy, seed, discount):
    model = random_model(seed, ending=True)
    policy = random_policy(model, seed)
    result = policy_evaluation(model, policy, discount)
    np.testing.assert_allclose((policy * result.q).sum(axis=1), result.value, atol=1e-9)
    ahead = model.expected_reward + discount * model.transition @ result.value
    np.testing.assert_allclose(result.q[~model.terminal], ahead[~model.terminal], atol=1e-9)
    assert (result.value[model.terminal] == 0).all()
    assert (result.q[model.terminal] == 0).all()
    assert result.expected_return == pytest.approx(model.initial @ result.value, abs=1e-12)


@given(seed=seeds)
def test_undiscounted_value_is_the_total_over_a_very_long_time(random_model, random_policy, long_run_total, seed):
    model = random_model(seed, ending=True)
    policy = random_policy(model, seed)
    np.testing.assert_allclose(policy_evaluation(model, policy).value, long_run_total(model, policy), atol=1e-8)


def test_rewards_in_terminal_states_are_ignored():
    """Whatever the arrays say there, and wherever they say it leads."""
    model = TabularModel(
        transition=[[[0, 1.0]], [[1.0, 0]]], reward=[[1.0], [100.0]], terminal=[False, True], initial=[0.5, 0.5]
    )
    policy = np.ones((2, 1))
    for keywords in ({}, {"discount": 0.9}, {"horizon": 10}):
        assert policy_return(model, policy, **keywords) == pytest.approx(0.5)
        assert value_iteration(model, **keywords).optimal_return == pytest.approx(0.5)


def test_models_horizon_holds_unless_another_is_given():
    model = chain([[0]], [[1.0]], horizon=4)
    assert policy_return(model, np.ones((1, 1))) == 4
    assert policy_return(model, np.ones((1, 1)), horizon=2) == 2
    assert policy_evaluation(model, np.ones((1, 1))).value[:, 0].tolist() == [4, 3, 2, 1, 0]


# --- undiscounted policies that never end ---------------------------------------------------------------------------


def test_policy_that_loses_for_ever_has_value_minus_infinity_where_it_does():
    model = tabular_model(GRID)
    result = policy_evaluation(model, always(model, DOWN))
    assert result.expected_return == -np.inf
    assert (result.value[~model.terminal] == -np.inf).all()
    assert result.q[5 * 4 + 3, UP] == 1.0  # one step from the goal, the way in still ends at once
    assert result.q[5 * 4 + 3, DOWN] == -np.inf


def test_policy_that_earns_for_ever_has_value_plus_infinity():
    model = river_swim_model()
    assert policy_return(model, always(model, 1)) == np.inf
    assert policy_return(model, always(model, 0)) == np.inf


def test_infinite_values_of_states_never_entered_do_not_matter():
    model = tabular_model(GRID)
    policy = behaviour_policy(GRID, "expert").copy()
    policy[4] = np.eye(4)[UP]  # the upper left corner, off the expert's path, runs into the wall for ever
    result = policy_evaluation(model, policy)
    assert result.value[4] == -np.inf
    assert result.expected_return == pytest.approx(0.3)


def test_chance_of_losing_for_ever_makes_the_value_minus_infinity():
    trap = TabularModel(
        transition=[[[0, 0.999, 0.001]], [[0, 1, 0]], [[0, 0, 1]]],
        reward=[[5.0], [0], [-1.0]],
        terminal=[False, True, False],
    )
    assert policy_evaluation(trap, np.ones((3, 1))).value.tolist() == [-np.inf, 0, -np.inf]


def test_idle_loop_is_worth_nothing():
    model = chain([[0, 1], [1, 1]], [[0, 1.0], [0, 0]], terminal=[False, True])
    assert policy_return(model, always(model, 0)) == 0
    assert policy_return(model, np.full((2, 2), 0.5)) == pytest.approx(1)


def test_both_infinities_in_reach_are_undefined():
    model = TabularModel(transition=[[[0, 0.5, 0.5]], [[0, 1, 0]], [[0, 0, 1]]], reward=[[0.0], [1.0], [-1.0]])
    with pytest.raises(ValueError, match=r"undefined.*discount"):
        policy_evaluation(model, np.ones((3, 1)))
    assert policy_return(model, np.ones((3, 1)), 0.5) == 0


def test_rewards_that_cancel_around_a_loop_are_undefined():
    model = chain([[1], [0]], [[1.0], [-1.0]])
    with pytest.raises(ValueError, match="oscillates"):
        policy_evaluation(model, np.ones((2, 1)))
    assert policy_return(model, np.ones((2, 1)), horizon=3) == 1


# --- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (np.full((2, 3), 1 / 3), r"shape \(3, 2\), got \(2, 3\)"),
        (np.full((4, 3, 2), 0.5), r"shape \(3, 2\), got \(4, 3, 2\)"),
        (np.full((3, 2), 0.4), "sums 0.8 to 0.8"),
        (np.array([[1.5, -0.5]] * 3), "entries -0.5 to 1.5"),
        (np.array([[np.nan, 1]] * 3), "nan"),
    ],
)
def test_table_that_is_no_policy_is_refused(policy, message):
    with pytest.raises(ValueError, match=f"policy .*{message}"):
        policy_return(river_swim_model(3), policy, 0.9)


def test_time_dependent_policy_must_have_as_many_tables_as_steps():
    with pytest.raises(ValueError, match=r"got \(4, 3, 2\)"):
        policy_return(river_swim_model(3), np.full((4, 3, 2), 0.5), horizon=5)


def test_forbidden_action_is_refused_but_not_in_terminal_states():
    keywords = {"terminal": [False, True], "action_mask": [[True, False], [True, False]]}
    model = chain([[1, 1], [1, 1]], [[1.0, 2.0], [0, 0]], **keywords)
    with pytest.raises(ValueError, match="action_mask forbids"):
        policy_return(model, np.full((2, 2), 0.5))
    assert policy_return(model, np.array([[1.0, 0], [0.5, 0.5]])) == 1


@pytest.mark.parametrize("discount", [0.0, -1, 1.5])
def test_discount_outside_its_range_is_named(discount):
    with pytest.raises(ValueError, match=f"got {discount}"):
        policy_return(river_swim_model(), uniform_policy(river_swim_model()), discount)


def test_policy_table_is_left_as_it_was():
    model = tabular_model(GRID)
    policy = np.full((25, 4), 0.25)
    policy_evaluation(model, policy, 0.9)
    assert (policy == 0.25).all()
