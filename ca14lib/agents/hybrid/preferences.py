"""Learning from comparisons: a reward model, planning on it, and how far to trust it.

Bradley and Terry (1952) and Christiano et al. (2017) for the model, Gao et al. (2023) for over-optimisation, Coste et
al. (2024) for pessimism. Book: evaluation/preferences. Everything is a table, so every number is exact.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logsumexp

from ca14lib.agents.base import require
from ca14lib.environments import TabularModel

Array = NDArray[np.float64]


@dataclass(frozen=True)
class PreferenceConfig:
    inverse_temperature: float = 1.0  # β_J, eq. preferences-bradley-terry: what is assumed of the judge
    error_rate: float = 0.0  # ε_J, share of answers that are a coin's, eq. preferences-bradley-terry
    ridge: float = 0.1  # λ_r, eq. preferences-loss
    members: int = 20  # of the ensemble, eq. preferences-pessimism
    pessimism: float = 1.0  # κ, eq. preferences-pessimism: 0 plans on the ensemble's mean

    def __post_init__(self) -> None:
        positive = 0 < self.inverse_temperature < math.inf
        require(positive, "inverse_temperature", self.inverse_temperature, "positive and finite")
        require(0 <= self.error_rate < 1, "error_rate", self.error_rate, "in [0, 1)")
        require(0 < self.ridge < math.inf, "ridge", self.ridge, "positive and finite")
        whole = isinstance(self.members, int) and self.members >= 2
        require(whole, "members", self.members, "an integer of at least 2")
        require(0 <= self.pessimism < math.inf, "pessimism", self.pessimism, "finite and at least 0")


# --- the judge and the model of the judge -----------------------------------------------------------------------------


def preference_probability(difference: ArrayLike, inverse_temperature: float = 1.0, error_rate: float = 0.0) -> Array:
    r"""Probability that the first segment is preferred (book eq. preferences-bradley-terry).

    :math:`(1-\epsilon_J)\,\sigma(\beta_J\Delta)+\epsilon_J/2`.

    Args:
        difference: :math:`\Delta`, reward of the first segment minus that of the second, any shape.
        inverse_temperature: :math:`\beta_J`; large is a judge who always sees the difference.
        error_rate: :math:`\epsilon_J`, share of the answers that are a fair coin's.
    """
    sure = expit(inverse_temperature * np.asarray(difference, dtype=np.float64))
    return (1 - error_rate) * sure + 0.5 * error_rate


def comparison_loss(
    reward: Array, difference: Array, preferred: Array, config: PreferenceConfig, weight: Array | None = None
) -> float:
    r"""Negative log-likelihood of the answers plus a ridge (book eq. preferences-loss).

    Args:
        reward: :math:`\hat r`, ``[F]``, one number per feature (here: per cell).
        difference: Visits of the first segment minus those of the second, ``[C, F]``.
        preferred: 1 where the first was preferred, else 0, ``[C]``.
        config: Assumed noise, and the ridge.
        weight: Of every comparison, ``[C]``; None for 1.
    """
    chance = preference_probability(difference @ reward, config.inverse_temperature, config.error_rate)
    chance = np.clip(chance, 1e-300, 1 - 1e-16)
    likelihood = preferred * np.log(chance) + (1 - preferred) * np.log1p(-chance)
    count = np.ones(len(preferred)) if weight is None else weight
    return float(-(count * likelihood).sum() + 0.5 * config.ridge * reward @ reward)


def fitted_reward(
    difference: Array, preferred: Array, config: PreferenceConfig, weight: Array | None = None, *, steps: int = 100
) -> Array:
    r"""The reward table with the least loss, ``[F]``, by Fisher scoring with step halving (book eq. preferences-loss).

    With an error rate of 0 the loss is convex, and this is logistic regression.

    Args: as :func:`comparison_loss`.
    Raises:
        ValueError: If shapes do not fit or an answer is not 0 or 1.
    """
    difference, preferred = np.asarray(difference, dtype=np.float64), np.asarray(preferred, dtype=np.float64)
    if difference.ndim != 2 or preferred.shape != difference.shape[:1]:
        raise ValueError(
            f"difference must be [C, F] and preferred [C], got shapes {difference.shape} and {preferred.shape}"
        )
    if not np.isin(preferred, (0.0, 1.0)).all():
        raise ValueError(f"preferred must hold 0 or 1, got {preferred[~np.isin(preferred, (0.0, 1.0))][0]}")
    count = np.ones(len(preferred)) if weight is None else np.asarray(weight, dtype=np.float64)
    beta, sharp = config.inverse_temperature, 1 - config.error_rate
    reward = np.zeros(difference.shape[1])
    loss = comparison_loss(reward, difference, preferred, config, count)
    for _ in range(steps):
        sure = expit(beta * difference @ reward)
        chance = np.clip(sharp * sure + 0.5 * config.error_rate, 1e-12, 1 - 1e-12)
        slope = beta * sharp * sure * (1 - sure)  # of the chance in the difference of rewards
        spread = chance * (1 - chance)
        gradient = difference.T @ (count * slope * (preferred - chance) / spread) - config.ridge * reward
        curvature = (difference.T * (count * slope**2 / spread)) @ difference + config.ridge * np.eye(len(reward))
        step, scale = np.linalg.solve(curvature, gradient), 1.0
        while scale > 1e-8:
            moved = comparison_loss(reward + scale * step, difference, preferred, config, count)
            if moved <= loss:
                break
            scale /= 2
        else:
            break
        reward = reward + scale * step
        if loss - moved <= 1e-12 * (1 + abs(loss)):
            break
        loss = moved
    return reward


def reward_error(learnt: ArrayLike, true: ArrayLike, weight: ArrayLike) -> float:
    r"""Root mean squared error up to the shift that equal lengths cannot show (book eq. preferences-error).

    Args:
        learnt: :math:`\hat r`, ``[F]``.
        true: :math:`r`, ``[F]``.
        weight: How often each feature counts, ``[F]``, at least 0; scaled to sum to 1.
    """
    share = np.asarray(weight, dtype=np.float64)
    if (share < 0).any() or not share.sum() > 0:
        raise ValueError(f"weight must be at least 0 with a positive sum, got {share}")
    share = share / share.sum()
    gap = np.asarray(learnt, dtype=np.float64) - np.asarray(true, dtype=np.float64)
    return float(np.sqrt(share @ (gap - share @ gap) ** 2))


def centred(reward: Array, weight: Array) -> Array:
    r"""The reward shifted to mean 0 over the data, :math:`\hat r-\sum_iw_i\hat r_i` (book eq. preferences-centred).

    Args:
        reward: ``[…, F]``.
        weight: ``[F]``, with a positive sum.
    """
    return reward - (reward @ (weight / weight.sum()))[..., None]


def reward_ensemble(
    difference: Array, preferred: Array, config: PreferenceConfig, generator: np.random.Generator
) -> Array:
    """Reward tables ``[members, F]``, each of a bootstrap resample of the comparisons."""
    size = len(preferred)
    counts = generator.multinomial(size, np.full(size, 1 / size), size=config.members)
    return np.stack([fitted_reward(difference, preferred, config, count.astype(float)) for count in counts])


def pessimistic_reward(ensemble: Array, pessimism: float) -> Array:
    r"""Mean minus :math:`\kappa` standard deviations over the members, ``[F]`` (book eq. preferences-pessimism).

    Args:
        ensemble: ``[members, F]``, centred: a shift that differs between members is no doubt about the reward.
        pessimism: :math:`\kappa`, at least 0.
    """
    return ensemble.mean(axis=0) - pessimism * ensemble.std(axis=0)


# --- planning ---------------------------------------------------------------------------------------------------------


def regularised_policy(model: TabularModel, reference: Array, temperature: float) -> Array:
    r"""The policy ``[H, S, A]`` that maximises return minus :math:`\tau` times the distance from a reference.

    Book eq. preferences-regularised; exact, by one backward pass.

    Args:
        model: With the reward to plan on, and a horizon.
        reference: :math:`\pi_0`, ``[S, A]``.
        temperature: :math:`\tau`, positive; small is greedy.
    Raises:
        ValueError: If the model has no horizon or the temperature is not positive.
    """
    if model.horizon is None:
        raise ValueError("regularised planning is done over a horizon; the model's is None")
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature must be positive and finite, got {temperature}")
    with np.errstate(divide="ignore"):
        log_reference = np.log(reference)
    value, policy = np.zeros(model.num_states), np.zeros((model.horizon, *reference.shape))
    for step in reversed(range(model.horizon)):
        score = log_reference + (model.expected_reward + model.transition @ value) / temperature
        total = logsumexp(score, axis=1)
        policy[step] = np.exp(score - total[:, None])
        value = np.where(model.terminal, 0.0, temperature * total)
    return policy


def policy_distance(model: TabularModel, policy: Array, reference: Array) -> float:
    r"""Kullback–Leibler divergence between the episodes of two policies (book eq. preferences-distance).

    Args:
        model: With a horizon.
        policy: ``[H, S, A]``.
        reference: ``[S, A]``, positive where the policy is.
    """
    state, distance = model.initial * ~model.terminal, 0.0
    for table in policy:
        ratio = np.divide(table, reference, out=np.ones_like(table), where=table > 0)
        distance += float(state @ (table * np.log(ratio)).sum(axis=1))
        state = np.einsum("i,ij,ijk->k", state, table, model.transition) * ~model.terminal
    return distance


# --- the whole of it --------------------------------------------------------------------------------------------------


class PreferenceLearner:
    """A reward model from comparisons, and policies planned on it.

    Args:
        model: States, moves, horizon; its reward is ignored.
        cells: The feature of every state and action, ``[S, A]`` int: whose reward a step earns.
        config: Noise, ridge and ensemble.
        seed: Of the resamples.
    """

    def __init__(
        self, model: TabularModel, cells: NDArray[np.intp], config: PreferenceConfig | None = None, *, seed: int = 0
    ) -> None:
        if cells.shape != (model.num_states, model.num_actions):
            raise ValueError(f"cells must have shape {(model.num_states, model.num_actions)}, got {cells.shape}")
        self.model, self.cells = model, cells
        self.config = PreferenceConfig() if config is None else config
        self.generator = np.random.default_rng(seed)

    def fit(self, first: Array, second: Array, preferred: Array) -> "PreferenceLearner":
        """Learn from comparisons.

        Args:
            first: Visits to every cell in the first segments, ``[C, F]``.
            second: In the second ones, ``[C, F]``.
            preferred: 1 where the first was preferred, ``[C]``.
        """
        difference = np.asarray(first, dtype=np.float64) - second
        self.weight = np.asarray(first + second, dtype=np.float64).sum(axis=0)
        self.reward = centred(fitted_reward(difference, preferred, self.config), self.weight)
        self.ensemble = centred(reward_ensemble(difference, preferred, self.config, self.generator), self.weight)
        return self

    def estimates(self) -> dict[str, Array]:
        """``point`` (the fit to all comparisons), ``mean`` of the ensemble and its ``pessimistic`` bound, ``[F]``."""
        bound = pessimistic_reward(self.ensemble, self.config.pessimism)
        return {"point": self.reward, "mean": self.ensemble.mean(axis=0), "pessimistic": bound}

    def problem(self, reward: Array) -> TabularModel:
        """The problem with a learnt reward in the place of the true one."""
        model = self.model
        return TabularModel(
            model.transition, reward[self.cells], terminal=model.terminal, initial=model.initial, horizon=model.horizon
        )
