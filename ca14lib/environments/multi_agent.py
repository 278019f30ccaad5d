"""The batched implementation that every game of the course builds on, and its PettingZoo view of one copy.

A game is a :class:`~ca14lib.environments.batched.BatchedEnvironment` with an axis of agents behind that of the copies:
observations ``[N, n, …]``, actions ``[N, n, …]``, rewards ``[N, n]``. An episode ends for all agents together.
"""

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

from ca14lib.environments.batched import BatchedEnvironment, require_integer


class MultiAgentEnvironment(BatchedEnvironment):
    """``num_envs`` copies of one game of n agents with equal spaces, stepped together; autoreset mode ``SAME_STEP``.

    A subclass implements ``_restart``, ``_place`` and ``_observe`` as of any batched environment, :meth:`_transition`
    with an axis of agents in action and reward, and :meth:`_state`.

    ``info`` holds ``"state"`` ``[N, d]``, what a central observer sees; ``"action_mask"`` ``[N, n, A]`` in games that
    forbid actions; ``"alive"`` ``[N, n]`` in games that agents can leave early (who has left observes zeros and its
    actions have no effect); and what the game reports of itself. The state in which an episode ended is in
    ``info["final_info"]["state"]``. The return of a team is the sum over its agents.

    Args:
        num_envs: Number of copies, at least 1.
        num_agents: n, at least 2 unless the game says otherwise.
        observation_space: Space of one agent's observation.
        action_space: Space of one agent's action: ``Discrete`` from 0, or a bounded ``Box``.
        state_space: ``Box`` space of the state, one-dimensional.
        time_limit: Steps after which an episode is truncated, or None.
        horizon: Steps after which an episode is over because the game says so, or None.
        render_mode: ``"rgb_array"`` or None.

    Raises:
        ValueError: If a number or a space is out of range.
    """

    least_agents = 2

    def __init__(
        self,
        num_envs: int,
        num_agents: int,
        observation_space: gym.spaces.Box,
        action_space: gym.spaces.Discrete | gym.spaces.Box,
        state_space: gym.spaces.Box,
        *,
        time_limit: int | None,
        horizon: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        require_integer("num_agents", num_agents, self.least_agents)
        self.num_agents = num_agents
        self.agent_observation_space, self.agent_action_space = observation_space, action_space
        self.state_space = state_space
        joint_observation, joint_action = joint_spaces(observation_space, action_space, num_agents)
        super().__init__(
            num_envs, joint_observation, joint_action,  # type: ignore[arg-type]
            time_limit=time_limit, horizon=horizon, render_mode=render_mode,
        )  # fmt: skip

    @property
    def agent_names(self) -> list[str]:
        """One name per agent, in the order of the agent axis."""
        return [f"agent_{index}" for index in range(self.num_agents)]

    def _state(self) -> NDArray[np.float32]:
        """A fresh array ``[N, d]`` of what a central observer sees now."""
        raise NotImplementedError

    def _report(self) -> dict[str, Any]:
        """Arrays for ``info`` beside the state: masks, who is alive, what the game counts."""
        return {}

    def _information(self) -> dict[str, Any]:
        return {"state": self._state()} | self._report()

    def _checked(self, actions: NDArray) -> NDArray:
        self._require_start()
        actions, space = np.asarray(actions), self.agent_action_space
        shape = (self.num_envs, self.num_agents, *(space.shape or ()))
        if actions.shape != shape:
            raise ValueError(f"actions must have shape {shape}, got {actions.shape}")
        if isinstance(space, gym.spaces.Box):
            inside = (actions >= space.low) & (actions <= space.high)  # NaN is not
            if not inside.all():
                raise ValueError(f"actions must lie in {space}, got {actions[~inside][0]}")
            return actions.astype(np.float64, copy=False)
        count = int(space.n)
        if actions.dtype.kind not in "iu":
            raise TypeError(f"actions must be integers, got dtype {actions.dtype}")
        # as unsigned, a negative action is a huge one: one pass checks both ends
        if actions.astype(np.uint64, copy=False).max() >= count:
            wrong = actions[(actions < 0) | (actions >= count)][0]
            raise ValueError(f"actions must lie in 0…{count - 1}, got {wrong}")
        return actions.astype(np.int64, copy=False)


def joint_spaces(
    observation_space: gym.Space, action_space: gym.Space, num_agents: int
) -> tuple[gym.spaces.Box, gym.spaces.MultiDiscrete | gym.spaces.Box]:
    """The spaces of all agents of one copy together: ``[n, …]``, from those of one agent.

    Raises:
        ValueError: If the observation is no ``Box``, or the action neither ``Discrete`` from 0 nor a bounded ``Box``.
    """
    if not isinstance(observation_space, gym.spaces.Box):
        raise ValueError(f"agents need Box observations, got {observation_space}")

    def stacked(space: gym.spaces.Box) -> gym.spaces.Box:
        shape = (num_agents, *space.shape)
        low, high = (np.broadcast_to(bound, shape) for bound in (space.low, space.high))
        return gym.spaces.Box(low, high, shape, space.dtype)

    if isinstance(action_space, gym.spaces.Discrete) and action_space.start == 0:
        return stacked(observation_space), gym.spaces.MultiDiscrete([int(action_space.n)] * num_agents)
    if isinstance(action_space, gym.spaces.Box) and action_space.is_bounded("both"):
        return stacked(observation_space), stacked(action_space)
    raise ValueError(f"agents need Discrete actions from 0 or a bounded Box, got {action_space}")


class ParallelView(ParallelEnv):
    """The PettingZoo ``ParallelEnv`` that views one copy of a batched game; it never resets itself.

    Args:
        game: The game to view, with ``num_envs`` 1.
    """

    def __init__(self, game: MultiAgentEnvironment) -> None:
        if game.num_envs != 1:
            raise ValueError(f"a parallel view shows one copy, got num_envs={game.num_envs}")
        self.game = game
        self.metadata = {"name": type(game).__name__, "render_modes": ["rgb_array"], "render_fps": 4}
        self.render_mode = game.render_mode
        self.possible_agents = game.agent_names
        self.agents: list[str] = []
        self.state_space = game.state_space
        # the same objects each time: a seeded space has to stay seeded
        self.observation_spaces = {name: _copy(game.agent_observation_space) for name in self.possible_agents}
        self.action_spaces = {name: _copy(game.agent_action_space) for name in self.possible_agents}

    def observation_space(self, agent: str) -> gym.Space:
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> gym.Space:
        return self.action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray], dict[str, dict[str, Any]]]:
        """Start an episode; observations and infos by agent."""
        observation, info = self.game.reset(seed=seed, options=options)
        self.agents = list(self.possible_agents)
        return self._by_agent(observation[0]), self._infos(info)

    def step(
        self, actions: dict[str, Any]
    ) -> tuple[dict[str, NDArray], dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]]:
        """One step of all agents that are there.

        Raises:
            ValueError: If an agent's action is missing or out of range.
            gymnasium.error.ResetNeeded: If the episode has ended.
        """
        if not self.agents:
            raise gym.error.ResetNeeded("the episode has ended: call reset() before the next step")
        missing = [name for name in self.agents if name not in actions]
        if missing:
            raise ValueError(f"step needs an action of every agent, {missing[0]}'s is missing")
        space = self.game.agent_action_space
        idle = np.zeros(space.shape or (), dtype=space.dtype)  # of agents that have left: without effect
        joint = np.stack([np.asarray(actions.get(name, idle)) for name in self.possible_agents])
        reward, terminated, truncated = self.game.advance(self.game._checked(joint[None]))
        observation, info = self.game._observe(), self.game._information()
        infos, was_there = self._infos(info), list(self.agents)
        over, cut = bool(terminated[0]), bool(truncated[0])
        alive = info["alive"][0] if "alive" in info else np.ones(len(self.possible_agents), dtype=bool)
        left = {name: over or not alive[self.possible_agents.index(name)] for name in was_there}
        self.agents = [] if over or cut else [name for name in was_there if not left[name]]
        index = {name: self.possible_agents.index(name) for name in was_there}
        return (
            {name: observation[0][index[name]].copy() for name in was_there},
            {name: float(reward[0, index[name]]) for name in was_there},
            left,
            dict.fromkeys(was_there, cut),
            {name: infos[name] for name in was_there},
        )

    def state(self) -> NDArray[np.float32]:
        """What a central observer sees, ``[d]``."""
        return self.game._state()[0]

    def render(self) -> NDArray[np.uint8] | None:
        """RGB frame ``[height, width, 3]``, or None without a render mode."""
        frames = self.game.render()
        return None if frames is None else frames[0]

    def close(self) -> None:
        """Nothing to free."""

    def _by_agent(self, joint: NDArray) -> dict[str, NDArray]:
        return {name: joint[index].copy() for index, name in enumerate(self.possible_agents)}

    def _infos(self, info: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Every agent's own row of the arrays that have an agent axis, and the state."""
        infos: dict[str, dict[str, Any]] = {name: {} for name in self.possible_agents}
        for key, value in info.items():
            row = value[0]
            of_agents = key != "state" and np.ndim(row) >= 1 and len(row) == len(self.possible_agents)
            for index, name in enumerate(self.possible_agents):
                infos[name][key] = np.array(row[index] if of_agents else row)
        return infos


def _copy(space: gym.Space) -> gym.Space:
    if isinstance(space, gym.spaces.Discrete):
        return gym.spaces.Discrete(int(space.n))
    assert isinstance(space, gym.spaces.Box)
    return gym.spaces.Box(space.low, space.high, space.shape, space.dtype)
