"""Small games with known answers, for tests of teams and of what trains them."""

from typing import Any

import gymnasium as gym
import numpy as np

from ca14lib.environments import MultiAgentEnvironment
from ca14lib.environments.registration import MULTI_AGENT_ENVIRONMENTS


class MeetingGame(MultiAgentEnvironment):
    """n agents pick one of 3 actions in each of 4 rounds: 1 for each where all picked what the signal shows.

    The signal changes from round to round and is in everyone's observation; the optimal team return is 4 · n.
    """

    def __init__(self, num_envs: int = 1, *, num_agents: int = 2, masked: bool = False, rounds: int = 4) -> None:
        space = gym.spaces.Box(0, 1, (3,), np.float32)
        super().__init__(num_envs, num_agents, space, gym.spaces.Discrete(3), space, time_limit=None, horizon=rounds)
        self.signal, self.masked = np.zeros(num_envs, dtype=np.int64), masked

    def spawn(self, num_envs: int) -> "MeetingGame":
        return MeetingGame(num_envs, num_agents=self.num_agents, masked=self.masked)

    def _restart(self, count: int, options: dict[str, Any] | None) -> Any:
        return self.np_random.integers(3, size=count)

    def _place(self, where: Any, states: Any) -> None:
        self.signal[where] = states

    def _transition(self, action: Any) -> Any:
        right = (action == self.signal[:, None]).all(axis=1)
        self.signal = self.np_random.integers(3, size=self.num_envs)
        return np.repeat(right[:, None].astype(float), self.num_agents, axis=1), np.zeros(self.num_envs, dtype=bool)

    def _observe(self) -> Any:
        return np.repeat(self._state()[:, None], self.num_agents, axis=1)

    def _state(self) -> Any:
        return np.eye(3, dtype=np.float32)[self.signal]

    def _report(self) -> dict[str, Any]:
        if not self.masked:
            return {}
        mask = np.ones((self.num_envs, self.num_agents, 3), dtype=bool)
        mask[:, 0, 2] = False
        return {"action_mask": mask}


class RendezvousGame(MultiAgentEnvironment):
    """Two agents on a line see both places and move by [−1, 1]; each loses their distance; cut after 5 steps."""

    def __init__(self, num_envs: int = 1) -> None:
        space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
        super().__init__(num_envs, 2, space, gym.spaces.Box(-1, 1, (1,), np.float32), space, time_limit=5)
        self.place = np.zeros((num_envs, 2))

    def spawn(self, num_envs: int) -> "RendezvousGame":
        return RendezvousGame(num_envs)

    def _restart(self, count: int, options: dict[str, Any] | None) -> Any:
        return self.np_random.uniform(-2, 2, size=(count, 2))

    def _place(self, where: Any, states: Any) -> None:
        self.place[where] = states

    def _transition(self, action: Any) -> Any:
        self.place = self.place + action[..., 0]
        apart = np.abs(self.place[:, :1] - self.place[:, 1:])
        return np.repeat(-apart, 2, axis=1), np.zeros(self.num_envs, dtype=bool)

    def _observe(self) -> Any:
        return np.stack([self.place, self.place[:, ::-1]], axis=1).astype(np.float32)

    def _state(self) -> Any:
        return self.place.astype(np.float32)


class LeavingGame(MeetingGame):
    """As :class:`MeetingGame`, but agent 0 leaves after the first round."""

    def _report(self) -> dict[str, Any]:
        alive = np.ones((self.num_envs, self.num_agents), dtype=bool)
        alive[:, 0] = self._elapsed < 1
        return {"alive": alive}


def register() -> None:
    """Make the games known by name to ``multi_agent_environment``."""
    for cls in (MeetingGame, RendezvousGame, LeavingGame):
        MULTI_AGENT_ENVIRONMENTS[cls.__name__] = ("tests.small_games", cls.__name__)
