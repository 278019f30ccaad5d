"""The shared core of all gridworlds: cells, moves and pictures, batched.

A cell ``(x, y)`` of a ``width`` × ``height`` grid has the index ``x * height + y``; ``y`` points up. Moves come from a
table ``[A, S]`` of successors, so that stepping thousands of copies is a handful of array look-ups.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from ca14lib.environments.batched import BatchedEnvironment
from ca14lib.environments.tabular_model import TabularModel

UP, DOWN, LEFT, RIGHT = range(4)
ACTION_NAMES = ("up", "down", "left", "right")
DISPLACEMENT = np.array([(0, 1), (0, -1), (-1, 0), (1, 0)])  # of (x, y), by action

TILE = 40  # pixels a cell
BACKGROUND, LINE, GOAL, AGENT, WALL = (250, 250, 250), (190, 190, 190), (0, 158, 115), (0, 114, 178), (70, 70, 70)

Cell = tuple[int, int]


def successor_table(width: int, height: int, walls: Iterable[Cell] = ()) -> NDArray[np.intp]:
    """Cell reached from every cell by every move, shape ``[4, width * height]``.

    A move off the grid or into a wall leaves the agent where it is.
    """
    x, y = np.divmod(np.arange(width * height), height)
    blocked = np.zeros(width * height, dtype=bool)
    blocked[[wall_x * height + wall_y for wall_x, wall_y in walls]] = True
    table = np.empty((4, width * height), dtype=np.intp)
    for action, (dx, dy) in enumerate(DISPLACEMENT):
        target = np.clip(x + dx, 0, width - 1) * height + np.clip(y + dy, 0, height - 1)
        table[action] = np.where(blocked[target], np.arange(width * height), target)
    return table


class GridEnvironment(BatchedEnvironment):
    """A grid with one start, one goal that ends the episode, and four moves.

    The observation is the cell ``[x, y]`` as float32. Subclasses add costs, noise or further agents.

    Args:
        num_envs: Number of copies.
        width: Number of columns.
        height: Number of rows.
        start: First cell of every episode.
        goal: Cell whose entry ends the episode.
        step_reward: Reward of a step that does not enter the goal.
        goal_reward: Reward of the step that does, instead of ``step_reward``.
        walls: Cells that cannot be entered.
        time_limit: Artificial limit, or None.
        horizon: Steps after which the task is over, or None; with one the observation is ``[x, y, share left]``.
        render_mode: ``"rgb_array"`` or None.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        width: int,
        height: int,
        start: Cell,
        goal: Cell,
        step_reward: float,
        goal_reward: float,
        walls: Sequence[Cell] = (),
        time_limit: int | None,
        horizon: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        if width < 1 or height < 1 or width * height < 2:
            raise ValueError(f"a grid needs at least two cells, got {width} × {height}")
        for name, cell in (("start", start), ("goal", goal), *(("walls", wall) for wall in walls)):
            if not (0 <= cell[0] < width and 0 <= cell[1] < height):
                raise ValueError(f"{name} must lie on the {width} × {height} grid, got {tuple(cell)}")
        if tuple(start) == tuple(goal) or {tuple(start), tuple(goal)} & {tuple(wall) for wall in walls}:
            raise ValueError(f"start {tuple(start)}, goal {tuple(goal)} and walls must be different cells")
        high = [width - 1, height - 1] if horizon is None else [width - 1, height - 1, 1]
        space = gym.spaces.Box(np.zeros(len(high), np.float32), np.array(high, np.float32), dtype=np.float32)
        super().__init__(
            num_envs, space, gym.spaces.Discrete(4), time_limit=time_limit, horizon=horizon, render_mode=render_mode
        )
        self.width, self.height, self.start, self.goal, self.walls = width, height, start, goal, list(walls)
        self.step_reward, self.goal_reward = float(step_reward), float(goal_reward)
        self._start_cell, self._goal_cell = self.cell_index(start), self.cell_index(goal)
        self._successor = successor_table(width, height, walls).reshape(-1)
        self._observation_table = np.stack(np.divmod(np.arange(width * height), height), axis=1).astype(np.float32)
        # one 8-byte item per cell: gathering rows of [x, y] in one go is several times faster than in two columns
        self._packed_observation = self._observation_table.view(np.int64).reshape(-1)
        self._cell = np.full(num_envs, self._start_cell, dtype=np.intp)

    def cell_index(self, cell: Cell) -> int:
        """State index of a cell ``(x, y)``."""
        return cell[0] * self.height + cell[1]

    def tabular_model(self) -> TabularModel:
        cells = self.width * self.height
        successor = self._successor.reshape(4, cells).T
        transition = np.zeros((cells, 4, cells))
        np.put_along_axis(transition, successor[..., None], 1.0, axis=2)
        terminal = np.arange(cells) == self._goal_cell
        return TabularModel(
            transition=transition,
            reward=np.where(terminal[successor], self.goal_reward, self.step_reward),
            terminal=terminal,
            initial=np.eye(cells)[self._start_cell],
            observation=self._observation_table,
            horizon=self.horizon,
            observes_time=self.horizon is not None,
        )

    def state_index(self, observation: NDArray) -> NDArray[np.intp]:
        cell = np.asarray(observation)
        if self.horizon is not None:
            cell = cell[..., :2]
        index = cell.reshape(-1, 2).astype(np.intp)
        inside = (
            (cell.reshape(-1, 2) == index).all(1) & (index >= 0).all(1) & (index < (self.width, self.height)).all(1)
        )
        if not inside.all():
            raise ValueError(f"observation {cell.reshape(-1, 2)[~inside][0]} is no cell of this grid")
        return index[:, 0] * self.height + index[:, 1]

    def _restart(self, count: int, options: dict[str, Any] | None) -> int:
        return self._start_cell

    def _place(self, where: NDArray[np.intp] | slice, states: NDArray[np.intp] | int) -> None:
        self._cell[where] = states

    def _transition(self, action: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        self._cell = self._successor.take(action * (self.width * self.height) + self._cell)
        terminated = self._cell == self._goal_cell
        return np.where(terminated, self.goal_reward, self.step_reward), terminated

    def _observe(self) -> NDArray[np.float32]:
        cell = self._packed_observation.take(self._cell).view(np.float32).reshape(self.num_envs, 2)
        return cell if self.horizon is None else np.column_stack([cell, self._remaining()])

    def _frame(self, index: int) -> NDArray[np.uint8]:
        x, y = divmod(int(self._cell[index]), self.height)
        fills = {self.goal: GOAL} | dict.fromkeys(self.walls, WALL)
        return grid_picture(self.width, self.height, fills, agent=(x, y))


def grid_picture(
    width: int, height: int, fills: dict[Cell, tuple[int, int, int]], agent: Cell | None = None
) -> NDArray[np.uint8]:
    """Draw a grid with coloured cells and the agent as a disc; ``y`` points up.

    Returns:
        RGB array ``[height * TILE + 1, width * TILE + 1, 3]``.
    """
    picture = np.full((height * TILE + 1, width * TILE + 1, 3), BACKGROUND, dtype=np.uint8)
    for (x, y), colour in fills.items():
        top = (height - 1 - y) * TILE
        picture[top : top + TILE, x * TILE : (x + 1) * TILE] = colour
    picture[::TILE] = LINE
    picture[:, ::TILE] = LINE
    if agent is not None:
        top, left = (height - 1 - agent[1]) * TILE, agent[0] * TILE
        offset = np.arange(TILE) - (TILE - 1) / 2
        disc = offset[:, None] ** 2 + offset**2 <= (0.3 * TILE) ** 2
        picture[top : top + TILE, left : left + TILE][disc] = AGENT
    return picture
