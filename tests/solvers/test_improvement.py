"""Improvement over a baseline: exact in its class, never under the baseline; and faults that these must notice."""

import inspect
import itertools
import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ca14lib.environments import TabularModel, tabular_model
from ca14lib.solvers import improvement, pessimistic_plan, policy_evaluation, value_iteration

GRID = "CA14/GridWorld-v0"


def small(seed: int, states: int = 4, actions: int = 3) -> tuple[TabularModel, np.ndarray, np.ndarray]:
    """A random problem whose last state ends it, a baseline and trusted pairs."""
    rng = np.random.default_rng(seed)
    transition = rng.dirichlet(np.full(states, 0.5), size=(states, actions)) * 0.9
    transition[..., -1] += 0.1
    model = TabularModel(
        transition, rng.normal(size=(states, actions)), terminal=np.arange(states) == states - 1,
        initial=np.eye(states)[0],
    )  # fmt: skip
    return model, rng.dirichlet(np.ones(actions), size=states), rng.random((states, actions)) < 0.6


def class_optimum(model: TabularModel, baseline: np.ndarray, trusted: np.ndarray, discount: float) -> np.ndarray:
    """The best value of every state over all policies that move trusted probability to one trusted action."""
    options = []
    for state in range(model.num_states - 1):
        kept = np.where(trusted[state], 0.0, baseline[state])
        moved = np.where(trusted[state], baseline[state], 0.0).sum()
        rows = [kept + moved * np.eye(model.num_actions)[action] for action in np.flatnonzero(trusted[state])]
        options.append(rows or [baseline[state]])
    values = [
        policy_evaluation(model, np.array([*rows, baseline[-1]]), discount).value
        for rows in itertools.product(*options)
    ]
    return np.max(values, axis=0)


# What must hold; each is also run against the faults


def plan_is_the_best_of_its_class(module: types.ModuleType, seeds=range(6)) -> None:
    for seed in seeds:
        model, baseline, trusted = small(seed)
        for discount in (0.8, 1.0):
            plan = module.baseline_bootstrapped_plan(model, baseline, trusted, discount=discount)
            np.testing.assert_allclose(plan.value, class_optimum(model, baseline, trusted, discount), atol=1e-9)


def plan_does_as_the_baseline_where_nothing_is_trusted(module: types.ModuleType, seeds=range(6)) -> None:
    for seed in seeds:
        model, baseline, trusted = small(seed)
        plan = module.baseline_bootstrapped_plan(model, baseline, trusted)
        np.testing.assert_allclose(plan.policy[~trusted], baseline[~trusted])
        np.testing.assert_allclose(plan.policy.sum(axis=1), 1.0)
        again = module.overruled_policy(baseline, plan.choice, plan.overruled)
        np.testing.assert_allclose(again, plan.policy)
        assert not (plan.overruled & ~trusted).any()


def plan_is_never_under_the_baseline(module: types.ModuleType, seeds=range(6)) -> None:
    for seed in seeds:
        model, baseline, trusted = small(seed)
        plan = module.baseline_bootstrapped_plan(model, baseline, trusted, discount=0.9)
        np.testing.assert_allclose(plan.baseline_value, policy_evaluation(model, baseline, 0.9).value)
        assert (plan.value >= plan.baseline_value - 1e-9).all()
        np.testing.assert_allclose(plan.value, policy_evaluation(model, plan.policy, 0.9).value)


def model_is_made_of_frequencies(module: types.ModuleType) -> None:
    counts, rewards = np.zeros((4, 2, 4), dtype=int), np.zeros((4, 2))
    counts[0, 0, 1], counts[0, 0, 3], rewards[0, 0] = 3, 1, 2.0
    counts[1, 1, 3], rewards[1, 1] = 5, 10.0
    model = module.empirical_model(counts, rewards, np.array([False, False, False, True]), initial=[6, 2, 0, 0])
    assert model.transition[0, 0].tolist() == [0, 0.75, 0, 0.25]
    assert model.expected_reward[[0, 1], [0, 1]].tolist() == [0.5, 2.0]
    assert model.terminal.tolist() == [False, False, True, True]  # nobody went on from state 2
    assert model.action_mask[:2].tolist() == [[True, False], [False, True]]
    assert model.initial.tolist() == [0.75, 0.25, 0, 0]


