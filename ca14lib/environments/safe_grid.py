"""SafeGrid: reach the goal, pay for hazards and borders; three layouts. Book: safe/environments."""

from dataclasses import dataclass, replace
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from ca14lib.environments.batched import SingleEnvironment
from ca14lib.environments.grid import Cell, GridEnvironment, grid_picture
from ca14lib.environments.tabular import uniform_policy
from ca14lib.environments.tabular_model import TabularModel

HAZARD, BORDER = (213, 94, 0), (253, 219, 180)


@dataclass(frozen=True)
class SafeGridLayout:
    """Where things are and what they cost. Costs are paid for the cell that a step enters."""

    size: int
    hazards: tuple[Cell, ...]
    goal: Cell
    start: Cell = (0, 0)
    hazard_cost: float = 1.0
    border_cost: float = 0.0
    step_reward: float = -0.1
    goal_reward: float = 10.0
    slip: float = 0.0  # probability that a uniformly random move replaces the chosen one
    horizon: int = 50


SAFE_GRID_LAYOUTS: dict[str, SafeGridLayout] = {
    # the layout of the original notebook
    "original": SafeGridLayout(6, ((2, 2), (3, 1), (1, 3), (4, 3)), goal=(5, 5), border_cost=0.1),
    # two barriers, each crossed at the price of a hazard or through its gap: corners at cost 0, 1 and 2
    "bridges": SafeGridLayout(
        7,
        (*((2, y) for y in range(6)), *((4, y) for y in range(7) if y != 2)),
        start=(0, 3),
        goal=(6, 3),
        step_reward=-0.5,
    ),
    # a slippery shore: the nearer the path keeps to the hazards, the shorter and the dearer it is
    "shore": SafeGridLayout(
        6, ((1, 0), (2, 0), (3, 0), (4, 0), (2, 1), (3, 1)), goal=(5, 0), step_reward=-0.5, slip=0.2
    ),
}


