"""Any finite problem as an environment: simulation straight from a :class:`TabularModel`."""

import functools
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from ca14lib.environments.batched import BatchedEnvironment
from ca14lib.environments.tabular_model import TabularModel


class CategoricalRows:
    """Draws from many categorical distributions at once.

    All rows' cumulative probabilities lie in one sorted array, row ``i`` in ``(i, i + 1]``, so that one binary
    search per draw finds the outcome; outcomes of probability 0 are left out.

    Args:
        probability: One distribution per row, shape ``[R, n]``.
    """

    def __init__(self, probability: NDArray[np.float64]) -> None:
        row, self._outcome = np.nonzero(probability)
        cumulative = np.cumsum(probability, axis=1)[row, self._outcome]
        last = np.append(row[1:] != row[:-1], True)
        cumulative[last] = 1.0
        self._edge = row + cumulative
        self._last = np.flatnonzero(last)  # of every row: rounding in row + u must not leak into the next row

    def draw(self, row: NDArray[np.intp], generator: np.random.Generator) -> NDArray[np.intp]:
        """One outcome for each entry of ``row``."""
        found = np.searchsorted(self._edge, row + generator.random(row.shape), side="right")
        return self._outcome[np.minimum(found, self._last[row])]


@functools.lru_cache(maxsize=16)
def _samplers(model: TabularModel) -> tuple[CategoricalRows, CategoricalRows]:
    """Successors by row ``state * A + action``, and first states; made once per model, however often it is spawned."""
    return CategoricalRows(model.transition.reshape(-1, model.num_states)), CategoricalRows(model.initial[None])


class TabularEnvironment(BatchedEnvironment):
    """Simulates a tabular model, its horizon included: a horizon ends the episode (``terminated``).

    ``info["cost"]``, if the model has costs, is ``[N]`` for one cost function and ``[N, K]`` for several.

    Args:
        model: The problem. Its observations are integers (then the space is ``Discrete``) or vectors (``Box``); where
            the agent sees the remaining time, they are vectors, as :meth:`TabularModel.timed_observation` has them.
        num_envs: Number of copies.
        time_limit: Artificial limit; None for none.
        render_mode: None; a subclass with a picture allows more.
    """

    def __init__(
        self, model: TabularModel, num_envs: int = 1, *, time_limit: int | None = None, render_mode: str | None = None
    ) -> None:
        observation = model.observation
        space: gym.Space
        if observation.ndim == 1 and observation.dtype.kind in "iu" and not model.observes_time:
            space = gym.spaces.Discrete(int(observation.max()) + 1)
            observation = observation.astype(np.int64)
        else:
            observation = observation.reshape(model.num_states, -1).astype(np.float32)
            low, high = observation.min(axis=0), observation.max(axis=0)
            if model.observes_time:
                low, high = np.append(low, np.float32(0)), np.append(high, np.float32(1))
            space = gym.spaces.Box(low, np.where(high > low, high, low + 1), dtype=np.float32)
        super().__init__(
            num_envs,
            space,
            gym.spaces.Discrete(model.num_actions),
            time_limit=time_limit,
            horizon=model.horizon,
            render_mode=render_mode,
        )
        self.model = model
        self._observation_table = observation
        self._shows_state = observation.ndim == 1 and np.array_equal(observation, np.arange(model.num_states))
        states, actions = model.num_states, model.num_actions
        self._successors, self._initial = _samplers(model)
        self._rewards = np.broadcast_to(
            model.reward if model.reward.ndim == 3 else model.reward[..., None], (states, actions, states)
        )
        self._costs = np.broadcast_to(
            model.cost if model.cost.ndim == 4 else model.cost[..., None], (model.num_costs, states, actions, states)
        )
        self._state = np.zeros(num_envs, dtype=np.intp)
        self._cost = np.zeros((num_envs, model.num_costs))

    def spawn(self, num_envs: int) -> "TabularEnvironment":
        return type(self)(self.model, num_envs, time_limit=self.time_limit)

    def tabular_model(self) -> TabularModel:
        return self.model

    def behaviours(self) -> dict[str, NDArray[np.float64]]:
        return {"random": uniform_policy(self.model)}

    def state_index(self, observation: NDArray) -> NDArray[np.intp]:
        if self._shows_state:
            state = np.asarray(observation)
            if state.dtype.kind not in "iu" or (
                state.size and (state.min() < 0 or state.max() >= self.model.num_states)
            ):
                raise ValueError(f"observations must be states in 0…{self.model.num_states - 1}, got {observation}")
            return state.astype(np.intp)
        if self.model.observes_time:
            observation = np.asarray(observation)[..., :-1]
        return row_index(self._observation_table, observation)

    def _restart(self, count: int, options: dict[str, Any] | None) -> NDArray[np.intp]:
        return self._initial.draw(np.zeros(count, dtype=np.intp), self.np_random)

    def _place(self, where: NDArray[np.intp] | slice, states: NDArray[np.intp]) -> None:
        self._state[where] = states
        self._cost[where] = 0.0

    def _transition(self, action: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        state = self._state
        successor = self._successors.draw(state * self.model.num_actions + action, self.np_random)
        reward = self._rewards[state, action, successor]
        if self.model.num_costs:
            self._cost = self._costs[:, state, action, successor].T
        self._state = successor
        return reward, self.model.terminal[successor]

    def _observe(self) -> NDArray:
        shown = self._observation_table[self._state]
        return np.column_stack([shown, self._remaining()]) if self.model.observes_time else shown

    def _information(self) -> dict[str, Any]:
        if not self.model.num_costs:
            return {}
        return {"cost": self._cost[:, 0].copy() if self.model.num_costs == 1 else self._cost.copy()}


def uniform_policy(model: TabularModel) -> NDArray[np.float64]:
    """The policy that takes every allowed action with the same probability, shape ``[S, A]``."""
    allowed = np.ones((model.num_states, model.num_actions)) if model.action_mask is None else model.action_mask
    return allowed / allowed.sum(axis=1, keepdims=True)


def row_index(table: NDArray, observation: NDArray) -> NDArray[np.intp]:
    """Index of the first row of ``table [S, …]`` that equals each ``observation [N, …]``, shape ``[N]``.

    Raises:
        ValueError: If an observation is not in the table or of another shape.
    """
    observation = np.asarray(observation)
    if observation.shape[1:] != np.shape(table)[1:]:
        raise ValueError(f"observations must have shape [N, *{np.shape(table)[1:]}], got {observation.shape}")
    # compared in the observations' precision: float32 data still find a table in float64
    flat = np.asarray(table).reshape(len(table), -1)
    if flat.dtype.kind == observation.dtype.kind == "f":
        flat = flat.astype(observation.dtype)
    rows, inverse = np.unique(observation.reshape(-1, flat.shape[1]), axis=0, return_inverse=True)
    known: dict[tuple, int] = {}
    for index, row in enumerate(flat.tolist()):
        known.setdefault(tuple(row), index)
    unknown = [row for row in rows.tolist() if tuple(row) not in known]
    if unknown:
        raise ValueError(f"observation {unknown[0]} belongs to no state of this environment")
    return np.array([known[tuple(row)] for row in rows.tolist()], dtype=np.intp)[inverse.reshape(-1)]
