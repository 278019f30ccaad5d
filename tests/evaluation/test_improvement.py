"""Bounds on an improvement: exact identities, agreement with the estimators, coverage; and faults that these notice."""

import functools
import inspect
import types

import numpy as np
import pytest

from ca14lib.data import OfflineDataset
from ca14lib.environments import TabularModel
from ca14lib.evaluation import doubly_robust, fitted_q_evaluation, improvement
from ca14lib.solvers import policy_return
from ca14lib.solvers.improvement import overruled_policy
from tests.evaluation.test_off_policy import BEHAVIOUR, END, TARGET, chain, dataset_of, enumerated


@functools.cache
def simulated(episodes: int, seed: int) -> OfflineDataset:
    """Episodes of the chain under the behaviour, without recorded probabilities."""
    model, rng, found = chain(True), np.random.default_rng(seed), []
    for _ in range(episodes):
        state, steps = int(rng.choice(4, p=model.initial)), []
        while state != END:
            action = int(rng.choice(2, p=BEHAVIOUR[state]))
            following = int(rng.choice(4, p=model.transition[state, action]))
            reward = model.reward[state, action, following]
            steps.append((state, action, reward, following, following == END, False, None))
            state = following
        found.append(steps)
    return dataset_of(found)


def truth(policy: np.ndarray, model: TabularModel) -> float:
    return policy_return(model, policy) - policy_return(model, BEHAVIOUR)


def observed(data: OfflineDataset) -> np.ndarray:
    """The behaviour as it looks in the data."""
    counts = data.visit_counts(chain(True)).astype(float)
    counts[3] = 1
    return counts / counts.sum(axis=1, keepdims=True)


# What must hold


def whoever_does_as_the_data_gains_nothing(module: types.ModuleType) -> None:
    data = simulated(60, 0)
    (found,) = module.paired_improvement(data, observed(data), resamples=20)
    assert found.value == pytest.approx(0, abs=1e-9)
    assert found.deviation == pytest.approx(0, abs=1e-12)
    assert found.effective_sample_size == pytest.approx(60)
    assert found.behaviour == pytest.approx(data.episode_returns().mean())


def estimates_are_those_of_the_estimators_minus_the_mean_return(module: types.ModuleType) -> None:
    data = simulated(80, 1)
    mean = data.episode_returns().mean()
    (fitted,) = module.paired_improvement(data, TARGET, resamples=5)
    assert fitted.value == pytest.approx(fitted_q_evaluation(data, TARGET, resamples=5).value - mean)
    (corrected,) = module.paired_improvement(data, TARGET, "doubly_robust", seed=3)
    assert corrected.value == pytest.approx(doubly_robust(data, TARGET, resamples=5, seed=3).value - mean)


def both_find_the_truth_and_their_errors_are_the_spread(module: types.ModuleType) -> None:
    exact = truth(TARGET, chain(True))
    for name in ("fitted_q", "doubly_robust"):
        found = [
            module.paired_improvement(simulated(150, seed), TARGET, name, resamples=40)[0] for seed in range(100, 140)
        ]
        values, errors = np.array([(each.value, each.error) for each in found]).T
        assert values.mean() == pytest.approx(exact, abs=3.5 * values.std() / np.sqrt(len(values)))
        assert errors.mean() == pytest.approx(values.std(ddof=1), rel=0.35)


def what_is_common_to_both_cancels(module: types.ModuleType) -> None:
    """Survival depends on who comes, and not on the treatment: nothing is gained, and that is certain."""
    first, action = np.repeat([0, 1], [12, 28]), np.tile([0, 1], 20)
    data = dataset_of([[(s, a, 10.0 * s, END, True, False, None)] for s, a in zip(first, action)])
    for name in ("fitted_q", "doubly_robust"):
        (found,) = module.paired_improvement(data, TARGET, name, resamples=20)
        assert (found.value, found.error) == pytest.approx((0, 0), abs=1e-9)


def groups_add_up_to_everybody(module: types.ModuleType) -> None:
    data = simulated(80, 2)
    first = data.transitions.observation.numpy()[[piece.start for piece in data.episode_slices]]
    everybody, zero, one = module.paired_improvement(data, TARGET, groups=first, resamples=20)
    assert zero.episodes + one.episodes == everybody.episodes == 80
    together = zero.value * zero.episodes + one.value * one.episodes
    assert together == pytest.approx(80 * everybody.value)
    assert zero.value != pytest.approx(one.value, abs=1e-3)


def capital_is_a_fair_bet_at_the_reference(module: types.ModuleType) -> None:
    """The expectation over all sequences of five outcomes, exactly."""
    outcomes = np.array(np.meshgrid(*[[False, True]] * 5)).reshape(5, -1).T
    wealth = module.alarm_wealth(outcomes, 0.8, 0.7)
    for rate, most in ((0.8, 1.0), (0.9, 1.0 - 1e-6)):
        chance = np.where(outcomes, rate, 1 - rate).prod(axis=1)
        means = [chance @ wealth[:, step] for step in range(5)]
        assert max(means) <= most + 1e-12
        if rate == 0.8:
            np.testing.assert_allclose(means, 1.0)
    worse = np.where(outcomes, 0.7, 0.3).prod(axis=1)
    assert worse @ wealth[:, -1] > 1.0


