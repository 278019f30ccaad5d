"""GridWorld: the course's smallest problem, with three behaviours to collect data from. Book: offline/index."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ca14lib.environments.batched import SingleEnvironment, require_integer
from ca14lib.environments.grid import RIGHT, UP, GridEnvironment
from ca14lib.environments.tabular import uniform_policy


class GridWorldVector(GridEnvironment):
    """``CA14/GridWorld-v0``, batched: from the lower left to the upper right corner of a square.

    −0.1 a step and +1, instead of −0.1, for the step that enters the goal. The limit of 50 steps is an artefact
    (``truncated``). On the 5 × 5 grid the best return is 0.3, in 8 steps.

    Args:
        num_envs: Number of copies.
        size: Cells a side, at least 2.
        time_limit: Artificial limit on the steps of an episode, or None.
        render_mode: ``"rgb_array"`` or None.
    """

    def __init__(
        self, num_envs: int = 1, *, size: int = 5, time_limit: int | None = 50, render_mode: str | None = None
    ) -> None:
        require_integer("size", size, 2)
        super().__init__(
            num_envs,
            width=size,
            height=size,
            start=(0, 0),
            goal=(size - 1, size - 1),
            step_reward=-0.1,
            goal_reward=1.0,
            time_limit=time_limit,
            render_mode=render_mode,
        )

    def spawn(self, num_envs: int) -> "GridWorldVector":
        return type(self)(num_envs, size=self.width, time_limit=self.time_limit)

    def behaviours(self) -> dict[str, NDArray[np.float64]]:
        """``expert`` goes right until the edge, then up; ``mixed`` does so with 70% a step; ``random`` is uniform."""
        cells = self.width * self.height
        expert = np.zeros((cells, 4))
        at_edge = np.arange(cells) // self.height == self.width - 1
        expert[np.arange(cells), np.where(at_edge, UP, RIGHT)] = 1.0
        random = uniform_policy(self.tabular_model())
        expert[self._goal_cell] = random[self._goal_cell]
        return {"expert": expert, "mixed": 0.7 * expert + 0.3 * random, "random": random}


class GridWorld(SingleEnvironment):
    """``CA14/GridWorld-v0``; takes the arguments of :class:`GridWorldVector` but ``num_envs``."""

    def __init__(self, **parameters: Any) -> None:
        super().__init__(GridWorldVector(1, **parameters))
