"""DeepSea: a treasure that only N right moves in a row reach (Osband et al., 2018). Book: robust/bayesian."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ca14lib.environments.batched import SingleEnvironment, require_integer
from ca14lib.environments.grid import GOAL, grid_picture
from ca14lib.environments.tabular import TabularEnvironment
from ca14lib.environments.tabular_model import TabularModel

MOVE_COST = 0.01  # of a whole way to the right


def deep_sea_model(size: int = 10, layout_seed: int = 0) -> TabularModel:
    """The dive as a model: ``[size² + 1, 2, size² + 1]`` transitions, state ``size·row + column``, the last terminal.

    Every step goes down a row, and one column to the left or right, no further than the edge. Moving right costs
    ``0.01 / size``; in the lower right corner it pays 1. Which of the two actions moves right is drawn for every state,
    so that nothing learned in one state tells it in another. An episode takes ``size`` steps, the best return is 0.99,
    and a uniform policy finds the treasure once in ``2 ** size`` episodes.

    Args:
        size: Rows and columns, at least 2.
        layout_seed: Fixes which action moves right.
    """
    require_integer("size", size, 2)
    require_integer("layout_seed", layout_seed, 0)
    right = right_actions(size, layout_seed)
    states, end = size * size + 1, size * size
    transition, reward = np.zeros((states, 2, states)), np.zeros((states, 2))
    for row in range(size):
        for column in range(size):
            state = size * row + column
            for action in range(2):
                goes_right = action == right[row, column]
                beside = min(column + 1, size - 1) if goes_right else max(column - 1, 0)
                transition[state, action, end if row == size - 1 else size * (row + 1) + beside] = 1.0
                reward[state, action] = -MOVE_COST / size if goes_right else 0.0
            if row == column == size - 1:
                reward[state, right[row, column]] += 1.0
    transition[end, :, end] = 1.0
    return TabularModel(transition=transition, reward=reward, terminal=np.arange(states) == end)


def right_actions(size: int, layout_seed: int) -> NDArray[np.int64]:
    """The action that moves right in every cell, ``[size, size]``."""
    return np.random.default_rng(layout_seed).integers(2, size=(size, size))


class DeepSeaVector(TabularEnvironment):
    """``CA14/DeepSea-v0``, batched: observation is the state's index. The episode's end is terminal, not a limit.

    Args:
        num_envs: Number of copies.
        size: Rows and columns, and the length of an episode; at least 2.
        layout_seed: Fixes which action moves right in which state.
        render_mode: ``"rgb_array"`` or None.
    """

    def __init__(
        self, num_envs: int = 1, *, size: int = 10, layout_seed: int = 0, render_mode: str | None = None
    ) -> None:
        super().__init__(deep_sea_model(size, layout_seed), num_envs, time_limit=None, render_mode=render_mode)
        self.size, self.layout_seed = size, layout_seed

    def spawn(self, num_envs: int) -> "DeepSeaVector":
        return type(self)(num_envs, size=self.size, layout_seed=self.layout_seed)

    def behaviours(self) -> dict[str, NDArray[np.float64]]:
        """``right`` always moves right, which is optimal; ``random`` is uniform."""
        right = np.append(right_actions(self.size, self.layout_seed), 0)
        return {"right": np.eye(2)[right]} | super().behaviours()

    def _frame(self, index: int) -> NDArray[np.uint8]:
        state = int(self._state[index])
        row, column = divmod(state, self.size) if state < self.size**2 else (self.size - 1, self.size - 1)
        # rows are counted from the top, the picture's from the bottom
        return grid_picture(self.size, self.size, {(self.size - 1, 0): GOAL}, agent=(column, self.size - 1 - row))


class DeepSea(SingleEnvironment):
    """``CA14/DeepSea-v0``; takes the arguments of :class:`DeepSeaVector` but ``num_envs``."""

    def __init__(self, **parameters: Any) -> None:
        super().__init__(DeepSeaVector(1, **parameters))
