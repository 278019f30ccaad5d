"""What posterior sampling is compared with: greed with random actions, and optimism. Book: robust/bayesian.

All plan one policy per episode with the same data. ``PosteriorMean`` plans in the mean of the posterior that PSRL draws
from, so that the two differ in nothing but how they explore; ``QLearning`` keeps values and no model; ``UCBVI`` (Azar,
Osband and Munos, 2017) adds a bonus to what was tried little.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ca14lib.agents.base import require
from ca14lib.agents.robust.planner import Array, Planner, PlannerConfig, finite_horizon_values, greedy_policy
from ca14lib.agents.robust.psrl import PSRL, PSRLConfig


def epsilon_schedule(episode: int, exploration: float, halving: float) -> float:
    r"""Share of uniform actions in an episode, :math:`\epsilon_0 / (1 + k / k_{1/2})` (book eq. psrl-epsilon).

    Args:
        episode: :math:`k`, from 0.
        exploration: :math:`\epsilon_0` in [0, 1].
        halving: :math:`k_{1/2}`, the episode at which half is left; infinite for a constant share.
    """
    return exploration / (1 + episode / halving)


def epsilon_greedy(policy: Array, epsilon: float) -> Array:
    """The policy ``[…, A]`` with a share of uniform actions mixed in."""
    return (1 - epsilon) * policy + epsilon / policy.shape[-1]


def _check_exploration(config: "PosteriorMeanConfig | QLearningConfig") -> None:
    require(0 <= config.exploration <= 1, "exploration", config.exploration, "in [0, 1]")
    require(config.halving > 0, "halving", config.halving, "positive")


@dataclass(frozen=True)
class PosteriorMeanConfig(PSRLConfig):
    exploration: float = 0.3  # ε₀, eq. psrl-epsilon
    halving: float = math.inf  # k½, episodes

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_exploration(self)


class PosteriorMean(PSRL):
    """ε-greedy in the mean of the posterior; with ``exploration=0`` greed alone."""

    config_class = PosteriorMeanConfig
    config: PosteriorMeanConfig

    def _plan(self) -> Array:
        self.transition, self.reward = self.mean_model()
        greedy = greedy_policy(finite_horizon_values(self.transition, self.reward, self.config.horizon))
        return epsilon_greedy(greedy, epsilon_schedule(self.episodes, self.config.exploration, self.config.halving))


@dataclass(frozen=True)
class QLearningConfig(PlannerConfig):
    initial_value: float = 0.0  # of every pair at every step
    exploration: float = 0.3  # ε₀, eq. psrl-epsilon
    halving: float = math.inf  # k½, episodes
    rate_offset: float = 20.0  # c: the n-th visit moves the value by (c + 1) / (c + n)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_exploration(self)
        require(math.isfinite(self.initial_value), "initial_value", self.initial_value, "finite")
        require(0 <= self.rate_offset < math.inf, "rate_offset", self.rate_offset, "at least 0 and finite")


class QLearning(Planner):
    """ε-greedy Q-learning of an episodic problem: a value for every step, state and action.

    The value of step h learns from that of step h + 1, which the same episode changes only afterwards: what is
    followed in an episode is the policy of its beginning.
    """

    config_class = QLearningConfig
    config: QLearningConfig

    def __init__(self, *args, **keywords) -> None:  # type: ignore[no-untyped-def]
        super().__init__(*args, **keywords)
        shape = (self.config.horizon, self.num_states, self.num_actions)
        self.q: Array = np.full(shape, self.config.initial_value)
        self.step_visits: Array = np.zeros(shape)

    def _plan(self) -> Array:
        epsilon = epsilon_schedule(self.episodes, self.config.exploration, self.config.halving)
        return epsilon_greedy(greedy_policy(self.q), epsilon)

    def _learn(self, state: int, action: int, reward: float, following: int) -> None:
        where = (self.step - 1, state, action)
        self.step_visits[where] += 1
        last = self.step >= self.config.horizon or self.terminal[following]
        target = reward + (0.0 if last else self.q[self.step, following].max())
        c = self.config.rate_offset
        self.q[where] += (c + 1) / (c + self.step_visits[where]) * (target - self.q[where])

    def _arrays(self) -> dict[str, NDArray]:
        return super()._arrays() | {"q": self.q, "step_visits": self.step_visits}


@dataclass(frozen=True)
class UCBVIConfig(PlannerConfig):
    bonus: float = 1.0  # c, eq. psrl-bonus
    failure: float = 0.05  # δ: probability with which the bonus may be too small
    largest_reward: float = 1.0  # rewards lie in [0, this]
    total_steps: int = 20_000  # T, known in advance as in the paper

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.bonus < math.inf, "bonus", self.bonus, "at least 0 and finite")
        require(0 < self.failure < 1, "failure", self.failure, "in (0, 1)")
        require(0 < self.largest_reward < math.inf, "largest_reward", self.largest_reward, "positive and finite")
        require(self.total_steps >= 1, "total_steps", self.total_steps, "at least 1")


def exploration_bonus(visits: Array, config: UCBVIConfig, num_states: int, num_actions: int) -> Array:
    r"""Hoeffding's width of an estimated value, :math:`c\,H\,r_{\max}\sqrt{L/n}` (book eq. psrl-bonus).

    Args:
        visits: :math:`n(s,a)`, ``[S, A]``; where it is 0 the bonus is the largest return.
        config: Scale and confidence.
        num_states: S.
        num_actions: A.
    """
    largest = config.horizon * config.largest_reward
    log_term = math.log(5 * num_states * num_actions * config.total_steps / config.failure)
    width = config.bonus * largest * np.sqrt(log_term / np.maximum(visits, 1))
    return np.where(visits > 0, width, largest)


class UCBVI(Planner):
    """Optimistic planning: mean rewards and frequencies, plus a bonus, values cut at what an episode can still pay.

    Unlike the paper's, rewards are estimated too, and a value may exceed that of an earlier episode.
    """

    config_class = UCBVIConfig
    config: UCBVIConfig

    def _plan(self) -> Array:
        horizon, visits = self.config.horizon, self.visits
        seen = np.maximum(visits, 1)
        transition, reward = self.counts / seen[..., None], self.reward_sum / seen
        optimistic = reward + exploration_bonus(visits, self.config, self.num_states, self.num_actions)
        transition, optimistic = self._absorbing(transition, optimistic)
        q = np.empty((horizon, self.num_states, self.num_actions))
        value = np.zeros(self.num_states)
        for step in reversed(range(horizon)):
            largest = (horizon - step) * self.config.largest_reward
            q[step] = np.minimum(optimistic + transition @ value, largest)
            value = q[step].max(axis=1)
        return greedy_policy(q)
