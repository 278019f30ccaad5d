"""Learning from comparisons: the judge, the fit, what cannot be seen, planning, and faults that are noticed."""

import collections
import functools
import math

import numpy as np
import pytest

import ca14lib.agents.hybrid.preferences as preferences
from ca14lib.agents.hybrid.preferences import PreferenceConfig
from ca14lib.environments import TabularModel
from ca14lib.solvers import value_iteration
from tests.agents.hybrid.faults_preferences import FAULTS
from tests.agents.properties import property_table

PROPERTIES, property_of, _ = property_table("preference")


def bandit(reward: list[float]) -> TabularModel:
    """One decision: action a earns reward a and ends."""
    transition = np.zeros((2, len(reward), 2))
    transition[..., 1] = 1.0
    return TabularModel(
        transition, np.array([reward, [0.0] * len(reward)]), terminal=np.array([False, True]), horizon=1
    )


def walk() -> TabularModel:
    """Three cells in a row; left and right; the reward is that of the cell that is left."""
    transition = np.zeros((3, 2, 3))
    for cell in range(3):
        transition[cell, 0, max(cell - 1, 0)] = transition[cell, 1, min(cell + 1, 2)] = 1.0
    return TabularModel(transition, np.array([[0.0, 0.0], [0.3, 0.1], [1.0, 0.2]]), horizon=6)


def random_comparisons(seed: int, count: int = 60, features: int = 4, length: int = 5):
    """Segments of equal length, and answers of no pattern."""
    draws = np.random.default_rng(seed)
    first, second = (draws.multinomial(length, np.full(features, 1 / features), count) for _ in range(2))
    return first.astype(float), second.astype(float), draws.integers(0, 2, count).astype(float)


@property_of("preference")
def log_odds_are_the_difference_times_the_inverse_temperature() -> None:
    chance = preferences.preference_probability(np.array([-1.0, 0.0, 2.0]), 3.0)
    np.testing.assert_allclose(np.log(chance / (1 - chance)), [-3.0, 0.0, 6.0])
    wrong = preferences.preference_probability(np.array([-50.0, 0.0, 50.0]), 3.0, 0.2)
    np.testing.assert_allclose(wrong, [0.1, 0.5, 0.9], err_msg="half of a coin's answers are wrong")


@property_of("preference")
def two_alternatives_are_fitted_to_their_log_odds() -> None:
    """30 of 40 prefer the first: β (r₀ − r₁) = log 3, and a ridge of nearly 0 centres the two."""
    difference, preferred = np.tile([1.0, -1.0], (40, 1)), np.repeat([1.0, 0.0], [30, 10])
    for beta in (0.5, 2.0):
        config = PreferenceConfig(inverse_temperature=beta, ridge=1e-6)
        reward = preferences.fitted_reward(difference, preferred, config)
        np.testing.assert_allclose(reward, np.array([1, -1]) * math.log(3) / (2 * beta), atol=1e-5)
    config = PreferenceConfig(inverse_temperature=2.0, error_rate=0.2, ridge=1e-6)
    reward = preferences.fitted_reward(difference, preferred, config)
    sure = (0.75 - 0.1) / 0.8  # what is left when the coin's answers are taken out
    np.testing.assert_allclose(reward[0] - reward[1], math.log(sure / (1 - sure)) / 2.0, atol=1e-5)


@property_of("preference")
def the_fit_has_no_slope_left() -> None:
    for error in (0.0, 0.1):
        first, second, preferred = random_comparisons(0)
        config = PreferenceConfig(inverse_temperature=2.0, error_rate=error, ridge=0.05)
        reward = preferences.fitted_reward(first - second, preferred, config)
        for index in range(4):
            step = 1e-4 * np.eye(4)[index]
            slope = [preferences.comparison_loss(reward + s * step, first - second, preferred, config) for s in (1, -1)]
            assert abs(slope[0] - slope[1]) / 2e-4 < 1e-4, "the loss has a slope"


@property_of("preference")
def a_shift_is_not_seen_by_equal_lengths_and_not_counted_as_error() -> None:
    first, second, _ = random_comparisons(1)
    reward, shifted = np.array([0.3, -0.2, 1.0, 0.0]), np.array([7.3, 6.8, 8.0, 7.0])
    chances = [preferences.preference_probability((first - second) @ table) for table in (reward, shifted)]
    np.testing.assert_allclose(*chances)
    assert preferences.reward_error(shifted, reward, np.array([1, 2, 3, 4])) < 1e-12
    assert math.isclose(preferences.reward_error([1.0, 0.0], [0.0, 0.0], [3, 1]), math.sqrt(3) / 4)


@property_of("preference")
def members_that_differ_by_a_shift_alone_are_in_no_doubt() -> None:
    reward, weight = np.array([0.3, -0.2, 1.0]), np.array([1.0, 2.0, 1.0])
    ensemble = preferences.centred(reward + np.array([[-2.0], [0.0], [5.0]]), weight)
    assert np.allclose(ensemble.std(axis=0), 0), "a shift is taken for doubt"
    assert np.allclose(ensemble @ weight, 0)


