"""Posterior sampling for reinforcement learning (Osband, Russo and Van Roy, 2013). Book: robust/bayesian.

Before every episode one model is drawn from the posterior, and its optimal policy is followed to the episode's end.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ca14lib.agents.base import require
from ca14lib.agents.robust.planner import Array, Planner, PlannerConfig, finite_horizon_values, greedy_policy


@dataclass(frozen=True)
class PSRLConfig(PlannerConfig):
    concentration: float = 0.2  # α₀ of every successor, eq. psrl-dirichlet
    reward_mean: float = 0.0  # m₀, eq. psrl-normal-gamma
    reward_count: float = 0.1  # κ₀: how many observations the prior mean is worth
    reward_shape: float = 1.0  # a₀ of the inverse variance
    reward_rate: float = 0.01  # b₀ of the inverse variance

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("concentration", "reward_count", "reward_shape", "reward_rate"):
            value = getattr(self, name)
            require(0 < value < math.inf, name, value, "positive and finite")
        require(math.isfinite(self.reward_mean), "reward_mean", self.reward_mean, "finite")


class NormalGamma(NamedTuple):
    """A belief about a mean and an inverse variance, of normal observations; fields are numbers or arrays.

    The inverse variance is Gamma(``shape``, ``rate``), and given it the mean is normal around ``mean`` with the
    variance of ``weight`` observations' average.
    """

    mean: Array | float  # m
    weight: Array | float  # κ
    shape: Array | float  # a
    rate: Array | float  # b


def normal_gamma_posterior(prior: NormalGamma, number: ArrayLike, total: ArrayLike, squares: ArrayLike) -> NormalGamma:
    """The belief after normal observations, from their sums (book eq. psrl-normal-gamma).

    Args:
        prior: The belief before.
        number: How many were observed, any shape.
        total: Their sum.
        squares: The sum of their squares.
    """
    number, total, squares = (np.asarray(x, dtype=np.float64) for x in (number, total, squares))
    m, kappa = np.asarray(prior.mean, dtype=np.float64), np.asarray(prior.weight, dtype=np.float64)
    average = np.divide(total, number, out=np.zeros_like(total), where=number > 0)
    spread = np.maximum(squares - number * average**2, 0.0)  # rounding must not make it negative
    return NormalGamma(
        mean=(kappa * m + total) / (kappa + number),
        weight=kappa + number,
        shape=np.asarray(prior.shape) + number / 2,
        rate=np.asarray(prior.rate) + spread / 2 + kappa * number * (average - m) ** 2 / (2 * (kappa + number)),
    )


def sampled_mean(belief: NormalGamma, generator: np.random.Generator) -> Array:
    """One draw of the mean from its marginal, Student's t: first an inverse variance, then a mean given it."""
    precision = generator.gamma(belief.shape, 1 / np.asarray(belief.rate))
    return np.asarray(generator.normal(belief.mean, 1 / np.sqrt(np.asarray(belief.weight) * precision)))


def sampled_rows(concentration: Array, generator: np.random.Generator) -> Array:
    """One draw of every row of a transition kernel, Dirichlet with the given parameters ``[…, S]``.

    A Dirichlet vector is a vector of independent gamma variables over its sum.
    """
    weight = generator.standard_gamma(concentration)
    total = weight.sum(axis=-1, keepdims=True)
    # with tiny parameters all of a row can underflow; the limit of the law is then a corner
    empty = total[..., 0] <= 0
    if empty.any():
        corner = concentration[empty] / concentration[empty].sum(axis=-1, keepdims=True)
        weight[empty] = [generator.multinomial(1, row) for row in corner]
        total = weight.sum(axis=-1, keepdims=True)
    return weight / total


class PSRL(Planner):
    """Posterior sampling: Dirichlet beliefs about transitions, normal-gamma ones about rewards.

    ``transition`` and ``reward`` hold the model that was drawn for the present episode.
    """

    config_class = PSRLConfig
    config: PSRLConfig

    def _plan(self) -> Array:
        self.transition, self.reward = self.sampled_model()
        return greedy_policy(finite_horizon_values(self.transition, self.reward, self.config.horizon))

    def sampled_model(self) -> tuple[Array, Array]:
        """One model of the posterior: transitions ``[S, A, S]``, mean rewards ``[S, A]`` (book eq. psrl-sample)."""
        transition = sampled_rows(self.config.concentration + self.counts, self.generator)
        return self._absorbing(transition, sampled_mean(self.reward_belief(), self.generator))

    def mean_model(self) -> tuple[Array, Array]:
        """Posterior means of transitions ``[S, A, S]`` and rewards ``[S, A]``."""
        weight = self.config.concentration + self.counts
        mean = np.array(self.reward_belief().mean)
        return self._absorbing(weight / weight.sum(axis=2, keepdims=True), mean)

    def reward_belief(self) -> NormalGamma:
        """The posterior of every pair's reward, fields ``[S, A]``."""
        config = self.config
        prior = NormalGamma(config.reward_mean, config.reward_count, config.reward_shape, config.reward_rate)
        return normal_gamma_posterior(prior, self.visits, self.reward_sum, self.reward_squares)
