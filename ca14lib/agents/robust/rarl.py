"""The adversary of RARL: PPO whose actions are forces on what another agent controls (Pinto et al., 2017).

Book: robust/adversarial. The game that the two play is :func:`ca14lib.training.adversarial.train_rarl`.
"""

import copy
import math
from dataclasses import dataclass
from typing import Self

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from ca14lib.agents.base import Agent, require
from ca14lib.agents.ppo import PPO, PPOConfig


@dataclass(frozen=True)
class DisturbanceAdversaryConfig(PPOConfig):
    learning_rate: float = 1e-3
    epochs: int = 5


def adversary_reward(reward: NDArray[np.float64]) -> NDArray[np.float64]:
    """What the adversary gets of the agent's rewards ``[N]``: the game is zero-sum (book eq. rarl-objective)."""
    return -reward


class DisturbanceAdversary(PPO):
    """PPO whose actions are forces within ±F; its reward is minus the agent's, its critic is its own.

    Build one with :meth:`against`.
    """

    config_class = DisturbanceAdversaryConfig
    config: DisturbanceAdversaryConfig

    @classmethod
    def against(
        cls, agent: Agent, limit: float, forces: int = 1, config: DisturbanceAdversaryConfig | None = None, *,
        seed: int = 0,
    ) -> Self:  # fmt: skip
        """An adversary for an agent, with a copy of its normalizer.

        Args:
            agent: Whom it disturbs.
            limit: F, the largest force, in the environment's unit; positive.
            forces: Number of forces.
            config: Its configuration.
            seed: Fixes its weights and draws.
        Raises:
            ValueError: If a number is out of range.
        """
        require(0 < limit < math.inf, "limit", limit, "positive and finite")
        require(isinstance(forces, int) and forces >= 1, "forces", forces, "a positive integer")
        return cls(
            agent.observation_space, gym.spaces.Box(-limit, limit, (forces,), dtype=np.float32), config,
            normalizer=copy.deepcopy(agent.normalizer), seed=seed, device=agent.device,
        )  # fmt: skip

    @property
    def limit(self) -> float:
        """The largest force."""
        assert isinstance(self.action_space, gym.spaces.Box)
        return float(self.action_space.high.max())
