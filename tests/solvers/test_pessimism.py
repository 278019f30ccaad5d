"""Pessimistic planning: exact with complete data, and confined to what the data support."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ca14lib.environments import river_swim_model, tabular_model
from ca14lib.solvers import pessimistic_plan, policy_return, value_iteration
from ca14lib.training import collect

GRID, SEPSIS = "CA14/GridWorld-v0", "CA14/ICUSepsis-v0"


@pytest.mark.parametrize("discount", [0.9, 1.0])
def test_with_every_pair_seen_the_plan_is_the_optimum_of_the_grid(discount):
    model = tabular_model(GRID)
    counts = (3 * model.transition).astype(int)
    plan = pessimistic_plan(counts, 3 * model.reward, model.terminal, min_count=1, discount=discount, worst_value=-99)
    exact = value_iteration(model, discount)
    np.testing.assert_allclose(plan.value, exact.value, atol=1e-9)
    assert policy_return(model, plan.policy, discount) == pytest.approx(exact.optimal_return)
    assert (plan.supported == ~model.terminal[:, None]).all()


def test_with_every_frequency_exact_the_plan_is_the_optimum_of_the_river():
    model = river_swim_model()
    counts = np.rint(100 * model.transition).astype(int)
    assert (counts == 100 * model.transition).mean() > 0.99
    plan = pessimistic_plan(counts, 100 * model.reward, model.terminal, min_count=1, discount=0.95)
    np.testing.assert_allclose(plan.value, value_iteration(model, 0.95).value, rtol=1e-9)
    np.testing.assert_array_equal(plan.policy, value_iteration(model, 0.95).policy)


@given(seed=st.integers(0, 10**6), min_count=st.integers(1, 6), discount=st.sampled_from([0.5, 0.95]))
def test_unsupported_pairs_are_never_chosen_where_a_supported_one_exists(seed, min_count, discount):
    rng = np.random.default_rng(seed)
    states, actions = 5, 3
    counts = rng.poisson(0.7, size=(states, actions, states))
    rewards = rng.normal(size=(states, actions)) * (counts.sum(axis=2) > 0)
    terminal = rng.random(states) < 0.2
    worst = float(rng.choice([-5.0, 0.0, 5.0]))  # also where the unknown looks better than the known
    plan = pessimistic_plan(counts, rewards, terminal, min_count=min_count, discount=discount, worst_value=worst)
    visits = counts.sum(axis=2)
    np.testing.assert_array_equal(plan.supported, (visits >= min_count) & ~terminal[:, None])
    chosen = plan.policy.argmax(axis=1)
    assert (plan.policy.sum(axis=1) == 1).all()
    for state in range(states):
        if plan.supported[state].any():
            assert plan.supported[state, chosen[state]]
        elif not terminal[state]:
            assert chosen[state] == visits[state].argmax()
            assert plan.value[state] == pytest.approx(worst)
        else:
            assert plan.value[state] == pytest.approx(0, abs=1e-12)


def hand_made() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """From state 0: a lucky draw seen twice (reward 10), or a way to state 1 seen 60 times; state 2 was hardly seen."""
    counts, rewards = np.zeros((4, 2, 4), dtype=int), np.zeros((4, 2))
    counts[0, 0, 3], rewards[0, 0] = 2, 20.0
    counts[0, 1, 1], counts[0, 1, 2], rewards[0, 1] = 45, 15, -6.0
    counts[1, 0, 3], rewards[1, 0] = 50, 100.0
    counts[1, 1, 3], rewards[1, 1] = 50, 50.0
    counts[2, 0, 3], rewards[2, 0] = 1, 7.0
    counts[2, 1, 3], rewards[2, 1] = 3, 9.0
    return counts, rewards, np.array([False, False, False, True])


@pytest.mark.parametrize(("worst", "discount"), [(0.0, 1.0), (-1.0, 1.0), (-1.0, 0.5)])
def test_hand_made_example(worst, discount):
    plan = pessimistic_plan(*hand_made(), min_count=50, discount=discount, worst_value=worst)
    assert plan.supported.tolist() == [[False, True], [True, True], [False, False], [False, False]]
    assert plan.policy[:3].tolist() == [[0, 1], [1, 0], [0, 1]]
    assert plan.value == pytest.approx([-0.1 + discount * (0.75 * 2 + 0.25 * worst), 2.0, worst, 0.0])


def test_trusting_everything_follows_the_lucky_draw():
    plan = pessimistic_plan(*hand_made(), min_count=1)
    assert plan.policy[:3].tolist() == [[1, 0], [1, 0], [1, 0]]
    assert plan.value == pytest.approx([10, 2, 7, 0])


def test_supported_loop_that_loses_for_ever_does_not_stop_the_plan():
    """In one state only running into the wall was seen often enough; elsewhere there is a way to the goal."""
    counts, rewards = np.zeros((3, 2, 3), dtype=int), np.zeros((3, 2))
    counts[0, 0, 2], rewards[0, 0] = 60, 60.0
    counts[1, 0, 1], rewards[1, 0] = 60, -6.0
    plan = pessimistic_plan(counts, rewards, np.array([False, False, True]), min_count=50, worst_value=-5.0)
    assert plan.policy[0].tolist() == [1, 0]
    assert plan.value[0] == pytest.approx(1)


@pytest.mark.slow
def test_sepsis_plan_from_20_000_clinician_episodes_beats_the_clinicians():
    model = tabular_model(SEPSIS)
    counts, rewards = collect(SEPSIS, "clinician", 20_000, seed=0).empirical_counts(model)
    plan = pessimistic_plan(counts, rewards, model.terminal, min_count=50)
    assert policy_return(model, plan.policy) > 0.80


@pytest.mark.parametrize("min_count", [0, -3])
def test_min_count_below_one_is_named(min_count):
    with pytest.raises(ValueError, match=f"min_count must be at least 1, got {min_count}"):
        pessimistic_plan(*hand_made(), min_count=min_count)


@pytest.mark.parametrize("part", [0, 1, 2])
def test_shapes_that_disagree_are_refused(part):
    arrays = list(hand_made())
    arrays[part] = arrays[part][:-1]
    with pytest.raises(ValueError, match=r"counts must be \[S, A, S\]"):
        pessimistic_plan(*arrays)


def test_discount_outside_its_range_is_named():
    with pytest.raises(ValueError, match=r"discount .* got 1\.5"):
        pessimistic_plan(*hand_made(), discount=1.5)
