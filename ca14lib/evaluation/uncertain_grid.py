"""Evaluation on UncertainGrid: held episodes, the same for all agents, beside a planner's bound on each of them.

Book: robust/environments.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ca14lib.environments.batched import require_integer
from ca14lib.environments.solo import SoloGame
from ca14lib.environments.uncertain_grid import UncertainGridParameters, UncertainGridVector
from ca14lib.evaluation.rollouts import EVALUATION_STREAM
from ca14lib.evaluation.teams import TeamPolicy
from ca14lib.metrics.shares import share_of_range
from ca14lib.solvers.uncertain_grid import uncertain_grid_bound, uncertain_grid_uniform

ID, FEATURES = "CA14/UncertainGrid-v0", 6


class UncertainGridEvaluation:
    """A callable for the training loops: mean return over held episodes, the same at every call and for every agent.

    Each held episode is run exactly once, so that short episodes are not seen more often than long ones. Their
    parameters come from a seed that no training loop of the course uses, or are given. Noise on rewards is left out
    unless asked for: its mean is 0 and no agent sees rewards while it acts, so that the expected return is the same and
    its interval smaller.

    Args:
        episodes: Number of held episodes, at least 1.
        environment_arguments: Arguments of :class:`~ca14lib.environments.UncertainGridVector`, the ranges to draw from
            above all. They may differ from those of training.
        parameters: The held episodes themselves, instead of ``episodes``.
        seed: Fixes the episodes and all that is random in them.
        deterministic: Evaluate the agent's best actions instead of drawing from its policy. One without memory may then
            run into the same obstacle until time is up.
        reward_noise: Add the noise on the rewards.

    Attributes:
        parameters: The held episodes, E rows.
        bound: ``[E]``, what a planner gets that sees cell and parameters (book eq. ugrid-bound).
        uniform: ``[E]``, exact return of uniformly random actions.

    Raises:
        ValueError: If an argument is out of range, or the environment has no time limit.
    """

    def __init__(
        self,
        episodes: int = 1000,
        *,
        environment_arguments: Mapping[str, Any] | None = None,
        parameters: UncertainGridParameters | None = None,
        seed: int = 0,
        deterministic: bool = False,
        reward_noise: bool = False,
    ) -> None:
        require_integer("episodes", episodes, 1)
        require_integer("seed", seed, 0)
        count = episodes if parameters is None else len(parameters)
        self._arguments = dict(environment_arguments or {})
        self.environment = UncertainGridVector(count, **self._arguments)
        if self.environment.time_limit is None:
            raise ValueError(
                "time_limit must be a number, got None: an episode in which nothing is reached would not end"
            )
        drawing, acting = np.random.SeedSequence([EVALUATION_STREAM, seed]).spawn(2)
        if parameters is None:
            parameters = self.environment.draw(count, np.random.default_rng(drawing))
        self.parameters = parameters.checked()
        self.bound = uncertain_grid_bound(self.parameters, time_limit=self.environment.time_limit)
        self.uniform = uncertain_grid_uniform(self.parameters, time_limit=self.environment.time_limit)
        self.deterministic = deterministic
        self._played = self.parameters if reward_noise else self.parameters.changed(reward_noise=0.0)
        self._seed = int(acting.generate_state(1)[0]) % 2**31

    def __call__(self, agent: Any) -> dict[str, float]:
        """Means over the held episodes.

        Args:
            agent: With ``act(observation, mask=None, deterministic=…)``; if it has a ``memory_size`` that is not 0,
                with ``initial_memory(N)`` and ``act(observation, memory, …)`` that returns actions and memory; or a
                team of one that learned on the same grid as ``Solo/CA14/UncertainGrid-v0``.
        Returns:
            ``return``, ``return_std`` over episodes, ``length`` in steps, ``arrived`` (share of episodes that reach the
            goal), ``bound``, ``uniform``, ``share`` (where the return lies between uniform, 0, and bound, 1) and, where
            the mean bound is positive, ``share_of_bound`` (return over bound, the stricter one).
        Raises:
            ValueError: If the agent is for other observations or actions.
        """
        episodes = self.episodes_of(agent)
        result = {name: float(episodes[name].mean()) for name in ("return", "length", "arrived")}
        result["return_std"] = float(episodes["return"].std())
        result |= {"bound": float(self.bound.mean()), "uniform": float(self.uniform.mean())}
        result["share"] = share_of_range(result["return"], result["uniform"], result["bound"])
        if result["bound"] > 0:
            result["share_of_bound"] = result["return"] / result["bound"]
        return result

    def episodes_of(self, agent: Any) -> dict[str, NDArray]:
        """``return``, ``length`` and ``arrived`` of every held episode, ``[E]`` each, for comparisons in pairs.

        Raises:
            ValueError: If the agent is for other observations or actions.
        """
        game = self._game_for(agent)
        for name in ("observation_space", "action_space"):
            if getattr(agent, name) != getattr(game, f"single_{name}"):
                raise ValueError(
                    f"the agent's {name} is {getattr(agent, name)}, UncertainGrid's {getattr(game, f'single_{name}')}"
                )
        policy = TeamPolicy(agent, deterministic=self.deterministic)
        observation, info = game.reset(seed=self._seed, options={"parameters": self._played})
        count = game.num_envs
        returns, lengths = np.zeros(count), np.zeros(count, dtype=np.int64)
        running, arrived = np.ones(count, dtype=np.bool_), np.zeros(count, dtype=np.bool_)
        while running.any():
            observation, reward, terminated, truncated, info = game.step(policy(observation, info))
            returns += np.where(running, reward.reshape(count), 0.0)
            lengths += running
            arrived |= running & terminated
            running &= ~(terminated | truncated)
        return {"return": returns, "length": lengths, "arrived": arrived}

    def _game_for(self, agent: Any) -> UncertainGridVector | SoloGame:
        """The environment, or its game of one for a team; which one, its observations tell."""
        shape: tuple[int, ...] = agent.observation_space.shape or ()
        if len(shape) < 2:
            return self.environment
        last = shape[1] > FEATURES
        return SoloGame(self.environment.num_envs, ID, previous_action=last, **self._arguments)
