"""SafeCliff: a windy ledge or a long way round; what is best on average is bad in the tail. Book: safe/environments."""

from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from ca14lib.environments.batched import SingleEnvironment, require_integer
from ca14lib.environments.grid import DOWN, GOAL, LEFT, RIGHT, UP, WALL, Cell, GridEnvironment, grid_picture
from ca14lib.environments.tabular import uniform_policy
from ca14lib.environments.tabular_model import TabularModel

RAVINE = (86, 180, 233)
BUDGET_UNIT = 10.0  # what the observed budget is divided by


class SafeCliffVector(GridEnvironment):
    """``CA14/SafeCliff-v0``, batched: along the ledge in 7 steps, or round the rock in 11.

    .. code-block:: text

        y = 3   .  #  .  .  .  .  .  .        S start, G goal (the episode ends), # rock,
        y = 2   .  #  .  #  #  #  #  .        ~ ravine, under the gate (1, 1) and under the ledge (3, 1) … (6, 1)
        y = 1   S  .  .  .  .  .  .  G
        y = 0   #  ~  #  ~  ~  ~  ~  #

    After the move, with probability ``wind``, a gust blows the walker one cell down (against rock it does nothing).
    Who enters the ravine has fallen: reward ``fall_reward`` instead of −1, cost 1. The fall takes no time: the next
    move starts from the rim, as if from the cell above. The step that enters the goal pays ``goal_reward``.

    Nobody gets past the gate without its risk, and everyone who leaves the platform (2, 1) at the same time looks the
    same, fallen or not. Whether to take the ledge should depend on it: a walker who has fallen is in the worst tenth of
    all walks anyway and loses least on the ledge; one who has not should go round. That needs the budget, the level
    that the return must reach minus the rewards so far (book eq. budget-state): ``observe_budget`` is its first value.

    The horizon is part of the task: the share that is left is observed, and running out of time is ``terminated``. All
    rewards are whole numbers by default, so that the possible returns are few and the best lower-tail CVaR can be
    computed exactly (book eq. cvar-budget-dp).

    Observation, float32: ``[x, y, share of the horizon left]`` and, with ``observe_budget``,
    ``(observe_budget − rewards so far) / 10``; with ``one_hot`` the cell is a one-hot vector. ``info["cost"]``, shape
    ``[N]``: 1 for a fall in this step.

    Args:
        num_envs: Number of copies.
        ledge: Number of cells of the ledge, at least 1.
        wind: Probability of a gust at each step, in [0, 1).
        fall_reward: Reward of a step into the ravine, negative.
        goal_reward: Reward of the step into the goal.
        horizon: Steps of the task.
        observe_budget: None, or the return that is aimed at: the remaining budget is observed.
        one_hot: Show the cell as one-hot vector instead of its coordinates: what a learner finds out about one cell
            then says nothing about the next.
        render_mode: ``"rgb_array"`` or None.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        ledge: int = 4,
        wind: float = 0.05,
        fall_reward: float = -10.0,
        goal_reward: float = 20.0,
        horizon: int = 25,
        observe_budget: float | None = None,
        one_hot: bool = False,
        render_mode: str | None = None,
    ) -> None:
        require_integer("ledge", ledge, 1)
        require_integer("horizon", horizon, 1)
        if not 0.0 <= wind < 1.0:
            raise ValueError(f"wind must lie in [0, 1), got {wind}")
        if not (np.isfinite(fall_reward) and fall_reward < 0.0):
            raise ValueError(f"fall_reward must be negative, got {fall_reward}")
        if not (np.isfinite(goal_reward) and goal_reward > 0.0):
            raise ValueError(f"goal_reward must be positive, got {goal_reward}")
        if observe_budget is not None and not np.isfinite(observe_budget):
            raise ValueError(f"observe_budget must be a number or None, got {observe_budget}")
        width, height = ledge + 4, 4
        ravine: list[Cell] = [(1, 0), *((3 + i, 0) for i in range(ledge))]
        rock: list[Cell] = [(1, 2), (1, 3), *((3 + i, 2) for i in range(ledge)), (0, 0), (2, 0), (width - 1, 0)]
        super().__init__(
            num_envs,
            width=width,
            height=height,
            start=(0, 1),
            goal=(width - 1, 1),
            step_reward=-1.0,
            goal_reward=goal_reward,
            walls=rock,
            time_limit=None,
            horizon=horizon,
            render_mode=render_mode,
        )
        self.ledge, self.wind, self.fall_reward = ledge, float(wind), float(fall_reward)
        self.observe_budget = None if observe_budget is None else float(observe_budget)
        cells = width * height
        self.ravine = np.isin(np.arange(cells), [self.cell_index(cell) for cell in ravine])
        self._rock = np.isin(np.arange(cells), [self.cell_index(cell) for cell in rock])
        # where each move leads without and with a gust, [2, 4, S]; in the ravine it starts from the rim above
        move = self._successor.reshape(4, cells)
        calm = move[:, np.arange(cells) + self.ravine]
        blown = np.where(calm == self._goal_cell, calm, move[DOWN][calm])
        self._successors = np.stack([calm, blown])
        self._entry_reward = np.where(self.ravine, self.fall_reward, self.step_reward)
        self._entry_reward[self._goal_cell] = self.goal_reward
        self._entry_cost = self.ravine.astype(np.float64)
        self._flat = self._successors.reshape(-1)
        self._earned = np.zeros(num_envs)
        self.one_hot = bool(one_hot)
        if self.one_hot:
            self._shown = np.eye(cells, dtype=np.float32)
            self._show(np.zeros(cells + 1), np.ones(cells + 1))
        if self.observe_budget is not None:
            space = self.single_observation_space
            assert isinstance(space, gym.spaces.Box)
            least = self.observe_budget - self.goal_reward
            most = self.observe_budget - horizon * min(self.fall_reward, self.step_reward)
            self._show(np.append(space.low, least / BUDGET_UNIT), np.append(space.high, most / BUDGET_UNIT))

    def _show(self, low: NDArray[np.floating], high: NDArray[np.floating]) -> None:
        self.single_observation_space = gym.spaces.Box(low.astype(np.float32), high.astype(np.float32))
        self.observation_space = gym.vector.utils.batch_space(self.single_observation_space, self.num_envs)

    def spawn(self, num_envs: int) -> "SafeCliffVector":
        return type(self)(
            num_envs,
            ledge=self.ledge,
            wind=self.wind,
            fall_reward=self.fall_reward,
            goal_reward=self.goal_reward,
            horizon=self.horizon or 1,
            observe_budget=self.observe_budget,
            one_hot=self.one_hot,
        )

    def behaviours(self) -> dict[str, NDArray[np.float64]]:
        """``ledge`` walks straight along it, ``detour`` goes round the rock, ``random`` is uniform."""
        uniform = uniform_policy(self.tabular_model())
        x, y = np.divmod(np.arange(self.width * self.height), self.height)
        y = np.where(self.ravine, 1, y)
        last = self.width - 1
        down = (x == last) | (x == 0)  # from above, back to the row of start and goal
        ledge = np.where((y > 1) & (down | (x == 2)), DOWN, RIGHT)
        ledge = np.where((y == 3) & (x > 2) & ~down, LEFT, ledge)
        detour = np.where((x == 2) & (y < 3), UP, RIGHT)
        detour = np.where((y > 1) & down, DOWN, detour)
        detour = np.where((y == 1) & (x > 2) & (x < last), LEFT, detour)
        tables = {name: np.eye(4)[action] for name, action in (("ledge", ledge), ("detour", detour))}
        for table in tables.values():
            table[self._goal_cell] = uniform[self._goal_cell]
        return tables | {"random": uniform}

    def tabular_model(self) -> TabularModel:
        """The exact model without the budget: reward ``[S, A, S]`` and cost ``[1, S, A, S]`` of the cell entered."""
        cells = self.width * self.height
        transition = np.zeros((cells, 4, cells))
        state, action = np.arange(cells)[:, None], np.arange(4)
        for probability, successor in zip((1 - self.wind, self.wind), self._successors):
            np.add.at(transition, (state, action, successor.T), probability)
        model = super().tabular_model()
        return replace(
            model,
            observation=self._shown if self.one_hot else model.observation,
            transition=transition,
            reward=np.broadcast_to(self._entry_reward, transition.shape),
            cost=np.broadcast_to(self._entry_cost, (1, *transition.shape)),
        )

    def state_index(self, observation: NDArray) -> NDArray[np.intp]:
        if not self.one_hot:
            return super().state_index(observation)
        shown = np.asarray(observation)[..., : len(self._shown)]
        if shown.shape[-1] != len(self._shown) or not ((shown == 1).sum(axis=-1) == 1).all():
            raise ValueError(f"observations must hold a one-hot cell of {len(self._shown)}, got {observation}")
        return shown.argmax(axis=-1)

    def _place(self, where: NDArray[np.intp] | slice, states: NDArray[np.intp] | int) -> None:
        super()._place(where, states)
        self._earned[where] = 0.0

    def _transition(self, action: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        cells = self.width * self.height
        gust = self.np_random.random(self.num_envs) < self.wind
        self._cell = self._flat.take((gust * 4 + action) * cells + self._cell)
        reward = self._entry_reward.take(self._cell)
        self._earned += reward
        return reward, self._cell == self._goal_cell

    def _observe(self) -> NDArray[np.float32]:
        seen = super()._observe()
        if self.one_hot:
            seen = np.column_stack([self._shown.take(self._cell, axis=0), self._remaining()])
        if self.observe_budget is None:
            return seen
        left = (self.observe_budget - self._earned) / BUDGET_UNIT
        return np.column_stack([seen, left.astype(np.float32)])

    def _information(self) -> dict[str, Any]:
        return {"cost": self._entry_cost.take(self._cell)}

    def _frame(self, index: int) -> NDArray[np.uint8]:
        fills = {divmod(int(cell), self.height): RAVINE for cell in np.flatnonzero(self.ravine)}
        fills |= dict.fromkeys(self.walls, WALL) | {self.goal: GOAL}
        x, y = divmod(int(self._cell[index]), self.height)
        return grid_picture(self.width, self.height, fills, agent=(x, y))


class SafeCliff(SingleEnvironment):
    """``CA14/SafeCliff-v0``; takes the arguments of :class:`SafeCliffVector` but ``num_envs``."""

    def __init__(self, **parameters: Any) -> None:
        super().__init__(SafeCliffVector(1, **parameters))
