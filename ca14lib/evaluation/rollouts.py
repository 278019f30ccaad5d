"""Evaluation by running episodes, for problems that are too large to be evaluated exactly. Book: offline/data."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ca14lib.agents.base import Agent
from ca14lib.environments.batched import BatchedEnvironment
from ca14lib.metrics import normalized_score
from ca14lib.training.vector import vector_environment

# Evaluation starts come from seeds that no training loop of the course uses: its own seeds are smaller than this.
EVALUATION_STREAM = 14_000_000


class RolloutEvaluation:
    """A callable for the training loops: mean return over fresh episodes, the same starts at every call.

    Args:
        environment: Gymnasium id; its episodes must end.
        episodes: Number of episodes, all run side by side.
        seed: Fixes their starts; they differ from those that training with any seed under 14 million sees.
        deterministic: Evaluate the agent's best actions.
        references: Returns of the policies that score 0 and 100, for a normalised score.
        environment_arguments: Keyword arguments of the environment.
    """

    def __init__(
        self,
        environment: str,
        episodes: int = 10,
        seed: int = 0,
        *,
        deterministic: bool = True,
        references: tuple[float, float] | None = None,
        environment_arguments: Mapping[str, Any] | None = None,
    ) -> None:
        if episodes < 1:
            raise ValueError(f"episodes must be at least 1, got {episodes}")
        self.environment, self.episodes, self.seed = environment, episodes, seed
        self.deterministic, self.references = deterministic, references
        self._vector = vector_environment(environment, episodes, **(environment_arguments or {}))

    def __call__(self, agent: Agent) -> dict[str, float]:
        """``return``, its standard deviation over episodes, mean length, and ``score`` if references were given."""
        returns, lengths = self.episodes_of(agent)
        result = {
            "return": float(returns.mean()),
            "return_std": float(returns.std()),
            "length": float(lengths.mean()),
        }
        if self.references is not None:
            result["score"] = normalized_score(result["return"], *self.references)
        return result

    def episodes_of(self, agent: Agent) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return and length of every episode, ``[episodes]`` each.

        Raises:
            ValueError: If the agent is for other observations or actions than the environment's.
        """
        vector = self._vector
        for name in ("observation_space", "action_space"):
            if getattr(agent, name) != getattr(vector, f"single_{name}"):
                raise ValueError(
                    f"the agent's {name} is {getattr(agent, name)}, "
                    f"{self.environment}'s {getattr(vector, f'single_{name}')}"
                )
        seeds = np.random.SeedSequence([EVALUATION_STREAM, self.seed]).generate_state(self.episodes) % 2**31
        each = [int(seed) for seed in seeds]
        batched = isinstance(vector.unwrapped, BatchedEnvironment)  # those draw all starts from one seed
        observation, _ = vector.reset(seed=each[0] if batched else each)  # type: ignore[arg-type]
        returns, lengths = np.zeros(self.episodes), np.zeros(self.episodes, dtype=np.int64)
        running = np.ones(self.episodes, dtype=bool)
        while running.any():
            action = agent.act(observation, deterministic=self.deterministic)
            observation, reward, terminated, truncated, _ = vector.step(action)
            returns += np.where(running, reward, 0.0)
            lengths += running
            running &= ~(terminated | truncated)
        return returns, lengths
