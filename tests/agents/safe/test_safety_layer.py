"""The safety layer: the closed form is the exact projection for one constraint, and the filter keeps the limit."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ca14lib.agents.safe import safety_layer as module
from ca14lib.agents.safe.projection import nearest_action
from ca14lib.agents.safe.safety_layer import SafetyLayer, SafetyLayerConfig, safety_layer
from ca14lib.data import Transitions
from ca14lib.data.safety_buffer import SafetyBuffer
from tests.agents.safe.test_projection import general_solver

OBSERVATIONS = gym.spaces.Box(-2.0, 2.0, (2,), np.float32)
ACTIONS = gym.spaces.Box(np.array([-1.0, 0.0], np.float32), np.array([3.0, 0.5], np.float32))


def problems(count: int, constraints: int = 1, dimensions: int = 2, seed: int = 0) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng([seed, constraints, dimensions])
    return (
        rng.normal(size=(count, dimensions)), rng.normal(size=(count, constraints, dimensions)),
        rng.normal(size=(count, constraints)), rng.normal(size=constraints),
    )  # fmt: skip


# Properties of the closed form, and faults that each must notice


def one_constraint_gives_the_nearest_action_that_meets_it() -> None:
    for dimensions in (1, 2, 5):
        action, gradient, cost, limit = problems(30, 1, dimensions)
        found = module.safety_layer(action, gradient[:, 0], cost[:, 0], limit[0], slack=0.1)
        for i in range(len(action)):
            bound = limit - 0.1 - cost[i]
            expected, _ = general_solver(action[i], gradient[i], bound, None, None, np.inf)
            np.testing.assert_allclose(found[i], expected, atol=1e-5)


def an_action_that_meets_the_limit_is_left_alone() -> None:
    action, gradient, cost, limit = problems(300, 2)
    found = module.safety_layer(action, gradient, cost, limit)
    meets = (np.einsum("nkd,nd->nk", gradient, action) + cost <= limit).all(axis=1)
    assert 20 < meets.sum() < 280
    np.testing.assert_array_equal(found[meets], action[meets])
    assert (abs(found - action).max(axis=1)[~meets] > 0).all()


def of_several_the_one_of_largest_multiplier_is_met() -> None:
    action, gradient, cost, limit = problems(300, 3)
    found = module.safety_layer(action, gradient, cost, limit)
    excess = np.einsum("nkd,nd->nk", gradient, action) + cost - limit
    multiplier = np.maximum(excess, 0) / (gradient**2).sum(axis=2)
    worst = multiplier.argmax(axis=1)[:, None]
    after = np.einsum("nkd,nd->nk", gradient, found) + cost - limit
    violated = (excess > 0).any(axis=1)
    np.testing.assert_allclose(np.take_along_axis(after, worst, 1)[violated], 0.0, atol=1e-9)
    distance = np.linalg.norm(found - action, axis=1)
    length = np.linalg.norm(np.take_along_axis(gradient, worst[..., None], 1)[:, 0], axis=1)
    np.testing.assert_allclose(distance, multiplier.max(axis=1) * length, atol=1e-9)


def an_action_without_influence_stays() -> None:
    action = np.array([[0.5, -0.5]] * 3)
    gradient = np.array([[0.0, 0.0], [1e-9, 0.0], [1e-5, 1e-5]])
    with np.errstate(all="raise"):
        found = module.safety_layer(action, gradient, np.ones(3), 0.0)
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found, action)


PROPERTIES = [
    one_constraint_gives_the_nearest_action_that_meets_it,
    an_action_that_meets_the_limit_is_left_alone,
    of_several_the_one_of_largest_multiplier_is_met,
    an_action_without_influence_stays,
]


@pytest.mark.parametrize("holds", PROPERTIES, ids=lambda holds: holds.__name__)
def test_property(holds):
    holds()


def fault(*, sign=1.0, positive=True, power=2, guard=1e-8, slack_sign=1.0, choose=np.argmax):
    """The closed form with one thing wrong."""

    def layer(action, gradient, cost, limit, slack=0.0):
        a, g, offset, limits = module._constraints(action, gradient, cost, limit, slack)
        limits = limits + (1 - slack_sign) * slack
        excess = np.einsum("nkd,nd->nk", g, a) + offset - limits
        size = (g**2).sum(axis=2) ** (power / 2)
        multiplier = np.divide(excess, size, out=np.zeros_like(excess), where=size > guard)
        multiplier = np.maximum(multiplier, 0.0) if positive else multiplier
        row, worst = np.arange(len(a)), choose(multiplier, axis=1)
        return a - sign * multiplier[row, worst, None] * g[row, worst]

    return layer


FAULTS = {
    "towards-the-danger": (fault(sign=-1.0), one_constraint_gives_the_nearest_action_that_meets_it),
    "safe-actions-pulled-to-the-limit": (fault(positive=False), an_action_that_meets_the_limit_is_left_alone),
    "divided-by-the-length-not-its-square": (fault(power=1), one_constraint_gives_the_nearest_action_that_meets_it),
    "slack-loosens": (fault(slack_sign=-1.0), one_constraint_gives_the_nearest_action_that_meets_it),
    "least-violated-constraint": (fault(choose=np.argmin), of_several_the_one_of_largest_multiplier_is_met),
    "no-guard": (fault(guard=0.0), an_action_without_influence_stays),
}


def test_the_healthy_form_passes_where_the_faults_are_planted(monkeypatch):
    monkeypatch.setattr(module, "safety_layer", fault())
    for holds in PROPERTIES:
        holds()


@pytest.mark.parametrize("name", FAULTS)
def test_planted_fault_is_caught(name, monkeypatch):
    plant, holds = FAULTS[name]
    monkeypatch.setattr(module, "safety_layer", plant)
    with pytest.raises(AssertionError):
        holds()


def test_with_two_violated_constraints_the_paper_leaves_one_and_the_exact_projection_none():
    action, gradient, cost, limit = problems(500, 2)
    paper = safety_layer(action, gradient, cost, limit)
    exact = nearest_action(action, gradient, limit - cost)
    after = np.einsum("nkd,nd->nk", gradient, paper) + cost - limit
    both = (np.einsum("nkd,nd->nk", gradient, action) + cost > limit).all(axis=1)
    assert (after[both].max(axis=1) > 1e-6).mean() > 0.2
    assert exact.feasible.all()
    assert exact.slack.max() < 1e-9
    alone = after.max(axis=1) <= 1e-9
    np.testing.assert_allclose(paper[alone], exact.action[alone], atol=1e-7)


# The learned layer


def transitions(count: int, seed: int, constraints: int = 1) -> Transitions:
    """The cost after a step is linear in the action: see ``true_cost``; constraint k adds k to it."""
    rng = np.random.default_rng(seed)
    observation = rng.uniform(-1, 1, (count, 2)).astype(np.float32)
    action = rng.uniform(ACTIONS.low, ACTIONS.high, (count, 2)).astype(np.float32)
    cost = np.stack([true_cost(observation, action) + k for k in range(constraints)], axis=1)
    flag = torch.zeros(count, dtype=torch.bool)
    return Transitions(
        torch.from_numpy(observation), torch.from_numpy(action), torch.zeros(count),
        torch.from_numpy(cost.astype(np.float32)), torch.from_numpy(observation), flag, flag,
    )  # fmt: skip


def true_cost(observation: np.ndarray, action: np.ndarray) -> np.ndarray:
    return 0.3 + observation[:, 0] + (1 + observation[:, 1] ** 2) * action[:, 0] - 2 * action[:, 1]


@pytest.fixture(scope="module")
def layer() -> SafetyLayer:
    made = SafetyLayer(OBSERVATIONS, ACTIONS, 1.0, SafetyLayerConfig(learning_rate=3e-3, slack=0.1))
    losses = made.fit(transitions(4_000, 0), 800)
    assert np.mean(losses[-50:]) < 0.01 * losses[0]
    return made


@pytest.mark.parametrize("method", ["exact", "closed_form"])
def test_the_fitted_layer_keeps_the_true_cost_within_the_limit(layer, method):
    layer.config = SafetyLayerConfig(slack=0.1, method=method)
    fresh = transitions(2_000, 1)
    observation, action = fresh.observation.numpy(), fresh.action.numpy()
    before = true_cost(observation, action)
    executed = layer.filter(observation, action)
    after = true_cost(observation, executed)
    assert (before > 1.0).mean() > 0.3
    possible = true_cost(observation, np.broadcast_to([ACTIONS.low[0], ACTIONS.high[1]], action.shape)) <= 0.8
    assert possible.mean() > 0.9
    broken = (after > 1.0)[possible].mean()
    assert (executed >= ACTIONS.low).all()
    assert (executed <= ACTIONS.high).all()
    # clipping afterwards undoes a part of what the closed form did; the exact programme knows the bounds
    assert broken < 0.01 if method == "exact" else 0.05 < broken < (before > 1.0).mean()
    far_below = before < 0.7
    np.testing.assert_allclose(executed[far_below], action[far_below], atol=1e-6)


def test_fitting_from_a_safety_buffer_and_counting(layer):
    data = transitions(500, 2)
    buffer = SafetyBuffer(OBSERVATIONS, ACTIONS, threshold=1.0)
    columns = {name: getattr(data, name).numpy() for name in (
        "observation", "action", "reward", "next_observation", "terminated", "truncated")}  # fmt: skip
    buffer.add(**columns, cost=data.cost.clamp_min(0).numpy())
    made = SafetyLayer(OBSERVATIONS, ACTIONS, 1.0, seed=3)
    assert len(made.fit(buffer, 5, 16)) == 5
    executed = made.filter(columns["observation"], columns["action"])
    assert made.calls == 500
    assert made.corrections == (abs(executed - columns["action"]) > 1e-6).any(axis=1).sum()


def test_with_a_signal_the_layer_learns_what_changes_it():
    """x' = x + 0.5 a₀: the layer learns the change, and the position never exceeds 1."""
    data = transitions(2_000, 4)
    moved = data.observation.clone()
    moved[:, 0] += 0.5 * data.action[:, 0]
    data = Transitions(*(getattr(data, name) for name in ("observation", "action", "reward", "cost")), moved,
                       data.terminated, data.truncated)  # fmt: skip
    made = SafetyLayer(OBSERVATIONS, ACTIONS, 1.0, SafetyLayerConfig(learning_rate=3e-3), signal=lambda s: s[:, 0])
    made.fit(data, 600)
    gradient, offset = made.sensitivity(data.observation)
    drift = offset[:, 0] - data.observation[:, 0]
    assert abs(drift.detach().numpy() - 0.5).max() < 0.1  # of the middle of the range, action 1
    assert abs(gradient[:, 0, 0].detach().numpy() - 1.0).max() < 0.1  # half the range is 2 units of action
    executed = made.filter(data.observation.numpy(), data.action.numpy())
    assert (data.observation[:, 0].numpy() + 0.5 * executed[:, 0]).max() < 1.05


