"""Shields learned from recorded violations, by counting and by an ensemble of networks. Book: safe/mechanisms.

Neither looks ahead: an action counts as unsafe if the step itself is likely to cost more than allowed. Called like the
shields of :mod:`ca14lib.agents.safe.shield`.
"""

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.stats import beta
from torch import Tensor, nn

from ca14lib.agents.base import gradient_step, require
from ca14lib.agents.safe.shield import StateIndex
from ca14lib.data.safety_buffer import SafetyBuffer
from ca14lib.networks import mlp


def violation_bounds(
    violations: NDArray[np.int64], visits: NDArray[np.int64], confidence: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """One-sided Clopper–Pearson bounds of a probability from ``violations`` among ``visits``, each a bound by itself.

    Without a visit they are 0 and 1.

    Args:
        violations: Any shape.
        visits: Same shape, not below the violations.
        confidence: In (0, 1): each bound holds with at least this probability.
    """
    missed = visits - violations
    with np.errstate(invalid="ignore"):
        low = np.where(violations == 0, 0.0, beta.ppf(1 - confidence, violations, missed + 1))
        high = np.where(missed == 0, 1.0, beta.ppf(confidence, violations + 1, missed))
    return low, high


class CountShield:
    """A shield from counts of what every state-action pair did.

    Pessimistic, an action is allowed if the upper bound of its violation probability is at most ``threshold``: what was
    not tried often enough is forbidden, so an agent behind the shield learns nothing new. Optimistic, it is forbidden
    only if the lower bound exceeds ``threshold``: every hazard is entered until it is known, and then no more. Where
    nothing is allowed, the actions of least bound are, and :attr:`fallbacks` counts it.

    Args:
        state_index: Maps observations ``[N, …]`` to states ``[N]``.
        num_states: S.
        num_actions: A.
        threshold: Largest acceptable probability of a violation in one step.
        confidence: Of the bounds.
        pessimistic: Which of the two.
    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        state_index: StateIndex,
        num_states: int,
        num_actions: int,
        *,
        threshold: float = 0.05,
        confidence: float = 0.9,
        pessimistic: bool = True,
    ) -> None:
        require(0 <= threshold < 1, "threshold", threshold, "in [0, 1)")
        require(0 < confidence < 1, "confidence", confidence, "in (0, 1)")
        self.state_index, self.threshold, self.confidence, self.pessimistic = (
            state_index, threshold, confidence, pessimistic
        )  # fmt: skip
        self.visits = np.zeros((num_states, num_actions), dtype=np.int64)
        self.violations = np.zeros_like(self.visits)
        self.calls = self.fallbacks = 0

    def observe(self, observation: NDArray, action: NDArray, violated: NDArray[np.bool_]) -> None:
        """Count ``N`` steps: the observations before them, the actions, and whether they violated, ``[N]``."""
        where = (self.state_index(observation), np.asarray(action))
        np.add.at(self.visits, where, 1)
        np.add.at(self.violations, where, np.asarray(violated, dtype=bool))

    def count(self, buffer: SafetyBuffer) -> None:
        """Count everything that a safety buffer holds."""
        for unsafe in (False, True):
            held = buffer.held(unsafe=unsafe)
            if len(held):
                self.observe(held.observation.cpu().numpy(), held.action.cpu().numpy(), np.full(len(held), unsafe))

    def bound(self, state: NDArray[np.intp]) -> NDArray[np.float64]:
        """The bound that decides in the given states, ``[N, A]``: upper if pessimistic, else lower."""
        low, high = violation_bounds(self.violations[state], self.visits[state], self.confidence)
        return high if self.pessimistic else low

    def __call__(self, observation: NDArray, info: dict[str, Any] | None = None) -> NDArray[np.bool_]:
        """Allowed actions ``[N, A]`` for observations ``[N, …]``; ``info`` is not used."""
        state = self.state_index(observation)
        table, inverse = np.unique(state, return_inverse=True)
        mask, stuck = below_threshold(self.bound(table), self.threshold)
        self.calls += len(state)
        self.fallbacks += int(stuck[inverse].sum())
        return mask[inverse]


def below_threshold(bound: NDArray[np.float64], threshold: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Actions with a bound ``[N, A]`` of at most the threshold, or the least where none has one; and where, ``[N]``."""
    fine = bound <= threshold
    stuck = np.logical_not(fine.any(axis=1))
    return np.where(stuck[:, None], bound <= bound.min(axis=1, keepdims=True) + 1e-12, fine), stuck


@dataclass(frozen=True)
class LearnedShieldConfig:
    """Settings of :class:`LearnedShield`."""

    hidden_sizes: tuple[int, ...] = (64, 64)
    learning_rate: float = 1e-3
    members: int = 5  # networks of the ensemble
    prior_scale: float = 3.0  # size of the fixed random function that is added to every member
    width: float = 1.0  # standard deviations between the members' mean logit and the bound
    threshold: float = 0.1  # largest acceptable bound of the probability of a violation in one step

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden_sizes", tuple(self.hidden_sizes))
        require(0 < self.learning_rate < np.inf, "learning_rate", self.learning_rate, "positive and finite")
        require(self.members >= 2, "members", self.members, "at least 2")
        require(0 <= self.prior_scale < np.inf, "prior_scale", self.prior_scale, "at least 0 and finite")
        require(0 <= self.width < np.inf, "width", self.width, "at least 0 and finite")
        require(0 < self.threshold < 1, "threshold", self.threshold, "in (0, 1)")


class LearnedShield:
    """A shield from an ensemble of classifiers of "this step violates", for observations that cannot be counted.

    The members agree where there are data. Elsewhere each follows its own fixed random prior function, and the bound,
    the mean logit plus ``width`` standard deviations, is large: the untried counts as unsafe. That is a
    tendency, not a guarantee. Before any data everything is forbidden, and the action of least bound is the fallback.

    Args:
        observation_space: ``Box`` or ``Discrete`` space of one observation.
        action_space: ``Discrete`` space of actions.
        config: The settings.
        seed: Fixes the networks and the draws of batches.
    Raises:
        ValueError: If a space does not fit.
    """

    def __init__(
        self,
        observation_space: gym.Space,
        action_space: gym.Space,
        config: LearnedShieldConfig | None = None,
        *,
        seed: int = 0,
    ) -> None:
        if not isinstance(action_space, gym.spaces.Discrete) or action_space.start != 0:
            raise ValueError(f"action_space must be Discrete from 0, got {action_space}")
        self.config = LearnedShieldConfig() if config is None else config
        sizes, actions = self.config.hidden_sizes, int(action_space.n)
        self.discrete = isinstance(observation_space, gym.spaces.Discrete)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.members = nn.ModuleList(mlp(observation_space, actions, sizes) for _ in range(self.config.members))
            self.priors = nn.ModuleList(mlp(observation_space, actions, sizes) for _ in range(self.config.members))
        self.priors.requires_grad_(False)
        self.generator = torch.Generator().manual_seed(seed)
        self.optimizer = torch.optim.Adam(self.members.parameters(), lr=self.config.learning_rate)
        self.fitted = False
        self.calls = self.fallbacks = 0

    def logits(self, observation: Tensor) -> Tensor:
        """Logits of a violation by every member, ``[E, N, A]``."""
        return torch.stack(
            [
                member(observation) + self.config.prior_scale * prior(observation)
                for member, prior in zip(self.members, self.priors)
            ]
        )

    def fit(self, buffer: SafetyBuffer, updates: int, batch_size: int = 256) -> list[float]:
        """Logistic regression on the executed actions, weighted back to the true frequency of violations.

        Every member gets its own batch. Returns the mean loss of every step.

        Raises:
            ValueError: If updates is under 1.
        """
        require(updates >= 1, "updates", updates, "at least 1")
        losses = []
        for _ in range(updates):
            loss = torch.zeros(())
            for member, prior in zip(self.members, self.priors):
                batch = buffer.sample(batch_size, self.generator)
                seen, action = batch.transitions.observation, batch.transitions.action
                logits = member(seen) + self.config.prior_scale * prior(seen)
                chosen = logits.gather(1, action[:, None]).squeeze(1)
                loss = loss + nn.functional.binary_cross_entropy_with_logits(
                    chosen, batch.unsafe.float(), weight=batch.weight
                )
            gradient_step(self.optimizer, loss / len(self.members))
            losses.append(loss.detach() / len(self.members))
        self.fitted = True
        return torch.stack(losses).tolist()

    @torch.no_grad()
    def bound(self, observation: ArrayLike) -> NDArray[np.float64]:
        """Pessimistic probability of a violation in one step, ``[N, A]``; 1 before the first fit."""
        array = np.asarray(observation)
        logits = self.logits(torch.as_tensor(array, dtype=torch.int64 if self.discrete else torch.float32))
        high = logits.mean(dim=0) + self.config.width * logits.std(dim=0)
        return (high.sigmoid() if self.fitted else torch.ones_like(high)).double().numpy()

    def __call__(self, observation: ArrayLike, info: dict[str, Any] | None = None) -> NDArray[np.bool_]:
        """Allowed actions ``[N, A]`` for observations ``[N, …]``; ``info`` is not used."""
        mask, stuck = below_threshold(self.bound(observation), self.config.threshold)
        self.calls += len(mask)
        self.fallbacks += int(stuck.sum())
        return mask