PROPERTIES = (
    whoever_does_as_the_data_gains_nothing,
    estimates_are_those_of_the_estimators_minus_the_mean_return,
    both_find_the_truth_and_their_errors_are_the_spread,
    what_is_common_to_both_cancels,
    groups_add_up_to_everybody,
    capital_is_a_fair_bet_at_the_reference,
)
FAULTS = {
    "the behaviour's value is not subtracted": (
        "value[:, log.state[log.start]] - gained", "value[:, log.state[log.start]]",
        whoever_does_as_the_data_gains_nothing,
    ),
    "errors as if the two were independent": (
        "value[:, log.state[log.start]] - gained", "value[:, log.state[log.start]] - gained.mean()",
        what_is_common_to_both_cancels,
    ),
    "ratios the wrong way round": (
        "probability[log.state, log.action] / propensity", "propensity / probability[log.state, log.action]",
        both_find_the_truth_and_their_errors_are_the_spread,
    ),
    "values from the episodes that they correct": (
        "(fold != np.arange(folds)[:, None])", "(fold >= 0 * np.arange(folds)[:, None])",
        estimates_are_those_of_the_estimators_minus_the_mean_return,
    ),
    "ends bootstrap": (
        "np.where(log.terminated, 0.0, state_value[own, log.following])", "state_value[own, log.following]",
        estimates_are_those_of_the_estimators_minus_the_mean_return,
    ),
    "the error of a mean is not divided": (
        "each.std(ddof=1) / np.sqrt(len(each))", "each.std(ddof=1)",
        both_find_the_truth_and_their_errors_are_the_spread,
    ),
    "groups are ignored": (
        "(weights * member * terms).sum(axis=1) / (weights * member).sum(axis=1)",
        "(weights * terms).sum(axis=1) / weights.sum(axis=1)", groups_add_up_to_everybody,
    ),
    "the bet is on too many successes": (
        "alternative / reference, (1 - alternative) / (1 - reference)",
        "reference / alternative, (1 - reference) / (1 - alternative)", capital_is_a_fair_bet_at_the_reference,
    ),
}  # fmt: skip


@pytest.mark.parametrize("holds", PROPERTIES, ids=lambda holds: holds.__name__)
def test_property(holds):
    holds(improvement)


@pytest.mark.parametrize("name", FAULTS)
def test_planted_fault_is_noticed(name):
    right, wrong, notices = FAULTS[name]
    source = inspect.getsource(improvement)
    assert source.count(right) == 1, f"{source.count(right)} places"
    module = types.ModuleType("ca14lib.evaluation.improvement")
    exec(compile(source.replace(right, wrong), "planted", "exec"), module.__dict__)
    with pytest.raises((AssertionError, ValueError)):
        notices(module)


def test_expected_episodes_give_the_exact_improvement():
    """Every possible episode as often as it is likely: what is left of the estimate is its expectation."""
    data = enumerated(False)
    exact = truth(TARGET, chain(False))
    (found,) = improvement.paired_improvement(data, TARGET, behaviour=BEHAVIOUR, resamples=2)
    assert found.value == pytest.approx(exact, abs=1e-9)
    assert found.unseen == 0.0


def test_lower_bound_is_normal_and_shares_its_level():
    found = improvement.Improvement(0.02, 0.01, 0.8, 100, 0.1, 50.0, 0.0)
    assert found.low() == pytest.approx(0.02 - 1.6449 * 0.01, abs=1e-6)
    assert found.low(0.95, comparisons=8) == pytest.approx(0.02 - 2.4977 * 0.01, abs=1e-5)
    assert found.low(0.5) == pytest.approx(0.02)


def test_unseen_actions_are_counted():
    data = simulated(60, 0)
    only_first = np.flatnonzero([not data.transitions.action[piece].any() for piece in data.episode_slices])
    part = data.episodes(only_first)
    never = overruled_policy(observed(data), np.ones(4, int), np.ones((4, 2), bool), 0.9)
    (found,) = improvement.paired_improvement(part, never, resamples=5)
    assert found.unseen == pytest.approx(1 - 0.1 * observed(data)[part.transitions.observation.numpy(), 0].mean())


def test_bad_input_is_named():
    data = simulated(60, 0)
    with pytest.raises(ValueError, match="estimator must be fitted_q or doubly_robust, got 'is'"):
        improvement.paired_improvement(data, TARGET, "is")
    with pytest.raises(ValueError, match="resamples must be at least 2"):
        improvement.paired_improvement(data, TARGET, resamples=1)
    with pytest.raises(ValueError, match="groups must be 60 whole numbers"):
        improvement.paired_improvement(data, TARGET, groups=[0, 1])
    with pytest.raises(ValueError, match="every group needs at least two episodes, got 1 in group 1"):
        improvement.paired_improvement(data, TARGET, groups=np.eye(60, dtype=int)[0])
    with pytest.raises(ValueError, match="behaviour gives probability 0"):
        improvement.paired_improvement(data, TARGET, behaviour=np.eye(2)[[0, 0, 0, 0]])
    with pytest.raises(ValueError, match=r"folds must lie in 2…60"):
        improvement.paired_improvement(data, TARGET, "doubly_robust", folds=1)
    with pytest.raises(ValueError, match=r"0 < alternative < reference < 1 must hold, got 0\.8 and 0\.7"):
        improvement.alarm_wealth([True], 0.7, 0.8)
    found = improvement.paired_improvement(data, TARGET, resamples=5)[0]
    with pytest.raises(ValueError, match="confidence must lie in"):
        found.low(1.0)
    with pytest.raises(ValueError, match="comparisons must be at least 1, got 0"):
        found.low(comparisons=0)
