"""Evaluation of teams by running episodes of a game. Book: multi_agent/environments."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ca14lib.environments import MultiAgentEnvironment, multi_agent_environment
from ca14lib.environments.batched import require_integer
from ca14lib.environments.target_grid import TargetGrid
from ca14lib.evaluation.rollouts import EVALUATION_STREAM
from ca14lib.metrics.coordination import fairness_index, share_of_bound
from ca14lib.solvers.target_grid import MOST_TARGETS, target_grid_bound

Policy = Callable[[NDArray, dict[str, Any]], NDArray]
COUNTS = {"collisions": "collisions", "collected": "targets"}  # what games count in info -> name in the results


class TeamPolicy:
    """An agent of the course as a function of observations ``[N, n, …]`` and ``info`` to actions: keeps its memory.

    Args:
        agent: With ``act`` and, if it remembers, ``memory_size`` and ``initial_memory``; or such a function itself.
        deterministic: Take the agent's best actions.
    """

    def __init__(self, agent: Any, *, deterministic: bool = False) -> None:
        if not hasattr(agent, "act") and not callable(agent):
            raise ValueError(f"expected an agent or a function of observation and info, got {agent!r}")
        self.agent, self.deterministic = agent, deterministic
        self._memory: Any = None
        self._begun = False

    def begin(self) -> None:
        """Forget: the next observations are the first of new episodes in every copy."""
        self._memory, self._begun = None, False

    def __call__(self, observation: NDArray, info: dict[str, Any]) -> NDArray:
        if not hasattr(self.agent, "act"):
            return self.agent(observation, info)
        arguments = {"mask": info.get("action_mask"), "deterministic": self.deterministic}
        if not getattr(self.agent, "memory_size", 0):
            return self.agent.act(observation, **arguments)
        if not self._begun:
            self._memory, self._begun = self.agent.initial_memory(len(observation)), True
        actions, self._memory = self.agent.act(observation, self._memory, **arguments)
        return actions


class TeamEvaluation:
    """A callable for the training loops: means over held starts of a game, the same at every call.

    From every start exactly one episode is run, to its end: copies are reset together and each counts until it first
    ends, so that short episodes are not seen more often than long ones. The starts are drawn from seeds that no
    training loop of the course uses.

    Args:
        environment: Name of a game, for :func:`ca14lib.environments.multi_agent_environment`; its episodes must end.
        episodes: Number of starts, at least 1.
        environment_arguments: Keyword arguments of the game.
        seed: Fixes the starts, together with ``num_envs``.
        deterministic: Evaluate the agent's best actions.
        num_envs: Copies run side by side, at least 1.

    Raises:
        ValueError: If a number is out of range, or there is no such game.
    """

    def __init__(
        self,
        environment: str,
        episodes: int = 1000,
        *,
        environment_arguments: Mapping[str, Any] | None = None,
        seed: int = 0,
        deterministic: bool = False,
        num_envs: int = 256,
    ) -> None:
        require_integer("episodes", episodes, 1)
        require_integer("num_envs", num_envs, 1)
        self.environment, self.episodes, self.seed = environment, episodes, seed
        self.deterministic, self.num_envs = deterministic, min(num_envs, episodes)
        arguments = dict(environment_arguments or {})
        self.game = multi_agent_environment(environment, self.num_envs, **arguments)
        rest = episodes % self.num_envs
        self._games = [self.game] * (episodes // self.num_envs)
        if rest:
            self._games.append(multi_agent_environment(environment, rest, **arguments))

    def __call__(self, agent: Any) -> dict[str, float]:
        """Means over the episodes.

        Args:
            agent: An agent, or a function of observation ``[N, n, …]`` and ``info`` to actions ``[N, n, …]``.
        Returns:
            ``team_return``, the sum over agents, also as ``return`` for the training loops, and ``return_std`` over
            episodes; ``return_0``, … of each agent; ``finished``, the share that terminated rather than ran out of
            time; ``length``; where the game counts them ``collisions``, agents that collided, and ``targets``, targets
            collected; ``fairness``, Jain's index of the mean targets of each agent. Of TargetGrid ``bound``, the mean
            upper bound from the same starts, and ``share``, the return's share of it, unless the game is competitive.
        Raises:
            ValueError: If the agent is for other observations or actions than the game's.
        """
        episodes = self.episodes_of(agent)
        team = episodes["team_return"]
        result = {"return": float(team.mean()), "team_return": float(team.mean()), "return_std": float(team.std())}
        result |= {f"return_{index}": float(mean) for index, mean in enumerate(episodes["agent_return"].mean(axis=0))}
        for name in ("finished", "length", *COUNTS.values(), "bound"):
            if name in episodes:
                result[name] = float(episodes[name].mean())
        if "agent_targets" in episodes:
            result["fairness"] = float(fairness_index(episodes["agent_targets"].mean(axis=0)))
        if "bound" in episodes:
            result["share"] = share_of_bound(team, episodes["bound"])
        return result

    def episodes_of(self, agent: Any) -> dict[str, NDArray]:
        """The same of every episode, ``[episodes]`` each; ``agent_return`` and ``agent_targets`` ``[episodes, n]``."""
        for name, space in (
            ("observation_space", self.game.single_observation_space),
            ("action_space", self.game.single_action_space),
        ):
            if getattr(agent, name, space) != space:
                raise ValueError(f"the agent's {name} is {getattr(agent, name)}, {self.environment}'s {space}")
        seeds = np.random.SeedSequence([EVALUATION_STREAM, self.seed]).generate_state(len(self._games)) % 2**31
        policy = TeamPolicy(agent, deterministic=self.deterministic)
        parts = [self._first_episodes(game, policy, int(seed)) for game, seed in zip(self._games, seeds, strict=True)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    @staticmethod
    def _first_episodes(game: MultiAgentEnvironment, policy: TeamPolicy, seed: int) -> dict[str, NDArray]:
        """The first episode of every copy after a reset."""
        observation, info = game.reset(seed=seed)
        policy.begin()
        count = game.num_envs
        result: dict[str, NDArray] = {
            "agent_return": np.zeros((count, game.num_agents)),
            "finished": np.zeros(count, dtype=bool),
            "length": np.zeros(count, dtype=np.int64),
        }
        result |= {name: np.zeros(count, dtype=np.int64) for key, name in COUNTS.items() if key in info}
        if "collected_by" in info:
            result["agent_targets"] = np.zeros((count, game.num_agents), dtype=np.int64)
        if isinstance(game, TargetGrid) and not game.competitive and game.num_targets <= MOST_TARGETS:
            result["bound"] = target_grid_bound(game.agent_cells, game.target_cells, time_limit=game.time_limit)
        running = np.ones(count, dtype=bool)
        while running.any():
            observation, reward, terminated, truncated, info = game.step(policy(observation, info))
            ended = terminated | truncated
            # of the step itself: where an episode has ended, info is of the next one's start
            step = info["final_info"] if ended.any() else info
            result["agent_return"][running] += reward[running]
            result["length"] += running
            result["finished"] |= running & terminated
            for key, name in (COUNTS | {"collected_by": "agent_targets"}).items():
                if name in result:
                    result[name][running] += step[key][running]
            running &= ~ended
        result["team_return"] = result["agent_return"].sum(axis=1)
        return result
