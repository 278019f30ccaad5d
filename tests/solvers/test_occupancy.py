"""Occupancy measures: flow in equals flow out, and occupancy times reward is the return."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ca14lib.environments import TabularModel, behaviour_policy, river_swim_model, tabular_model, uniform_policy
from ca14lib.solvers import occupancy_measure, policy_return
from ca14lib.training import collect

GRID, SEPSIS = "CA14/GridWorld-v0", "CA14/ICUSepsis-v0"
seeds = st.integers(0, 10**6)


@given(seed=seeds, discount=st.sampled_from([0.1, 0.9, 0.99, 1.0]), masked=st.booleans())
def test_flow_into_every_state_equals_the_visits_to_it(random_model, random_policy, seed, discount, masked):
    model = random_model(seed, ending=True, masked=masked)
    policy = random_policy(model, seed)
    occupancy = occupancy_measure(model, policy, discount)
    arriving = model.initial + discount * np.einsum("sa,sat->t", occupancy, model.transition)
    alive = ~model.terminal
    np.testing.assert_allclose(occupancy.sum(axis=1)[alive], arriving[alive], atol=1e-9)
    np.testing.assert_allclose(occupancy, occupancy.sum(axis=1, keepdims=True) * policy, atol=1e-9)
    assert (occupancy >= 0).all()
    assert (occupancy[model.terminal] == 0).all()


@given(seed=seeds, discount=st.sampled_from([0.1, 0.9, 0.99, 1.0]), horizon=st.none() | st.integers(1, 9))
def test_occupancy_times_reward_is_the_return(random_model, random_policy, seed, discount, horizon):
    model = random_model(seed, ending=True)
    policy = random_policy(model, seed)
    total = (occupancy_measure(model, policy, discount, horizon) * model.expected_reward).sum()
    assert total == pytest.approx(policy_return(model, policy, discount, horizon), abs=1e-8)


@given(seed=seeds, horizon=st.integers(1, 5), discount=st.sampled_from([0.7, 1.0]))
def test_time_dependent_policies_satisfy_the_same_identity(random_model, random_policy, seed, horizon, discount):
    model = random_model(seed, masked=True)
    policy = random_policy(model, seed, horizon)
    total = (occupancy_measure(model, policy, discount, horizon) * model.expected_reward).sum()
    assert total == pytest.approx(policy_return(model, policy, discount, horizon), abs=1e-9)


@given(seed=seeds, discount=st.sampled_from([0.2, 0.9, 0.99]))
def test_mass_without_an_end_is_one_over_one_minus_discount(random_policy, seed, discount):
    model = river_swim_model(5)
    assert occupancy_measure(model, random_policy(model, seed), discount).sum() == pytest.approx(1 / (1 - discount))


def test_undiscounted_mass_is_the_mean_episode_length():
    model = tabular_model(GRID)
    assert occupancy_measure(model, behaviour_policy(GRID, "expert")).sum() == pytest.approx(8)
    geometric = TabularModel([[[0.75, 0.25]], [[0, 1]]], np.zeros((2, 1)), terminal=[False, True])
    assert occupancy_measure(geometric, np.ones((2, 1))).sum() == pytest.approx(4)


def test_mass_with_a_horizon_is_the_number_of_steps_until_the_end():
    model = river_swim_model()
    assert occupancy_measure(model, uniform_policy(model), horizon=20).sum() == pytest.approx(20)
    assert occupancy_measure(model, uniform_policy(model), 0.5, 3).sum() == pytest.approx(1.75)
    grid = tabular_model(GRID)
    assert occupancy_measure(grid, behaviour_policy(GRID, "expert"), horizon=50).sum() == pytest.approx(8)
    assert occupancy_measure(grid, behaviour_policy(GRID, "expert"), horizon=5).sum() == pytest.approx(5)


def test_expert_visits_each_pair_of_its_path_once():
    occupancy = occupancy_measure(tabular_model(GRID), behaviour_policy(GRID, "expert"))
    expected = np.zeros((25, 4))
    for x in range(4):
        expected[5 * x, 3] = 1
    for y in range(4):
        expected[20 + y, 0] = 1
    np.testing.assert_allclose(occupancy, expected, atol=1e-12)


@pytest.mark.parametrize("name", ["clinician", "random"])
def test_sepsis_occupancy_gives_the_return(name):
    model, policy = tabular_model(SEPSIS), behaviour_policy(SEPSIS, name)
    total = (occupancy_measure(model, policy) * model.expected_reward).sum()
    assert total == pytest.approx(policy_return(model, policy), abs=1e-9)


def test_data_visit_pairs_as_often_as_the_occupancy_says():
    model, policy = tabular_model(GRID), behaviour_policy(GRID, "mixed")
    data = collect(GRID, "mixed", 4_000, seed=3)
    per_episode = data.visit_counts(model) / data.num_episodes
    expected = occupancy_measure(model, policy, horizon=50)
    assert (per_episode[expected == 0] == 0).all()
    # visits within an episode are correlated: the largest deviation is bounded by that of the mean length
    assert abs(per_episode - expected).max() < 0.05
    assert per_episode.sum() == pytest.approx(expected.sum(), abs=5 * data.episode_lengths().std() / np.sqrt(4_000))


def test_initial_terminal_state_counts_no_visit():
    model = TabularModel([[[0, 1.0]], [[0, 1]]], [[1.0], [0]], terminal=[False, True], initial=[0.25, 0.75])
    for keywords in ({}, {"discount": 0.5}, {"horizon": 4}):
        assert occupancy_measure(model, np.ones((2, 1)), **keywords).tolist() == [[0.25], [0]]


def test_policy_that_may_never_end_has_no_undiscounted_occupancy():
    model = tabular_model(GRID)
    down = np.tile([0.0, 1, 0, 0], (25, 1))
    with pytest.raises(ValueError, match="may never terminate"):
        occupancy_measure(model, down)
    with pytest.raises(ValueError, match="may never terminate"):
        occupancy_measure(river_swim_model(), uniform_policy(river_swim_model()))
    assert occupancy_measure(model, down, horizon=50).sum() == pytest.approx(50)


def test_loops_in_states_never_entered_do_not_matter():
    policy = behaviour_policy(GRID, "expert").copy()
    policy[4] = [1, 0, 0, 0]  # the upper left corner, off the expert's path, runs into the wall for ever
    assert occupancy_measure(tabular_model(GRID), policy).sum() == pytest.approx(8)