@given(seed=st.integers(0, 10**6))
def test_same_seed_same_layer(seed):
    first, second = (SafetyLayer(OBSERVATIONS, ACTIONS, 1.0, seed=seed) for _ in range(2))
    data = transitions(50, seed)
    assert first.fit(data, 2, 8) == second.fit(data, 2, 8)


def test_bad_input_is_refused():
    action, gradient, cost, limit = problems(4, 2)
    for arguments, message in (
        ((action[0], gradient, cost, limit), "must be"), ((action, gradient[..., :1], cost, limit), "must be"),
        ((action, gradient, cost[:, :1], limit), "must be"), ((action, gradient, cost, np.zeros(3)), "limit"),
        ((action * np.nan, gradient, cost, limit), "action must be finite"),
        ((action, gradient, cost, limit, -0.1), "slack"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            safety_layer(*arguments)
    for keywords, message in (
        ({"method": "guess"}, "method"), ({"slack": -1.0}, "slack"), ({"learning_rate": 0.0}, "learning_rate"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            SafetyLayerConfig(**keywords)
    unbounded = gym.spaces.Box(-np.inf, np.inf, (2,))
    with pytest.raises(ValueError, match="bounded"):
        SafetyLayer(OBSERVATIONS, unbounded, 1.0)
    with pytest.raises(ValueError, match="leave a choice in every component"):
        SafetyLayer(OBSERVATIONS, gym.spaces.Box(np.array([-1.0, 0.0]), np.array([1.0, 0.0])), 1.0)
    with pytest.raises(ValueError, match="Box"):
        SafetyLayer(gym.spaces.Discrete(3), ACTIONS, 1.0)
    with pytest.raises(ValueError, match="limit"):
        SafetyLayer(OBSERVATIONS, ACTIONS, [1.0, 2.0, 3.0])
    made = SafetyLayer(OBSERVATIONS, ACTIONS, 1.0)
    with pytest.raises(ValueError, match="action must have shape"):
        made.filter(np.zeros((2, 2)), np.zeros((2, 3)))
    with pytest.raises(ValueError, match="updates"):
        made.fit(transitions(5, 0), 0)
    with pytest.raises(ValueError, match="costs"):
        made.fit(transitions(5, 0, constraints=2), 1)
    with pytest.raises(ValueError, match="signal"):
        SafetyLayer(OBSERVATIONS, ACTIONS, 1.0, signal=lambda s: s).filter(np.zeros((2, 2)), np.zeros((2, 2)))
