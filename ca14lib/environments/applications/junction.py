"""Junction: two vehicles that want through one cell, small enough for an exact answer. Book: evaluation/driving."""

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from ca14lib.environments.multi_agent import MultiAgentEnvironment
from ca14lib.environments.tabular_model import TabularModel

CELLS = 5  # of each way: three of approach, the shared one, and beyond it
LINE, SHARED, BEYOND = 2, 3, 4
CRASHED = CELLS * SHARED + SHARED  # the number of the state in which both are in the shared cell
WAIT, GO = 0, 1


class Junction(MultiAgentEnvironment):
    """Two vehicles on crossing ways; both in the shared cell is a crash.

    * State: a position from 0 to 4 for each, 25 in all. Cell 2 is the line, 3 is shared, 4 is beyond.
      Starts: both uniform over the cells 0 to 2, independently.
    * Actions: 0 wait, 1 go. Who goes moves on one cell, except with probability ``slip``.
    * Reward of each vehicle: −1 for every step after which it is not beyond, and minus ``crash_price`` for a crash,
      which ends the episode; so do both beyond, and the horizon of 12 steps, which is part of the task.
    * ``info["cost"]``, ``[N]``: 1 for a crash.
    * Observation ``[11]``, float32: one-hot own position, one-hot position of the other, and the share of the horizon
      that is left. Houses hide the other: it is shown only if both have reached the line. State ``[11]``: both
      positions and that share.
    * ``info["action_mask"]``: all actions, or with ``right_of_way`` those of :func:`allowed`.

    Args:
        num_envs: Number of copies.
        slip: Probability in [0, 1) that a vehicle that goes does not move.
        crash_price: At least 0, for each vehicle.
        right_of_way: Forbid to enter what may be occupied; see :func:`allowed`.
        render_mode: Must be None.
    """

    metadata = MultiAgentEnvironment.metadata | {"render_modes": []}

    def __init__(
        self,
        num_envs: int = 1,
        *,
        slip: float = 0.1,
        crash_price: float = 10.0,
        right_of_way: bool = False,
        render_mode: str | None = None,
    ) -> None:
        if not 0.0 <= slip < 1.0:
            raise ValueError(f"slip must lie in [0, 1), got {slip}")
        if not (crash_price >= 0 and np.isfinite(crash_price)):
            raise ValueError(f"crash_price must be at least 0 and finite, got {crash_price}")
        space = gym.spaces.Box(0.0, 1.0, (2 * CELLS + 1,), np.float32)
        super().__init__(
            num_envs, 2, space, gym.spaces.Discrete(2), space, time_limit=None, horizon=12, render_mode=render_mode
        )
        self.slip, self.crash_price, self.right_of_way = float(slip), float(crash_price), bool(right_of_way)
        self._position = np.zeros((num_envs, 2), dtype=np.intp)
        self._cost = np.zeros(num_envs)

    def spawn(self, num_envs: int) -> "Junction":
        return type(self)(
            num_envs, slip=self.slip, crash_price=self.crash_price, right_of_way=self.right_of_way
        )  # fmt: skip

    def _restart(self, count: int, options: dict[str, Any] | None) -> NDArray[np.intp]:
        return self.np_random.integers(SHARED, size=(count, 2))

    def _place(self, where: NDArray[np.intp] | slice, states: NDArray[np.intp]) -> None:
        self._position[where] = states
        self._cost[where] = 0.0

    def _transition(self, action: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        holds = self.np_random.random(action.shape) >= self.slip
        self._position = np.minimum(self._position + action * holds, BEYOND)
        first, second = self._position.T
        self._cost = ((first == SHARED) & (second == SHARED)).astype(np.float64)
        reward = -(self._position != BEYOND).astype(np.float64) - self.crash_price * self._cost[:, None]
        return reward, (self._cost > 0) | ((first == BEYOND) & (second == BEYOND))

    def _observe(self) -> NDArray[np.float32]:
        left = self._remaining()
        return np.stack([observed(self._position[:, [k, 1 - k]], left) for k in range(2)], axis=1)

    def _state(self) -> NDArray[np.float32]:
        shown = np.eye(CELLS, dtype=np.float32)[self._position].reshape(self.num_envs, -1)
        return np.concatenate([shown, self._remaining()[:, None]], axis=1)

    def _report(self) -> dict[str, Any]:
        mask = allowed(self._position) if self.right_of_way else np.ones((self.num_envs, 2, 2), dtype=np.bool_)
        return {"cost": self._cost.copy(), "action_mask": mask}


def observed(position: NDArray[np.integer], left: NDArray[np.floating]) -> NDArray[np.float32]:
    """What a vehicle sees, ``[N, 11]``, of positions ``[N, 2]``, its own first, with a share ``[N]`` of time left."""
    shown = np.eye(CELLS, dtype=np.float32)[position]
    shown[:, 1] *= (position.min(axis=1) >= LINE).reshape(-1, 1)
    return np.concatenate([shown.reshape(len(position), -1), np.asarray(left, np.float32)[:, None]], axis=1)


def allowed(position: NDArray[np.integer]) -> NDArray[np.bool_]:
    """The actions ``[N, 2, 2]`` that the right of way leaves (book eq. driving-right-of-way).

    At the line the first vehicle may not go while the second is in the shared cell; the second may not while the first
    is at the line or in the shared cell. Waiting is always allowed.

    Args:
        position: ``[N, 2]``.
    """
    first, second = np.asarray(position).T
    mask = np.ones((len(first), 2, 2), dtype=np.bool_)
    mask[:, 0, GO] = ~((first == LINE) & (second == SHARED))
    mask[:, 1, GO] = ~((second == LINE) & ((first == LINE) | (first == SHARED)))
    return mask


def junction_model(slip: float = 0.1, crash_price: float = 10.0) -> TabularModel:
    """The exact model of the team: 25 states, 4 joint actions (``2 · first + second``), one cost, horizon 12.

    The reward is the team's, the sum over both. State ``5 · first + second``; 18 is the crash.
    """
    states = CELLS * CELLS
    transition, reward = np.zeros((states, 4, states)), np.zeros((states, 4, states))
    cost, terminal = np.zeros((1, states, 4, states)), np.zeros(states, dtype=bool)
    terminal[[CRASHED, states - 1]] = True
    transition[terminal, :, terminal] = 1.0
    for state in np.flatnonzero(~terminal):
        first, second = divmod(int(state), CELLS)
        for action in range(4):
            for moved in np.ndindex(2, 2):
                chance = 1.0
                for goes, moves in zip(divmod(action, 2), moved, strict=True):
                    chance *= (slip if moves == 0 else 1 - slip) if goes else float(moves == 0)
                after = min(first + moved[0], BEYOND), min(second + moved[1], BEYOND)
                crash = after == (SHARED, SHARED)
                following = CELLS * after[0] + after[1]
                transition[state, action, following] += chance
                reward[state, action, following] = -sum(p != BEYOND for p in after) - 2 * crash_price * crash
                cost[0, state, action, following] = float(crash)
    initial = np.zeros(states)
    initial[[CELLS * i + j for i in range(SHARED) for j in range(SHARED)]] = 1 / SHARED**2
    positions = np.array([*np.ndindex(CELLS, CELLS)])
    shown = np.eye(CELLS)[positions].reshape(states, -1)
    return TabularModel(transition, reward, cost, terminal, initial, observation=shown, horizon=12, observes_time=True)
