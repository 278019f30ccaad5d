"""RiverSwim: a chain that rewards perseverance (Strehl and Littman, 2008). Book: yardsticks."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ca14lib.environments.batched import SingleEnvironment, require_integer
from ca14lib.environments.grid import GOAL, grid_picture
from ca14lib.environments.tabular import TabularEnvironment
from ca14lib.environments.tabular_model import TabularModel

LEFT, RIGHT = 0, 1


def river_swim_model(length: int = 6) -> TabularModel:
    """The chain as a model: ``[length, 2, length]`` transitions, no terminal state.

    Swimming left always succeeds. Swimming right, against the current: from an inner state 0.35 forward, 0.6 stay,
    0.05 back; from the left end 0.6 forward, 0.4 stay; at the right end 0.6 stay, 0.4 back. Reward 0.005 for left at
    the left end, 1 for right at the right end. The first state is one of the two leftmost but the end, as published:
    states 1 and 2 with equal probability.
    """
    require_integer("length", length, 3)
    transition = np.zeros((length, 2, length))
    for state in range(length):
        transition[state, LEFT, max(state - 1, 0)] = 1.0
        if state == 0:
            transition[state, RIGHT, [0, 1]] = 0.4, 0.6
        elif state == length - 1:
            transition[state, RIGHT, [state - 1, state]] = 0.4, 0.6
        else:
            transition[state, RIGHT, [state - 1, state, state + 1]] = 0.05, 0.6, 0.35
    reward = np.zeros((length, 2))
    reward[0, LEFT], reward[-1, RIGHT] = 0.005, 1.0
    initial = np.zeros(length)
    initial[[1, 2]] = 0.5
    return TabularModel(transition=transition, reward=reward, initial=initial)


class RiverSwimVector(TabularEnvironment):
    """``CA14/RiverSwim-v0``, batched: observation is the state's index.

    The task continues for ever; the limit is an artefact that cuts data into episodes.

    Args:
        num_envs: Number of copies.
        length: Number of states, at least 3.
        time_limit: Artificial limit on the steps of an episode, or None.
        render_mode: ``"rgb_array"`` or None.
    """

    def __init__(
        self, num_envs: int = 1, *, length: int = 6, time_limit: int | None = 20, render_mode: str | None = None
    ) -> None:
        super().__init__(river_swim_model(length), num_envs, time_limit=time_limit, render_mode=render_mode)
        self.length = length

    def spawn(self, num_envs: int) -> "RiverSwimVector":
        return type(self)(num_envs, length=self.length, time_limit=self.time_limit)

    def behaviours(self) -> dict[str, NDArray[np.float64]]:
        """``right`` always swims right, ``random`` is uniform."""
        return {"right": np.tile(np.eye(2)[RIGHT], (self.length, 1))} | super().behaviours()

    def _frame(self, index: int) -> NDArray[np.uint8]:
        return grid_picture(self.length, 1, {(self.length - 1, 0): GOAL}, agent=(int(self._state[index]), 0))


class RiverSwim(SingleEnvironment):
    """``CA14/RiverSwim-v0``; takes the arguments of :class:`RiverSwimVector` but ``num_envs``."""

    def __init__(self, **parameters: Any) -> None:
        super().__init__(RiverSwimVector(1, **parameters))
