"""The agents with continuous actions against exact optima: one-step tasks in closed form, and a task of two moves."""

import functools
import math

import numpy as np
import pytest
import scipy.optimize
import torch

from ca14lib.agents import SAC, Agent, SACConfig
from ca14lib.agents.offline import BC, CQL, IQL, TD3BC
from ca14lib.data import OfflineDataset
from ca14lib.evaluation import RolloutEvaluation
from ca14lib.metrics import share_of_range
from ca14lib.training import train_off_policy, train_offline
from tests.agents.properties import one_state_batch
from tests.agents.properties_continuous import GRID, best_action, fitted
from tests.continuous_probes import Bandit, TwoMoves

pytestmark = pytest.mark.learning

SEEDS = (0, 1, 2)
SMALL = {"hidden_sizes": (32, 32), "learning_rate": 3e-3, "discount": 1.0, "target_rate": 0.02}
NEARLY_GREEDY = {  # on data of the uniform policy
    TD3BC: {"value_weight": 20.0},
    CQL: {"conservative_weight": 0.02, "sampled_actions": 4, "policy_learning_rate": 3e-3, "initial_temperature": 0.1},
    IQL: {"expectile": 0.9, "temperature": 20.0, "max_weight": 1e4},
}


# One state, one step: where the theory says the learner rests


@pytest.mark.parametrize("seed", [0])
def test_the_policy_rests_where_scaled_value_and_cloning_balance(seed) -> None:
    """d/da [λ r(a) − (a − m)²] = 0 with λ = α / |r(a)|, in units of [−1, 1]."""
    batch = one_state_batch(GRID, -(((GRID - 1.0) / 2) ** 2) - 0.5)
    agent = fitted("td3bc", batch, 1_000, seed=seed, value_weight=1.5, target_rate=0.1)

    def slope(a: float) -> float:
        distance = a - 0.5
        return -1.5 / (distance**2 + 0.5) * 2 * distance - 2 * a

    expected = 2 * scipy.optimize.brentq(slope, -1, 1)
    assert abs(best_action(agent) - expected) < 0.05, f"action {best_action(agent)}, balance at {expected}"
    q = agent.critic.first(torch.tensor(np.stack([np.ones(129), GRID / 2], 1)).float()).squeeze(1).detach().numpy()
    assert np.allclose(q, batch.reward, atol=0.05), "Q is the reward"


@pytest.mark.parametrize("seed", [0])
def test_value_and_policy_rest_where_the_theory_says(seed) -> None:
    """V is the τ-expectile of the rewards, the policy the moments of the data under exp(β(r − V)), clipped."""
    reward = 1.0 - (GRID - 0.8) ** 2
    agent = fitted(
        "iql",
        one_state_batch(GRID, reward),
        700,
        seed=seed,
        expectile=0.8,
        temperature=1.0,
        max_weight=1.2,
        target_rate=0.1,
    )

    def first_order(v: float) -> float:
        return (np.where(reward > v, 0.8, 0.2) * (reward - v)).sum()

    value = scipy.optimize.brentq(first_order, reward.min(), reward.max())
    found = agent.value(torch.ones(1, 1)).item()
    assert abs(found - value) < 0.05, f"V is {found}, the expectile {value}"
    weight = np.minimum(np.exp(reward - value), 1.2)
    mean = (weight * GRID).sum() / weight.sum()
    deviation = math.sqrt((weight * (GRID - mean) ** 2).sum() / weight.sum())
    assert abs(best_action(agent) - mean) < 0.05, f"mean {best_action(agent)}, should be {mean}"
    spread = 2 * agent.policy.log_std.exp().item()
    assert abs(spread - deviation) < 0.05, f"deviation {spread}, should be {deviation}"


@pytest.mark.parametrize("seed", [0])
def test_the_policy_is_soft_optimal_in_its_family(seed) -> None:
    """Entropy reaches its target, and the mean stands where the expected reward is highest for that entropy."""
    agent = fitted(
        "sac", one_state_batch(GRID, -(((GRID - 0.6) / 2) ** 2)), 1_000, seed=seed, entropy_per_dimension=-0.5
    )
    logs = [agent.update(one_state_batch(GRID, -(((GRID - 0.6) / 2) ** 2))) for _ in range(20)]
    entropy = np.mean([log["entropy"].item() for log in logs])
    assert abs(entropy + 0.5) < 0.15, f"entropy {entropy}, target −0.5"
    assert abs(best_action(agent) - 0.6) < 0.15, f"action {best_action(agent)}, optimum 0.6"


