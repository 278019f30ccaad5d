"""Evaluation by running episodes, for problems that are too large to be evaluated exactly. Book: offline/data."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ca14lib.agents.base import Agent
from ca14lib.environments.batched import BatchedEnvironment
from ca14lib.metrics import normalized_score
from ca14lib.training.on_policy import ActionFilter
from ca14lib.training.vector import step_cost, vector_environment

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
        action_filter: Function of observations and actions to the actions that are executed, as in training.
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
        action_filter: ActionFilter | None = None,
    ) -> None:
        if episodes < 1:
            raise ValueError(f"episodes must be at least 1, got {episodes}")
        self.environment, self.episodes, self.seed = environment, episodes, seed
        self.deterministic, self.references = deterministic, references
        self.action_filter = action_filter
        self._vector = vector_environment(environment, episodes, **(environment_arguments or {}))

    def __call__(self, agent: Agent) -> dict[str, float]:
        """Means over the episodes.

        Returns:
            ``return``, ``return_std`` over episodes, ``length``; ``score`` if references were given; and if the
            environment reports costs, for each constraint k ``cost_k`` (mean undiscounted cost of an episode),
            ``cost_std_k`` and ``worst_cost_k``.
        """
        returns, lengths, costs = self._run(agent)
        result = {
            "return": float(returns.mean()),
            "return_std": float(returns.std()),
            "length": float(lengths.mean()),
        }
        if self.references is not None:
            result["score"] = normalized_score(result["return"], *self.references)
        for k, cost in enumerate(() if costs is None else costs.T):
            result |= {f"cost_{k}": float(cost.mean()), f"cost_std_{k}": float(cost.std())}
            result[f"worst_cost_{k}"] = float(cost.max())
        return result

    def episodes_of(self, agent: Agent) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return and length of every episode, ``[episodes]`` each.

        Raises:
            ValueError: If the agent is for other observations or actions than the environment's.
        """
        return self._run(agent)[:2]

    def costs_of(self, agent: Agent) -> NDArray[np.float64]:
        """Undiscounted costs of every episode, ``[episodes, K]``.

        Raises:
            ValueError: If the environment reports no ``info["cost"]``, or the agent does not fit it.
        """
        costs = self._run(agent)[2]
        if costs is None:
            raise ValueError(f"{self.environment} reports no info['cost'], so no costs can be counted")
        return costs

    def _run(self, agent: Agent) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64] | None]:
        """Return, length and, where they are reported at every step, costs of every episode."""
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
        costs: NDArray[np.float64] | None = np.zeros((self.episodes, 1))
        running = np.ones(self.episodes, dtype=bool)
        while running.any():
            action = agent.act(observation, deterministic=self.deterministic)
            if self.action_filter is not None:
                action = np.asarray(self.action_filter(observation, action), dtype=action.dtype)
            observation, reward, terminated, truncated, info = vector.step(action)
            if np.any(info.get("restarted", False)):
                raise ValueError(f"evaluate {self.environment} without restarts: its episodes must begin at the start")
            ended = terminated | truncated
            paid = None if costs is None else step_cost(info, ended)
            costs = None if costs is None or paid is None else costs + np.where(running[:, None], paid, 0.0)
            returns += np.where(running, reward, 0.0)
            lengths += running
            running &= ~ended
        return returns, lengths, costs
