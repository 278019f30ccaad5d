"""UncertainGrid: what a planner gets that sees the true cell and the episode's parameters. Book: robust/environments.

No agent can do better than this planner in the mean over the same episodes: it knows all that an agent can infer.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ca14lib.environments.batched import require_integer
from ca14lib.environments.uncertain_grid import FAILED, UncertainGridParameters, outcome_tables

BLOCK = 256  # episodes solved at a time: their values fit into a processor's cache


@dataclass(frozen=True, eq=False)
class UncertainGridPlan:
    """An optimal policy for each of N episodes and what it gets.

    Attributes:
        bound: ``[N]``, expected undiscounted return of an episode under it: the largest that any policy can have.
        table: ``[H, U, M²]``, best move with h + 1 steps left in the cells ``x * M + y`` of the U different episodes.
        episode: ``[N]``, which of the U an episode is.
        side: M.
    """

    bound: NDArray[np.float64]
    table: NDArray[np.int8]
    episode: NDArray[np.intp]
    side: int

    def act(self, cells: ArrayLike, step: int) -> NDArray[np.int64]:
        """Best moves ``[N]`` for walkers on the true cells (x, y) ``[N, 2]`` after ``step`` steps.

        Raises:
            ValueError: If no step is left, or the cells are not of this plan.
        """
        steps, where = len(self.table), np.asarray(cells)
        if not 0 <= step < steps:
            raise ValueError(f"step must lie in 0…{steps - 1}, got {step}")
        if where.shape != (len(self.bound), 2) or where.min() < 0 or where.max() >= self.side:
            raise ValueError(f"cells must be of shape ({len(self.bound)}, 2) and in 0…{self.side - 1}, got {where}")
        left = steps - 1 - step
        return self.table[left, self.episode, where[:, 0] * self.side + where[:, 1]].astype(np.int64)


def uncertain_grid_plan(parameters: UncertainGridParameters, *, time_limit: int = 100) -> UncertainGridPlan:
    r"""Backward induction over the steps that are left, for all episodes at once (book eq. ugrid-bound).

    With :math:`s_a` the cell that a move leads to, :math:`r_a` its reward, :math:`r_0` that of staying and the
    probability p of failure, :math:`V_0=0` and

    .. math:: V_{h+1}(s)=\max_a\,(1-p)\,[r_a+V_h(s_a)]+p\,[r_0+V_h(s)] .

    Episodes that differ only in noise share one computation.

    Args:
        parameters: N episodes.
        time_limit: Steps after which an episode is cut, at least 1.
    Raises:
        ValueError: If a parameter is not valid or the limit not positive.
    """
    table, value, episode = _solved(parameters, time_limit, "plan")
    assert table is not None
    return UncertainGridPlan(value[episode], table, episode, round(table.shape[2] ** 0.5))


def uncertain_grid_bound(parameters: UncertainGridParameters, *, time_limit: int | None = 100) -> NDArray[np.float64]:
    r"""Largest expected undiscounted return of each episode, ``[N]``, for whoever sees cell and parameters.

    It bounds the expected return of every agent in the same episodes, whatever the agent remembers. With observation
    noise it is loose, since an agent does not know where it stands; without, what is left to infer are the obstacles'
    places and the probability of failure.

    Without a limit a failed move only delays: it takes :math:`1/(1-p)` attempts to get away from a cell and each that
    fails pays that cell's :math:`r_0`, so that :math:`V(s)=\max_a r_a+\tfrac{p}{1-p}r_0(s)+V(s_a)` is a shortest
    path.

    Args:
        parameters: N episodes.
        time_limit: Steps after which an episode is cut; None for none.
    Raises:
        ValueError: If a parameter is not valid, the limit is not positive, or without a limit an action never succeeds.
    """
    if time_limit is not None:
        _, value, episode = _solved(parameters, time_limit, "best")
        return value[episode]
    different, episode = _different(parameters.checked())
    if (different.action_failure == 1.0).any():
        raise ValueError("action_failure must be under 1 without a time limit, got 1: the goal is never reached")
    return np.concatenate([_shortest(different.rows(block)) for block in _blocks(different)])[episode]


def uncertain_grid_uniform(parameters: UncertainGridParameters, *, time_limit: int = 100) -> NDArray[np.float64]:
    """Exact expected undiscounted return of uniformly random moves in each episode, ``[N]``: share 0 of the range.

    Args: as :func:`uncertain_grid_plan`.
    Raises:
        ValueError: If a parameter is not valid or the limit not positive.
    """
    _, value, episode = _solved(parameters, time_limit, "uniform")
    return value[episode]


def _solved(
    parameters: UncertainGridParameters, time_limit: int, what: str
) -> tuple[NDArray[np.int8] | None, NDArray[np.float64], NDArray[np.intp]]:
    """Of the U different episodes the best moves ``[H, U, M²]``, if asked for, and the values ``[U]`` of the start;
    and which of the U each is, ``[N]``."""
    require_integer("time_limit", time_limit, 1)
    different, episode = _different(parameters.checked())
    cells = different.obstacles.shape[1] ** 2
    table = np.zeros((time_limit, len(different), cells), dtype=np.int8) if what == "plan" else None
    value = np.empty(len(different))
    for block in _blocks(different):
        moves = None if table is None else table[:, block]
        value[block] = _backward(different.rows(block), time_limit, moves, uniform=what == "uniform")
    return table, value, episode


def _backward(
    parameters: UncertainGridParameters, time_limit: int, table: NDArray[np.int8] | None, *, uniform: bool
) -> NDArray[np.float64]:
    """Values ``[N]`` of the start under the best moves, written to the table ``[H, N, M²]``, or under uniform ones."""
    after, reward = _arranged(parameters)
    failure = parameters.action_failure[:, None]
    expected = (1 - failure) * reward[:FAILED] + failure * reward[FAILED]
    goal = _goals(parameters)
    value = np.zeros(after.shape[1:])
    for step in range(time_limit):
        q = value.take(after)
        q *= 1 - failure
        q += expected
        stay = failure * value
        if uniform:
            value = q.mean(axis=0)
        else:
            vertical, horizontal = np.maximum(q[0], q[1]), np.maximum(q[2], q[3])
            value = np.maximum(vertical, horizontal)
            if table is not None:
                table[step] = np.where(horizontal > vertical, 2 + (q[3] > q[2]), q[1] > q[0])
        value += stay
        value.reshape(-1)[goal] = 0.0
    return value[:, 0]


def _shortest(parameters: UncertainGridParameters) -> NDArray[np.float64]:
    """Values ``[N]`` of the start without a time limit."""
    after, reward = _arranged(parameters)
    odds = parameters.action_failure / (1.0 - parameters.action_failure)
    gain = reward[:FAILED] + odds[:, None] * reward[FAILED]
    goal = _goals(parameters)
    value = np.full(after.shape[1:], -np.inf)
    value.reshape(-1)[goal] = 0.0
    while True:
        better = np.maximum(value, (gain + value.take(after)).max(axis=0))
        better.reshape(-1)[goal] = 0.0
        if (better == value).all():
            return value[:, 0]
        value = better


def _arranged(parameters: UncertainGridParameters) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Where values ``[N, M²]`` laid flat hold the cell after each move, ``[4, N, M²]``; rewards ``[5, N, M²]``."""
    successor, reward = outcome_tables(parameters)
    offset = np.arange(len(parameters))[:, None] * successor.shape[2]
    after = successor.transpose(1, 0, 2)[:FAILED] + offset
    return after, np.ascontiguousarray(reward.transpose(1, 0, 2))


def _blocks(parameters: UncertainGridParameters) -> list[slice]:
    return [slice(first, first + BLOCK) for first in range(0, len(parameters), BLOCK)]


def _goals(parameters: UncertainGridParameters) -> NDArray[np.int64]:
    """Where values ``[N, M²]`` laid flat hold those of the goals: the episode is over there."""
    side = parameters.obstacles.shape[1]
    return np.arange(len(parameters)) * side**2 + (parameters.size - 1) * (side + 1)


def _different(parameters: UncertainGridParameters) -> tuple[UncertainGridParameters, NDArray[np.intp]]:
    """The episodes that differ in size, failures or obstacles, and which of them each is, ``[N]``."""
    flat = parameters.obstacles.reshape(len(parameters), -1)
    key = np.column_stack([parameters.size, parameters.action_failure, flat])
    _, first, episode = np.unique(key, axis=0, return_index=True, return_inverse=True)
    return parameters.rows(first), episode.reshape(-1)
