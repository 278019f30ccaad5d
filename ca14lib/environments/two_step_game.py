"""The two-step game of the QMIX paper (Rashid et al., 2018): the better second game looks worse to a sum of values.

Book: multi_agent/games.
"""

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from ca14lib.environments.matrix_games import action_picture
from ca14lib.environments.multi_agent import MultiAgentEnvironment

SAFE_PAYOFF = np.full((2, 2), 7.0)
RISKY_PAYOFF = np.array([[0.0, 1.0], [1.0, 8.0]])


class TwoStepGame(MultiAgentEnvironment):
    """Two agents, two steps, two actions. The first agent's first action chooses the payoff table of the second step.

    Action 0 leads to a table that pays 7 whatever the agents do, action 1 to ``[[0, 1], [1, 8]]``; the first step pays
    nothing, and what the second agent does in it has no effect. The payoff is the team's: each agent receives half.
    The best return of the team is 8. A sum of two values fitted to uniformly drawn actions predicts at most 6.5 for
    the second table (book eq. additive-fit), so that whoever trusts it settles for 7.

    Observation, equal for both agents and equal to the state, float32: one-hot vector of (first step, table of sevens,
    other table), zeros when the game is over. The two steps are the task: the second is ``terminated``.

    Args:
        num_envs: Number of copies.
        render_mode: ``"rgb_array"`` or None.
    """

    optimum = 8.0  # largest return of the team

    def __init__(self, num_envs: int = 1, *, render_mode: str | None = None) -> None:
        space = gym.spaces.Box(0.0, 1.0, (3,), np.float32)
        super().__init__(
            num_envs, 2, space, gym.spaces.Discrete(2), gym.spaces.Box(0.0, 1.0, (3,), np.float32),
            time_limit=None, horizon=2, render_mode=render_mode,
        )  # fmt: skip
        self._payoffs = np.stack([SAFE_PAYOFF, RISKY_PAYOFF])
        self._shown = np.vstack([np.eye(3, dtype=np.float32), np.zeros((1, 3), dtype=np.float32)])
        self._where = np.zeros(num_envs, dtype=np.intp)  # 0 first step, 1 and 2 the tables, 3 over
        self._last = np.full((num_envs, 2), -1, dtype=np.int64)

    def spawn(self, num_envs: int) -> "TwoStepGame":
        return type(self)(num_envs)

    def _restart(self, count: int, options: dict[str, Any] | None) -> None:
        return None

    def _place(self, where: NDArray[np.intp] | slice, states: Any) -> None:
        self._where[where] = 0
        self._last[where] = -1

    def _transition(self, action: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        second = self._where > 0
        # a step after the end, which only advance() without a reset could take, pays nothing
        table = np.clip(self._where - 1, 0, 1)
        payoff = np.where(second & (self._where < 3), self._payoffs[table, action[:, 0], action[:, 1]], 0.0)
        self._where = np.where(second, 3, 1 + action[:, 0])
        self._last = action.copy()
        return np.repeat(payoff[:, None] / 2, 2, axis=1), second.copy()

    def _observe(self) -> NDArray[np.float32]:
        return np.repeat(self._shown[self._where][:, None], 2, axis=1)

    def _state(self) -> NDArray[np.float32]:
        return self._shown[self._where]

    def _frame(self, index: int) -> NDArray[np.uint8]:
        return action_picture(self._last[index], 2)
