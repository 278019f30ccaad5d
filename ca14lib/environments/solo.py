"""A game of one agent: any batched environment of the course for the learners that remember. Book: robust/environments.

Teams have what a single agent needs where it does not see everything: memory, a critic that sees the state, batches of
whole sequences. An agent alone is a team of one.
"""

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from ca14lib.environments.batched import BatchedEnvironment
from ca14lib.environments.multi_agent import MultiAgentEnvironment


class SoloGame(MultiAgentEnvironment):
    """``"Solo/CA14/UncertainGrid-v0"`` and so on, batched: a batched environment with an axis of one agent.

    Dynamics, rewards, ends and random draws are those of the environment itself. The observation is its observation in
    one row and, if asked for, the last action: one-hot, or as numbers where actions are continuous; zeros at the start
    of an episode. An agent with memory needs it to tell what it did from what happened to it. The state, which only a
    central critic sees, is the environment's ``central_state()`` ``[N, d]`` in its ``central_space`` if it has one, and
    otherwise the observation.

    Args:
        num_envs: Number of copies.
        environment: Gymnasium id of an environment of the course with ``Box`` observations.
        previous_action: Show the last action.
        arguments: Keyword arguments of the environment.

    Raises:
        ValueError: If there is no such environment, or it is not one of the course's, or its observation is no ``Box``.
    """

    least_agents = 1

    def __init__(self, num_envs: int, environment: str, *, previous_action: bool = True, **arguments: Any) -> None:
        self.environment, self.previous_action, self.arguments = environment, bool(previous_action), arguments
        self.inner = _inner(environment, num_envs, arguments)
        seen, acts = self.inner.single_observation_space, self.inner.single_action_space
        if not isinstance(seen, gym.spaces.Box):
            raise ValueError(f"a game of one agent needs Box observations, {environment} has {seen}")
        assert isinstance(acts, gym.spaces.Discrete | gym.spaces.Box)
        low, high = (bound.reshape(-1).astype(np.float32) for bound in (seen.low, seen.high))
        if self.previous_action:
            discrete = isinstance(acts, gym.spaces.Discrete)
            shown = (np.zeros(acts.n), np.ones(acts.n)) if discrete else (np.minimum(acts.low, 0), acts.high)  # type: ignore[union-attr]
            low, high = (np.append(ends, more).astype(np.float32) for ends, more in zip((low, high), shown))
            self._last = np.zeros((num_envs, len(shown[0])), dtype=np.float32)
        space = gym.spaces.Box(low, high, dtype=np.float32)
        self._central = hasattr(self.inner, "central_state")
        state_space = self.inner.central_space if self._central else space  # type: ignore[attr-defined]
        super().__init__(
            num_envs, 1, space, acts, state_space, time_limit=self.inner.time_limit, horizon=self.inner.horizon,
            render_mode=arguments.get("render_mode"),
        )  # fmt: skip

    @classmethod
    def named(cls, name: str, num_envs: int, **arguments: Any) -> "SoloGame":
        """``"Solo/CA14/GridWorld-v0"`` and so on; keyword arguments are those of the constructor."""
        return cls(num_envs, name.partition("/")[2], **arguments)

    def spawn(self, num_envs: int) -> "SoloGame":
        return type(self)(num_envs, self.environment, previous_action=self.previous_action, **self.arguments)

    def _restart(self, count: int, options: dict[str, Any] | None) -> Any:
        self.inner._np_random = self.np_random  # one generator: a seed fixes what the environment draws
        return self.inner._restart(count, options)

    def _place(self, where: NDArray[np.intp] | slice, states: Any) -> None:
        self.inner._started = True
        self.inner._elapsed[where] = 0
        self.inner._place(where, states)
        if self.previous_action:
            self._last[where] = 0.0

    def advance(self, action: NDArray) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
        """One step of all copies without automatic reset; the environment itself truncates."""
        alone = action[:, 0]
        reward, terminated, truncated = self.inner.advance(alone)
        self._elapsed += 1
        if self.previous_action:
            if isinstance(self.agent_action_space, gym.spaces.Discrete):
                self._last = np.eye(self._last.shape[1], dtype=np.float32)[alone]
            else:
                self._last = alone.astype(np.float32)
        return reward[:, None], terminated, truncated

    def _observe(self) -> NDArray[np.float32]:
        rows = self.inner._observe().reshape(self.num_envs, -1).astype(np.float32, copy=False)
        return (np.concatenate([rows, self._last], axis=1) if self.previous_action else rows.copy())[:, None]

    def _state(self) -> NDArray[np.float32]:
        return self.inner.central_state() if self._central else self._observe()[:, 0]  # type: ignore[attr-defined]

    def _report(self) -> dict[str, Any]:
        return self.inner._information()

    def _frame(self, index: int) -> NDArray[np.uint8]:
        return self.inner._frame(index)


def _inner(environment: str, num_envs: int, arguments: dict[str, Any]) -> BatchedEnvironment:
    if environment not in gym.registry:
        raise ValueError(f"unknown environment id {environment!r}; a game of one agent is named Solo/CA14/GridWorld-v0")
    if gym.spec(environment).vector_entry_point is not None:
        made = gym.make_vec(environment, num_envs=num_envs, **arguments)
        if isinstance(made.unwrapped, BatchedEnvironment):
            return made.unwrapped
    raise ValueError(f"a game of one agent needs a batched environment of the course, {environment} is none")
