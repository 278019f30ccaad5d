"""GustyGrid: a SafeGrid whose wind holds for a whole episode and is not seen. Book: evaluation/robust_safe."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from ca14lib.environments.batched import SingleEnvironment
from ca14lib.environments.grid import ACTION_NAMES, DOWN, UP
from ca14lib.environments.safe_grid import SafeGridLayout, SafeGridVector
from ca14lib.environments.tabular_model import TabularModel


class Wind(NamedTuple):
    """In every step, with this probability, a gust moves the walker one cell in its direction in place of the move."""

    probability: float
    direction: int  # 0…3: up, down, left, right


CALM, UPDRAFT, DOWNDRAFT = Wind(0.0, UP), Wind(0.2, UP), Wind(0.2, DOWN)
WINDS = (CALM, UPDRAFT, DOWNDRAFT)

# a pass between two rows of hazards, and a longer way round each of them
PASS = SafeGridLayout(
    5,
    ((1, 3), (2, 3), (3, 3), (1, 1), (2, 1)),
    start=(0, 2),
    goal=(4, 2),
    step_reward=-0.5,
    horizon=14,
)


class GustyGridVector(SafeGridVector):
    """``CA14/GustyGrid-v0``, batched: a SafeGrid in one of M winds, the **models** of the problem.

    The wind is drawn for an episode and holds to its end. The winds come in turn: copy n begins with wind n mod M and
    takes the next one for each further episode, so that all winds have their share of the episodes. Rewards, costs and
    horizon are those of :class:`~ca14lib.environments.safe_grid.SafeGridVector`.

    Observation, float32: ``[one-hot cell, share of the horizon left]``, and with ``show_wind`` the wind as a one-hot
    vector of M numbers before it, for critics that may know in training what the policy does not. ``info["wind"]``,
    ``[N]``, is its index.

    Args:
        num_envs: Number of copies.
        winds: M pairs of probability and direction.
        layout: ``None`` for :data:`PASS`, the name of a layout of SafeGrid, or a
            :class:`~ca14lib.environments.safe_grid.SafeGridLayout`, without slips.
        horizon: Steps of the task, or None for the layout's.
        show_wind: Add the wind to the observation.
        render_mode: ``"rgb_array"`` or None.

    Raises:
        ValueError: If there is no wind, a probability or direction is out of range, or the layout slips.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        winds: Sequence[tuple[float, int]] = (UPDRAFT,),
        layout: str | SafeGridLayout | None = None,
        horizon: int | None = None,
        show_wind: bool = False,
        render_mode: str | None = None,
    ) -> None:
        self.winds = tuple(Wind(float(probability), int(direction)) for probability, direction in winds)
        if not self.winds:
            raise ValueError("winds must hold at least one pair of probability and direction, got none")
        for wind in self.winds:
            if not 0.0 <= wind.probability < 1.0:
                raise ValueError(f"the probability of a gust must lie in [0, 1), got {wind.probability}")
            if not 0 <= wind.direction < 4:
                names = ", ".join(ACTION_NAMES)
                raise ValueError(f"the direction of a gust must be 0…3 ({names}), got {wind.direction}")
        super().__init__(
            num_envs, layout=PASS if layout is None else layout, horizon=horizon, one_hot=True, render_mode=render_mode
        )
        if self.layout.slip:
            raise ValueError(f"the gusts take the place of slips: the layout's slip must be 0, got {self.layout.slip}")
        self.show_wind = bool(show_wind)
        if self.show_wind:
            size = self.layout.size**2 + 1 + len(self.winds)
            self.single_observation_space = gym.spaces.Box(0.0, 1.0, (size,), np.float32)
            self.observation_space = gym.vector.utils.batch_space(self.single_observation_space, num_envs)
        self._probability, self._direction = (np.array(column) for column in zip(*self.winds, strict=True))
        self._wind = np.zeros(num_envs, dtype=np.intp)
        self._flags = np.eye(len(self.winds), dtype=np.float32)

    def spawn(self, num_envs: int) -> "GustyGridVector":
        return type(self)(num_envs, winds=self.winds, layout=self.layout, show_wind=self.show_wind)

    def tabular_model(self) -> TabularModel:
        """The exact model, if there is one wind.

        Raises:
            ValueError: If there are several winds; each has its model in :meth:`models`.
        """
        if len(self.winds) > 1:
            raise ValueError(f"{len(self.winds)} winds are {len(self.winds)} models; models() gives them")
        return self.models()[0]

    def models(self) -> list[TabularModel]:
        """The exact model of every wind, in their order; where the wind is shown, with observations that show it."""
        calm = super().tabular_model()
        return [self._model(calm, index) for index in range(len(self.winds))]

    def state_index(self, observation: NDArray) -> NDArray[np.intp]:
        seen = np.asarray(observation)
        return super().state_index(seen[..., len(self.winds) :] if self.show_wind else seen)

    def _model(self, calm: TabularModel, index: int) -> TabularModel:
        probability, direction = self.winds[index]
        pushed = calm.transition[:, direction, None, :]
        transition = (1.0 - probability) * calm.transition + probability * pushed
        paid = np.where(calm.terminal, self.goal_reward, self.step_reward)  # for the cell entered, as its cost
        shown = np.tile(self._flags[index], (calm.num_states, 1))
        return replace(
            calm,
            observation=np.column_stack([shown, calm.observation]) if self.show_wind else calm.observation,
            transition=transition,
            reward=np.broadcast_to(paid, transition.shape),
            cost=np.broadcast_to(self.cell_cost, (1, *transition.shape)),
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray, dict[str, Any]]:
        self._wind = np.arange(self.num_envs) % len(self.winds) - 1
        return super().reset(seed=seed, options=options)

    def _place(self, where: NDArray[np.intp] | slice, states: NDArray[np.intp] | int) -> None:
        super()._place(where, states)
        self._wind[where] = (self._wind[where] + 1) % len(self.winds)

    def _transition(self, action: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        gust = self.np_random.random(self.num_envs) < self._probability[self._wind]
        return super()._transition(np.where(gust, self._direction[self._wind], action))

    def _observe(self) -> NDArray[np.float32]:
        seen = super()._observe()
        if not self.show_wind:
            return seen
        return np.column_stack([self._flags[self._wind], seen])

    def _information(self) -> dict[str, Any]:
        return super()._information() | {"wind": self._wind.copy()}


class GustyGrid(SingleEnvironment):
    """``CA14/GustyGrid-v0``; takes the arguments of :class:`GustyGridVector` but ``num_envs``."""

    def __init__(self, **parameters: Any) -> None:
        super().__init__(GustyGridVector(1, **parameters))
