"""Small random problems, and a second way to compute what the solvers compute."""

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from scipy.optimize import linprog

from ca14lib.environments import TabularModel


@pytest.fixture(scope="session")
def random_model() -> Callable[..., TabularModel]:
    """A random problem with sparse transitions, made from a seed; ``ending`` lets every action end it."""

    def make(seed: int, *, ending: bool = False, masked: bool = False, **keywords: object) -> TabularModel:
        rng = np.random.default_rng(seed)
        states, actions = int(rng.integers(2, 5)), int(rng.integers(1, 4))
        weight = rng.exponential(size=(states, actions, states)) * (rng.random((states, actions, states)) < 0.5)
        weight[..., -1] += 0.2 * ending
        stuck = weight.sum(axis=2) == 0
        weight[stuck, rng.integers(states, size=stuck.sum())] = 1.0
        mask = None
        if masked:
            mask = rng.random((states, actions)) < 0.6
            mask[np.arange(states), rng.integers(actions, size=states)] = True
        by_successor = rng.random() < 0.5
        return TabularModel(
            transition=weight / weight.sum(axis=2, keepdims=True),
            reward=rng.normal(size=(states, actions, states) if by_successor else (states, actions)),
            terminal=(np.arange(states) == states - 1) if ending or rng.random() < 0.5 else None,
            initial=rng.dirichlet(np.ones(states)),
            action_mask=mask,
            **keywords,
        )

    return make


@pytest.fixture(scope="session")
def random_policy() -> Callable[..., np.ndarray]:
    """A random stochastic policy that respects the model's mask; with ``horizon`` one per step."""

    def make(model: TabularModel, seed: int, horizon: int | None = None) -> np.ndarray:
        shape = (model.num_states, model.num_actions)
        weight = np.random.default_rng(seed).exponential(size=shape if horizon is None else (horizon, *shape))
        if model.action_mask is not None:
            weight = weight * model.action_mask
        return weight / weight.sum(axis=-1, keepdims=True)

    return make


@pytest.fixture(scope="session")
def deterministic_policies() -> Callable[[TabularModel], list[np.ndarray]]:
    """Every deterministic policy that respects the mask."""

    def every(model: TabularModel) -> list[np.ndarray]:
        mask = np.ones((model.num_states, model.num_actions), bool) if model.action_mask is None else model.action_mask
        choices = product(*(np.flatnonzero(row) for row in mask))
        return [np.eye(model.num_actions)[list(choice)] for choice in choices]

    return every


@pytest.fixture(scope="session")
def linear_programme() -> Callable[[TabularModel, float], np.ndarray]:
    """Optimal values as the least ones that no action improves: min Σ V subject to V ≥ r + γ P V."""

    def solve(model: TabularModel, discount: float) -> np.ndarray:
        above, least = [], []
        for s, a in product(range(model.num_states), range(model.num_actions)):
            if model.terminal[s] or (model.action_mask is not None and not model.action_mask[s, a]):
                continue
            chance = model.transition[s, a]
            reward = model.reward[s, a] if model.reward.ndim == 2 else chance @ model.reward[s, a]
            above.append(discount * chance * ~model.terminal - np.eye(model.num_states)[s])
            least.append(-reward)
        bounds = [(0, 0) if end else (None, None) for end in model.terminal]
        found = linprog(np.ones(model.num_states), A_ub=np.array(above), b_ub=np.array(least), bounds=bounds)
        assert found.success, found.message
        return found.x

    return solve


@pytest.fixture(scope="session")
def long_run_total() -> Callable[[TabularModel, np.ndarray], np.ndarray]:
    """Undiscounted reward of a policy over 2⁴⁰ steps, by squaring the chain that also adds up its rewards."""

    def total(model: TabularModel, policy: np.ndarray) -> np.ndarray:
        states = model.num_states
        step = np.zeros((states + 1, states + 1))
        for s in range(states):
            if model.terminal[s]:
                step[s, s] = 1
                continue
            for a in range(model.num_actions):
                chance = policy[s, a] * model.transition[s, a]
                step[s, :states] += chance
                reward = model.reward[s, a] if model.reward.ndim == 3 else np.full(states, model.reward[s, a])
                step[s, states] += chance @ reward
        step[states, states] = 1
        for _ in range(40):
            step = step @ step
        return step[:states, states]

    return total