class SafeGridVector(GridEnvironment):
    """``CA14/SafeGrid-v0``, batched: from the start to the goal at a limited expected cost.

    Every step pays ``step_reward``, the step that enters the goal ``goal_reward`` instead. ``info["cost"]``, shape
    ``[N]``, is the cost of the cell entered: of a hazard, of a border cell, or of both. The horizon is part of the
    task: the observation is ``[x, y, share of the horizon left]``, and running out of time is ``terminated``.

    In the layout ``original`` the least cost of an episode is 0.1 and the least cost of one that arrives is 0.6.

    Args:
        num_envs: Number of copies.
        layout: ``"original"``, ``"bridges"``, ``"shore"``, or a :class:`SafeGridLayout`.
        horizon: Steps of the task, or None for the layout's.
        restarts: Share of the copies, the last ones, whose episodes begin in a random cell at a random time: a restart
            distribution for learning (Kakade and Langford, 2002). ``info["restarted"]``, ``[N]``, tells them apart, and
            their episodes are in no mean or count of episodes.
        one_hot: Show the cell as one-hot vector instead of its coordinates, ``[one-hot cell, share left]``: what a
            learner finds out about one cell then says nothing about the next.
        render_mode: ``"rgb_array"`` or None.

    Raises:
        ValueError: If the layout is unknown, a cell lies outside the grid, or a cost or probability is out of range.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        layout: str | SafeGridLayout = "original",
        horizon: int | None = None,
        restarts: float = 0.0,
        one_hot: bool = False,
        render_mode: str | None = None,
    ) -> None:
        if isinstance(layout, str):
            if layout not in SAFE_GRID_LAYOUTS:
                raise ValueError(f"unknown layout {layout!r}; there are {', '.join(SAFE_GRID_LAYOUTS)}")
            layout = SAFE_GRID_LAYOUTS[layout]
        if horizon is not None:
            layout = replace(layout, horizon=horizon)
        for cell in layout.hazards:
            if not (0 <= cell[0] < layout.size and 0 <= cell[1] < layout.size):
                raise ValueError(f"hazards must lie on the {layout.size} × {layout.size} grid, got {tuple(cell)}")
        if not 0.0 <= layout.slip < 1.0:
            raise ValueError(f"slip must lie in [0, 1), got {layout.slip}")
        if not (0.0 <= layout.hazard_cost < np.inf and 0.0 <= layout.border_cost < np.inf):
            raise ValueError(
                f"costs must be finite and not negative, got {layout.hazard_cost} and {layout.border_cost}"
            )
        self.layout = layout
        super().__init__(
            num_envs,
            width=layout.size,
            height=layout.size,
            start=layout.start,
            goal=layout.goal,
            step_reward=layout.step_reward,
            goal_reward=layout.goal_reward,
            time_limit=None,
            horizon=layout.horizon,
            render_mode=render_mode,
        )
        x, y = np.divmod(np.arange(layout.size**2), layout.size)
        last = layout.size - 1
        border = (x == 0) | (x == last) | (y == 0) | (y == last)
        self.hazard = np.isin(np.arange(layout.size**2), [self.cell_index(cell) for cell in layout.hazards])
        self.cell_cost = layout.hazard_cost * self.hazard + layout.border_cost * border
        self._entry_cost = np.zeros(num_envs)
        if not 0.0 <= restarts < 1.0:
            raise ValueError(f"restarts must lie in [0, 1), got {restarts}")
        self.restarts = restarts
        self._restarted = np.arange(num_envs) >= num_envs - int(restarts * num_envs)
        self.one_hot = bool(one_hot)
        if self.one_hot:
            self._shown = np.eye(layout.size**2, dtype=np.float32)
            self.single_observation_space = gym.spaces.Box(0.0, 1.0, (layout.size**2 + 1,), np.float32)
            self.observation_space = gym.vector.utils.batch_space(self.single_observation_space, num_envs)

    def spawn(self, num_envs: int) -> "SafeGridVector":
        return type(self)(num_envs, layout=self.layout, restarts=self.restarts, one_hot=self.one_hot)

    def behaviours(self) -> dict[str, NDArray[np.float64]]:
        """``random``, uniform."""
        return {"random": uniform_policy(self.tabular_model())}

    def tabular_model(self) -> TabularModel:
        """The exact model with one cost, horizon included; ``cost[0, s, a]`` is that of the cell entered."""
        model = super().tabular_model()
        slip = self.layout.slip
        transition = (1 - slip) * model.transition + slip * model.transition.mean(axis=1, keepdims=True)
        arrives = transition[:, :, self._goal_cell]
        return replace(
            model,
            observation=self._shown if self.one_hot else model.observation,
            transition=transition,
            reward=arrives * self.goal_reward + (1 - arrives) * self.step_reward
            if slip == 0.0
            else np.broadcast_to(np.where(model.terminal, self.goal_reward, self.step_reward), transition.shape),
            cost=(transition @ self.cell_cost)[None]
            if slip == 0.0
            else np.broadcast_to(self.cell_cost, (1, *transition.shape)),
        )

    def state_index(self, observation: NDArray) -> NDArray[np.intp]:
        if not self.one_hot:
            return super().state_index(observation)
        shown = np.asarray(observation)[..., :-1]
        if shown.shape[-1] != len(self._shown) or not ((shown == 1).sum(axis=-1) == 1).all():
            raise ValueError(f"observations must hold a one-hot cell of {len(self._shown)}, got {observation}")
        return shown.argmax(axis=-1)

    def _observe(self) -> NDArray[np.float32]:
        if not self.one_hot:
            return super()._observe()
        return np.column_stack([self._shown.take(self._cell, axis=0), self._remaining()])

    def _place(self, where: NDArray[np.intp] | slice, states: NDArray[np.intp] | int) -> None:
        super()._place(where, states)
        self._entry_cost[where] = 0.0
        if self._restarted.any():
            copies = np.arange(self.num_envs)[where]
            copies = copies[self._restarted[copies]]
            cells = np.flatnonzero(np.arange(self.layout.size**2) != self._goal_cell)
            self._cell[copies] = self.np_random.choice(cells, size=copies.size)
            self._elapsed[copies] = self.np_random.integers(self.layout.horizon, size=copies.size)

    def _transition(self, action: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        if self.layout.slip:
            slips = self.np_random.random(self.num_envs) < self.layout.slip
            action = np.where(slips, self.np_random.integers(4, size=self.num_envs), action)
        reward, terminated = super()._transition(action)
        self._entry_cost = self.cell_cost.take(self._cell)
        return reward, terminated

    def _information(self) -> dict[str, Any]:
        info = {"cost": self._entry_cost.copy()}
        return info | {"restarted": self._restarted.copy()} if self.restarts else info

    def _frame(self, index: int) -> NDArray[np.uint8]:
        x, y = divmod(int(self._cell[index]), self.height)
        fills = {
            divmod(int(cell), self.height): HAZARD if self.hazard[cell] else BORDER
            for cell in np.flatnonzero(self.cell_cost)
        }
        return grid_picture(self.width, self.height, fills | {self.goal: (0, 158, 115)}, agent=(x, y))


class SafeGrid(SingleEnvironment):
    """``CA14/SafeGrid-v0``; takes the arguments of :class:`SafeGridVector` but ``num_envs``."""

    def __init__(self, **parameters: Any) -> None:
        super().__init__(SafeGridVector(1, **parameters))