PROPERTIES = (
    plan_is_the_best_of_its_class,
    plan_does_as_the_baseline_where_nothing_is_trusted,
    plan_is_never_under_the_baseline,
    model_is_made_of_frequencies,
)
FAULTS = {  # what is replaced by what, and what must notice
    "untrusted actions may be chosen": (
        "np.where(may, held.q, -np.inf).argmax(axis=1)", "held.q.argmax(axis=1)", plan_is_the_best_of_its_class,
    ),
    "probability of untrusted actions is moved": (
        "np.where(overruled, behaviour, 0.0)", "behaviour", plan_does_as_the_baseline_where_nothing_is_trusted,
    ),
    "one step of improvement only": (
        "held = policy_evaluation(model, policy, discount)\n    raise", "break\n    return ImprovedPlan(policy, "
        "policy_evaluation(model, policy, discount).value, baseline_value, choice, overruled)\n    raise",
        plan_is_the_best_of_its_class,
    ),
    "the planner forgets the discount": (
        "held = policy_evaluation(model, policy, discount)\n    raise", "held = policy_evaluation(model, policy)\n"
        "    raise", plan_is_the_best_of_its_class,
    ),
    "the worst action is chosen": (".argmax(axis=1)\n        proposed", ".argmin(axis=1)\n        proposed",
                                   plan_is_the_best_of_its_class),
    "rewards are sums, not means": (
        "reward_sum / np.maximum(visits, 1), 0.0", "reward_sum, 0.0", model_is_made_of_frequencies,
    ),
    "unvisited states go on": (
        "ended = ~tried.any(axis=1)", "ended = np.asarray(terminal)", model_is_made_of_frequencies,
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
    module = types.ModuleType("planted")
    module.__dict__["__name__"] = "ca14lib.solvers.improvement"
    exec(compile(source.replace(right, wrong), "planted", "exec"), module.__dict__)
    with pytest.raises((AssertionError, ValueError, RuntimeError)):
        notices(module)


@pytest.mark.parametrize("discount", [0.9, 1.0])
def test_with_all_trusted_it_is_the_optimum_and_with_none_the_baseline(discount):
    model = tabular_model(GRID)
    uniform = np.full((model.num_states, model.num_actions), 1 / model.num_actions)
    everything = np.ones_like(uniform, dtype=bool)
    plan = improvement.baseline_bootstrapped_plan(model, uniform, everything, discount=discount)
    np.testing.assert_allclose(plan.value, value_iteration(model, discount).value, atol=1e-8)
    still = improvement.baseline_bootstrapped_plan(model, uniform, ~everything, discount=discount)
    np.testing.assert_array_equal(still.policy, uniform)
    np.testing.assert_array_equal(still.value, still.baseline_value)
    assert not still.overruled.any()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), discount=st.sampled_from([0.7, 1.0]))
def test_more_trust_is_never_worse_in_the_model_it_was_planned_in(seed, discount):
    model, baseline, trusted = small(seed)
    further = trusted | (np.random.default_rng(seed + 1).random(trusted.shape) < 0.5)
    values = [improvement.baseline_bootstrapped_plan(model, baseline, t, discount=discount).value
              for t in (trusted, further)]  # fmt: skip
    assert (values[0] <= values[1] + 1e-9).all()


def test_frequent_pairs_only_and_nothing_else_is_pessimistic_planning():
    """States without a frequent pair are terminal in the counts of frequent pairs: worth the worst, 0."""
    rng = np.random.default_rng(0)
    counts = rng.poisson(1.0, size=(6, 3, 6))
    counts[..., 5] += 1
    counts[2] = 0
    counts[2, 0, 5] = 2
    rewards = counts[..., 5] * rng.random((6, 3))
    terminal = np.arange(6) == 5
    frequent = (counts.sum(axis=2) >= 6) & ~terminal[:, None]
    model = improvement.empirical_model(np.where(frequent[..., None], counts, 0), rewards * frequent, terminal)
    base = np.where(model.terminal[:, None], 1.0, frequent)
    plan = improvement.baseline_bootstrapped_plan(model, base / base.sum(axis=1, keepdims=True), frequent)
    expected = pessimistic_plan(counts, rewards, terminal, min_count=6)
    np.testing.assert_allclose(plan.value, expected.value, atol=1e-9)
    known = frequent.any(axis=1)
    assert 0 < known.sum() < 5
    np.testing.assert_array_equal(plan.policy.argmax(axis=1)[known], expected.policy.argmax(axis=1)[known])


def test_half_followed_recommendations_are_half_way():
    behaviour = np.array([[0.2, 0.3, 0.5], [0.1, 0.9, 0.0]])
    overruled = np.array([[True, True, False], [False, False, False]])
    followed = improvement.overruled_policy(behaviour, np.array([1, 2]), overruled)
    assert followed.tolist() == [[0.0, 0.5, 0.5], [0.1, 0.9, 0.0]]
    half = improvement.overruled_policy(behaviour, np.array([1, 2]), overruled, adherence=0.5)
    np.testing.assert_allclose(half, (behaviour + followed) / 2)


def test_bad_input_is_named():
    model, baseline, trusted = small(0)
    with pytest.raises(ValueError, match=r"baseline and trusted must have shape \(4, 3\), got \(4, 3\) and \(3, 3\)"):
        improvement.baseline_bootstrapped_plan(model, baseline, trusted[:3])
    with pytest.raises(ValueError, match=r"discount .* got 1\.5"):
        improvement.baseline_bootstrapped_plan(model, baseline, trusted, discount=1.5)
    timed = TabularModel(model.transition, model.reward, terminal=model.terminal, horizon=3)
    with pytest.raises(ValueError, match="the model's horizon is 3"):
        improvement.baseline_bootstrapped_plan(timed, baseline, trusted)
    with pytest.raises(ValueError, match=r"adherence must lie in \[0, 1\], got 1\.5"):
        improvement.overruled_policy(baseline, np.zeros(4, int), trusted, 1.5)
    with pytest.raises(ValueError, match=r"choice must have shape \(4,\)"):
        improvement.overruled_policy(baseline, np.zeros(3, int), trusted)
    with pytest.raises(ValueError, match=r"counts must be \[S, A, S\]"):
        improvement.empirical_model(np.zeros((3, 3, 4), int), np.zeros((4, 3)), model.terminal)
    with pytest.raises(ValueError, match="at least one transition"):
        improvement.empirical_model(np.zeros((4, 3, 4), int), np.zeros((4, 3)), model.terminal)
    paying = TabularModel(np.eye(2)[:, None], [[1.0], [0.0]], terminal=[False, True])
    with pytest.raises(ValueError, match="baseline must end its episodes"):
        improvement.baseline_bootstrapped_plan(paying, np.ones((2, 1)), np.ones((2, 1), bool))
