r"""The adversary of ATLA: PPO whose actions are perturbations of what another agent sees (Zhang et al., 2021).

Book: robust/adversarial. The game that the two play is :func:`ca14lib.training.adversarial.train_atla`.
"""

import copy
from dataclasses import dataclass
from typing import Self

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from ca14lib.agents.base import Agent, gradient_step, require
from ca14lib.agents.ppo import PPO, PPOConfig
from ca14lib.agents.robust.perturbations import project, require_epsilon


@dataclass(frozen=True)
class ObservationAdversaryConfig(PPOConfig):
    learning_rate: float = 1e-3
    epochs: int = 5


def observation_unit(agent: Agent) -> Tensor:
    """How much one unit of a normalised observation is in the environment's units: ``[…]`` of one observation.

    Raises:
        ValueError: If the agent's observations are no ``Box`` of real numbers, so that there is no ball around one.
    """
    space = agent.observation_space
    real = isinstance(space, gym.spaces.Box) and np.issubdtype(space.dtype, np.floating)
    require(real, "observation space", space, "a Box of real numbers: other observations have no ball around them")
    normalizer = getattr(agent, "normalizer", None)
    if normalizer is None:
        return torch.ones(space.shape or (), device=agent.device)
    return 1.0 / normalizer.scale


def perturbed_observation(observation: Tensor, perturbation: Tensor, unit: Tensor, epsilon: float) -> Tensor:
    r"""What the agent sees in place of the truth, :math:`s+\sigma\odot\Pi_\epsilon(\delta)` (book eq. atla-game).

    Args:
        observation: :math:`s`, ``[N, …]``, in the environment's units.
        perturbation: :math:`\delta`, ``[N, …]``, in units of normalised observations; what is too large is cut.
        unit: :math:`\sigma`, ``[…]``, see :func:`observation_unit`.
        epsilon: :math:`\epsilon`.
    Returns:
        ``[N, …]``, in the environment's units.
    """
    return observation + unit * project(perturbation, epsilon)


class ObservationAdversary(PPO):
    """PPO against a fixed agent: it sees true observations, its actions are perturbations in [−ε, ε], its reward is
    minus the agent's.

    Build one with :meth:`against`.
    """

    config_class = ObservationAdversaryConfig
    config: ObservationAdversaryConfig

    @classmethod
    def against(
        cls, agent: Agent, epsilon: float, config: ObservationAdversaryConfig | None = None, *, seed: int = 0
    ) -> Self:
        """An adversary for an agent, with a copy of its normalizer, which neither of the two moves.

        Args:
            agent: Whose observations it perturbs; they are a one-dimensional ``Box``.
            epsilon: Bound of every number of a perturbation, in units of normalised observations; positive.
            config: Its configuration.
            seed: Fixes its weights and draws.
        Raises:
            ValueError: If ε is not positive, or the observations are no one-dimensional ``Box``.
        """
        require_epsilon(epsilon)
        require(epsilon > 0, "epsilon", epsilon, "positive: at 0 there is nothing to learn")
        shape = tuple(observation_unit(agent).shape)
        require(len(shape) == 1, "observation shape", shape, "one-dimensional")
        return cls(
            agent.observation_space, gym.spaces.Box(-epsilon, epsilon, shape, dtype=np.float32), config,
            normalizer=copy.deepcopy(getattr(agent, "normalizer", None)), seed=seed, device=agent.device,
        )  # fmt: skip

    def imitate(self, observation: Tensor, perturbation: Tensor, steps: int = 300) -> Tensor:
        """Fit the mean of its perturbations to those of another attack, by least squares; the last loss.

        Args:
            observation: ``[B, D]``, true observations in the environment's units.
            perturbation: ``[B, D]``, in units of normalised observations, within ±ε.
            steps: Gradient steps on batches of 256.
        """
        inputs, target = self._input(observation), self._unit(perturbation)
        optimizer = torch.optim.Adam(self.policy.parameters(), 3e-3)
        loss = torch.zeros((), device=self.device)
        for _ in range(steps):
            rows = torch.randint(len(inputs), (256,), generator=self.generator, device=self.device)
            loss = (self.policy(inputs[rows])[0] - target[rows]).square().mean()
            gradient_step(optimizer, loss)
        return loss.detach()

    @property
    def epsilon(self) -> float:
        """The bound on its perturbations."""
        assert isinstance(self.action_space, gym.spaces.Box)
        return float(self.action_space.high.max())