@pytest.mark.parametrize("seed", [0])
def test_values_rest_where_the_fixed_point_of_the_penalty_is(seed) -> None:
    """On uniform data Q(a) = r(a) − α (softmax(Q)(a) / p(a) − 1), by fixed-point iteration on the grid."""
    grid = GRID[::4]
    reward, alpha = 1.5 - 2 * (grid / 2 - 0.25) ** 2, 0.5
    agent = fitted(
        "cql", one_state_batch(grid, reward), 600, seed=seed, conservative_weight=alpha, sampled_actions=10,
        target_rate=0.1, entropy_per_dimension=0.4,
    )  # fmt: skip
    expected = reward.copy()
    for _ in range(2_000):
        softmax = np.exp(expected) / np.exp(expected).sum() * len(grid)  # relative to the uniform density
        expected += 0.05 * (reward - alpha * (softmax - 1) - expected)
    inputs = torch.tensor(np.stack([np.ones(33), grid / 2], 1)).float()
    found = agent.critic.first(inputs).squeeze(1).detach().numpy()
    assert np.abs(expected - reward).max() > 0.15, "the case needs a penalty that matters"
    error = np.abs(found - expected)[2:-2]
    assert error.mean() < 0.05, f"Q is off by {error.mean():.3f} in the mean"
    assert error.max() < 0.15, f"Q is off by up to {error.max():.3f}"


# Two moves: the share of the way from the uniform policy's exact return to the exact optimum


@functools.cache
def uniform_data(seed: int, episodes: int = 1_500) -> OfflineDataset:
    rng = np.random.default_rng(seed)
    x, rows = rng.uniform(-1, 1, episodes), []
    for moves in range(2):
        move = rng.uniform(-1, 1, episodes)
        before, x = x, x + move
        reward = -(x**2) - TwoMoves.price * move**2
        here, there = (np.stack([z, np.full(episodes, k)], 1) for z, k in ((before, moves), (x, moves + 1)))
        rows.append((here, 2 * move, reward, there))
    observation, action, reward, following = (np.stack(pair, 1).reshape(2 * episodes, -1) for pair in zip(*rows))
    last = np.arange(2 * episodes) % 2 == 1
    return OfflineDataset(
        observation, action, reward[:, 0], following, last, np.zeros_like(last),
        observation_space=TwoMoves.observation_space, action_space=TwoMoves.action_space,
    )  # fmt: skip


def share(agent: Agent) -> float:
    exact = TwoMoves.exact_return(lambda observation: agent.act(observation, deterministic=True))
    return share_of_range(exact, TwoMoves.random_return(), TwoMoves.optimal_return())


def test_the_probes_yardsticks_are_right():
    """The dataset's mean return, a grid of linear policies and rollouts agree with the closed forms."""
    data = uniform_data(0, 20_000)
    returns = data.episode_returns()
    assert abs(returns.mean() - TwoMoves.random_return()) < 4 * returns.std() / math.sqrt(len(returns))
    best = max(
        TwoMoves.exact_return(lambda o, a=a, b=b: -2 * np.where(o[:, 1] == 0, a, b)[:, None] * o[:, :1])
        for a in np.linspace(0, 1, 41)
        for b in np.linspace(0, 1, 41)
    )
    assert TwoMoves.optimal_return() == pytest.approx(best, abs=1e-3)
    assert best <= TwoMoves.optimal_return() + 1e-5
    draws = np.random.default_rng(0).uniform(-2, 2, 200_000)
    assert (1 - (draws - Bandit.best) ** 2).mean() == pytest.approx(Bandit.random, abs=0.02)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("cls", NEARLY_GREEDY)
def test_offline_agents_reach_the_optimum_on_uniform_data(cls, seed):
    data = uniform_data(seed)
    config = cls.config_class(**SMALL | NEARLY_GREEDY[cls])
    agent = cls(data.observation_space, data.action_space, config, normalizer=data.normalizer(), seed=seed)
    train_offline(agent, data, 400, batch_size=128, seed=seed, progress=False)
    assert share(agent) > 0.95


@pytest.mark.parametrize("seed", SEEDS)
def test_the_copy_of_uniform_data_stands_still_and_earns_what_that_earns(seed):
    data = uniform_data(seed)
    config = BC.config_class(hidden_sizes=(32,), learning_rate=3e-3)
    agent = BC(data.observation_space, data.action_space, config, normalizer=data.normalizer(), seed=seed)
    train_offline(agent, data, 600, batch_size=256, seed=seed, progress=False)
    still = share_of_range(-2 / 3, TwoMoves.random_return(), TwoMoves.optimal_return())  # x² stays at 1/3, twice
    assert share(agent) == pytest.approx(still, abs=0.08)


@pytest.mark.parametrize("seed", SEEDS)
def test_sac_reaches_the_optimum_by_acting(seed):
    config = SACConfig(**SMALL | {"initial_temperature": 0.2})
    agent = SAC(TwoMoves.observation_space, TwoMoves.action_space, config, seed=seed)
    train_off_policy(
        agent, "CourseTest/TwoMoves-v0", 1_200, num_envs=2, start_steps=200, updates_per_step=0.5, batch_size=64,
        seed=seed, progress=False,
    )  # fmt: skip
    assert share(agent) > 0.95
    found = RolloutEvaluation("CourseTest/TwoMoves-v0", episodes=200)(agent)["return"]
    assert found == pytest.approx(TwoMoves.exact_return(lambda o: agent.act(o, deterministic=True)), abs=0.05)