@property_of("preference")
def the_bound_is_under_the_mean_where_members_disagree() -> None:
    found = preferences.pessimistic_reward(np.array([[1.0, 2.0], [1.0, 4.0]]), 2.0)
    np.testing.assert_allclose(found, [1.0, 1.0])
    np.testing.assert_allclose(preferences.pessimistic_reward(np.array([[1.0, 2.0], [1.0, 4.0]]), 0.0), [1.0, 3.0])


@property_of("preference")
def a_regularised_step_tilts_the_reference() -> None:
    reference = np.array([[0.2, 0.5, 0.3], [0.2, 0.5, 0.3]])
    policy = preferences.regularised_policy(bandit([1.0, 0.0, -1.0]), reference, 0.5)[0, 0]
    weight = np.array([0.2, 0.5, 0.3]) * np.exp(np.array([1.0, 0.0, -1.0]) / 0.5)
    np.testing.assert_allclose(policy, weight / weight.sum())


@property_of("preference")
def the_distance_of_one_step_is_its_divergence() -> None:
    policy, reference = np.array([[[0.9, 0.1], [0.5, 0.5]]]), np.full((2, 2), 0.5)
    expected = 0.9 * math.log(1.8) + 0.1 * math.log(0.2)
    assert math.isclose(preferences.policy_distance(bandit([0.0, 0.0]), policy, reference), expected)


@property_of("preference")
def a_cold_plan_is_the_optimum_and_a_hot_one_the_reference() -> None:
    model, reference = walk(), np.tile([0.7, 0.3], (3, 1))
    cold, hot = (preferences.regularised_policy(model, reference, t) for t in (1e-3, 1e5))
    np.testing.assert_allclose(cold[0, 0], value_iteration(model).policy[0, 0], atol=1e-6)
    np.testing.assert_allclose(hot, np.broadcast_to(reference, hot.shape), atol=1e-3)


CASES = {
    f"{algorithm}-{name}": holds for algorithm, properties in PROPERTIES.items() for name, holds in properties.items()
}


@functools.cache
def passes_on_healthy_code(case: str) -> bool:
    CASES[case]()
    return True


@pytest.mark.parametrize("case", CASES)
def test_property(case):
    assert passes_on_healthy_code(case)


@pytest.mark.parametrize("name", FAULTS)
def test_planted_fault_is_caught(name, monkeypatch):
    fault = FAULTS[name]
    checks = [f"{fault.algorithm}-{caught}" for caught in fault.caught_by]
    assert checks, "a fault names at least one property"
    assert all(passes_on_healthy_code(case) for case in checks)
    fault.plant(monkeypatch)
    for case in checks:
        with pytest.raises(AssertionError):
            CASES[case]()


def test_every_algorithm_has_at_least_three_faults_and_no_property_is_idle():
    number = collections.Counter(fault.algorithm for fault in FAULTS.values())
    assert all(number[algorithm] >= 3 for algorithm in PROPERTIES), number
    failed = {f"{fault.algorithm}-{name}" for fault in FAULTS.values() for name in fault.caught_by}
    assert failed == CASES.keys()


def test_the_path_of_temperatures_trades_return_for_distance():
    model, reference = walk(), np.full((3, 2), 0.5)
    path = [preferences.regularised_policy(model, reference, t) for t in (3.0, 1.0, 0.3, 0.1)]
    distances = [preferences.policy_distance(model, policy, reference) for policy in path]
    assert distances == sorted(distances)
    assert distances[-1] <= model.horizon * math.log(2)


def test_many_answers_of_a_judge_give_its_reward_back():
    draws, reward = np.random.default_rng(3), np.array([0.5, -0.5, 0.0, 1.0])
    first, second, _ = random_comparisons(2, count=4_000)
    config = PreferenceConfig(inverse_temperature=2.0, error_rate=0.1, ridge=0.1)
    chance = preferences.preference_probability((first - second) @ reward, 2.0, 0.1)
    preferred = (draws.random(4_000) < chance).astype(float)
    learner = preferences.PreferenceLearner(walk(), np.zeros((3, 2), np.intp), config).fit(first, second, preferred)
    assert preferences.reward_error(learner.reward, reward, np.ones(4)) < 0.05
    assert preferences.reward_error(learner.estimates()["mean"], reward, np.ones(4)) < 0.05


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: PreferenceConfig(inverse_temperature=0.0), "inverse_temperature must be positive"),
        (lambda: PreferenceConfig(error_rate=1.0), r"error_rate must be in \[0, 1\), got 1.0"),
        (lambda: PreferenceConfig(ridge=0.0), "ridge must be positive"),
        (lambda: PreferenceConfig(members=1), "members must be an integer of at least 2, got 1"),
        (lambda: PreferenceConfig(pessimism=-1.0), "pessimism must be finite"),
        (lambda: preferences.fitted_reward(np.ones((3, 2)), np.ones(2), PreferenceConfig()), "preferred"),
        (lambda: preferences.fitted_reward(np.ones((2, 2)), np.full(2, 0.5), PreferenceConfig()), "0 or 1, got 0.5"),
        (lambda: preferences.reward_error([1.0], [1.0], [0.0]), "weight must be at least 0"),
        (lambda: preferences.regularised_policy(walk(), np.full((3, 2), 0.5), 0.0), "temperature must be positive"),
        (lambda: preferences.PreferenceLearner(walk(), np.zeros((2, 2), np.intp)), r"cells must have shape \(3, 2\)"),
    ],
)
def test_bad_input_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
