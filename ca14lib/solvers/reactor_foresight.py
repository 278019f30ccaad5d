"""The reactor with perfect foresight: dynamic programming over a grid, episode by episode. Book: evaluation/industrial.

A controller that knew all feed temperatures and set points of an episode in advance would face a deterministic problem
with two numbers of state. Its optimum is more than any controller can expect that has to wait and see.
"""

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ca14lib.environments.reactor import (
    CONCENTRATION_UNIT,
    COOLANT_RANGE,
    EXCHANGE,
    FEED_BOUND,
    FEED_TEMPERATURE,
    FLOW,
    VOLUME,
    ReactorVector,
)
from ca14lib.solvers.reactor_control import ReactorController, set_point

Array = NDArray[np.float64]
PUSH = COOLANT_RANGE * EXCHANGE  # K/min that action 1 adds, 41.8
TAIL = 40  # steps that a plan looks beyond the set point's next change, of which it does not know
FEED_SHARE = FLOW / VOLUME / PUSH  # what a feed warmer by 1 K adds, in units of the action


@dataclass(frozen=True)
class ForesightGrid:
    """Grid of the dynamic programme."""

    concentration: tuple[float, float, int] = (0.38, 0.68, 61)  # mol/L: low, high, points
    temperature: tuple[float, float, int] = (332.0, 358.0, 105)  # K
    inputs: int = 41  # heat of feed and coolant together, over all that is possible
    tried: int = 81  # actions compared when the plan is followed
    price: float = 5.0  # of a step above a limit, in units of the reward


class ForesightPlanner:
    r"""Value functions of episodes whose disturbances are known (book eq. industrial-foresight).

    The feed's heat adds to the coolant's, so one table of successors over their sum serves every episode and step.

    Args:
        environment: The batched reactor with its limits; its nominal equations are used.
        grid: Of states and inputs.
    """

    def __init__(self, environment: ReactorVector, grid: ForesightGrid | None = None) -> None:
        self.environment, self.grid = environment, ForesightGrid() if grid is None else grid
        self._axes = np.linspace(*self.grid.concentration), np.linspace(*self.grid.temperature)
        most = 1.0 + FEED_SHARE * FEED_BOUND
        self._inputs = np.linspace(-most, most, self.grid.inputs)  # of the input a + (T_f − 350) q / V / 41.8
        c, t, u = np.meshgrid(*self._axes, self._inputs, indexing="ij")
        following = ReactorVector.integrate(np.stack([c.ravel(), t.ravel()], axis=1), u.reshape(-1, 1))
        self._shape = c.shape
        self._concentration = following[:, 0].reshape(c.shape)
        self._price = self.grid.price * self._violations(following).reshape(c.shape)
        self._corners, self._weights = self._interpolation(following)

    def _violations(self, state: Array) -> Array:
        """Limits that states ``[N, 2]`` exceed, ``[N]``."""
        limits = self.environment.temperature_limit, self.environment.concentration_limit
        return (state[:, ::-1] > limits).sum(axis=1).astype(np.float64)

    def _interpolation(self, state: Array) -> tuple[NDArray[np.int64], Array]:
        """Indices ``[4, N]`` into a flat table and weights ``[4, N]``; outside the grid its edge counts."""
        positions = []
        for column, axis in enumerate(self._axes):
            place = (state[:, column] - axis[0]) / (axis[1] - axis[0])
            place = np.clip(place, 0.0, len(axis) - 1 - 1e-9)
            positions.append((place.astype(np.int64), place % 1.0))
        (row, across), (column, up) = positions
        width = len(self._axes[1])
        first = row * width + column
        corners = np.stack([first, first + 1, first + width, first + width + 1])
        weights = np.stack([(1 - across) * (1 - up), (1 - across) * up, across * (1 - up), across * up])
        return corners, weights

    @staticmethod
    def _interpolated(table: Array, corners: NDArray[np.int64], weights: Array) -> Array:
        return np.einsum("kn,kn->n", table.ravel()[corners], weights)

    def values(self, feed: ArrayLike, target: ArrayLike) -> Array:
        """Value functions of one episode, ``[T + 1, concentrations, temperatures]``; the last is zero.

        Args:
            feed: Feed temperature of every step in K, ``[T]``.
            target: Set point of every step in mol/L, ``[T]``.
        Raises:
            ValueError: If they are not two series of one length.
        """
        feed, target = np.asarray(feed, dtype=np.float64), np.asarray(target, dtype=np.float64)
        if feed.ndim != 1 or feed.shape != target.shape or len(feed) == 0:
            raise ValueError(f"feed and target must both be [T], got {feed.shape} and {target.shape}")
        table = np.zeros((len(feed) + 1, *self._shape[:2]))
        for step in range(len(feed) - 1, -1, -1):
            shift = FEED_SHARE * (feed[step] - FEED_TEMPERATURE)
            later = self._interpolated(table[step + 1], self._corners, self._weights).reshape(self._shape)
            worth = later - abs(self._concentration - target[step]) / CONCENTRATION_UNIT - self._price
            allowed = abs(self._inputs - shift) <= 1.0 + 1e-9
            table[step] = worth[:, :, allowed].max(axis=2)
        return table

    def expected_return(self, table: Array, state: Array) -> Array:
        """What value functions ``[T + 1, …]`` promise at starts ``[N, 2]``, ``[N]``."""
        return self._interpolated(table[0], *self._interpolation(state))

    def best_action(self, later: Array, state: Array, feed: Array, target: Array) -> Array:
        """The action ``[N]`` that is best before value functions ``[N, concentrations, temperatures]``."""
        tried = np.linspace(-1.0, 1.0, self.grid.tried)
        rows, feeds = np.repeat(state, len(tried), axis=0), np.repeat(feed, len(tried))
        following = ReactorVector.integrate(rows, np.tile(tried, len(state))[:, None], feeds)
        corners, weights = self._interpolation(following)
        corners += np.repeat(np.arange(len(state)), len(tried)) * later[0].size
        worth = self._interpolated(later, corners, weights) - self.grid.price * self._violations(following)
        worth -= abs(following[:, 0] - np.repeat(target, len(tried))) / CONCENTRATION_UNIT
        return tried[worth.reshape(len(state), -1).argmax(axis=1)]


class ForesightController(ReactorController):
    """Follows the planner's value functions through episodes whose disturbances were recorded before.

    Args:
        planner: With its grid.
        feed: Feed temperatures that will be seen, ``[T, N]``.
        target: Set points, ``[T, N]``.
        knows_changes: Whether it prepares for set points to come. Otherwise it plans, whenever the set point has
            changed, as if it never changed again, and only the feed is known in advance.
    """

    def __init__(self, planner: ForesightPlanner, feed: Array, target: Array, *, knows_changes: bool = True) -> None:
        super().__init__(planner.environment)
        self.planner = planner
        plan = planner.values if knows_changes else self._surprised
        self.tables = np.stack([plan(feed[:, copy], target[:, copy]) for copy in range(feed.shape[1])], axis=1)
        self.reset()

    def _surprised(self, feed: Array, target: Array) -> Array:
        """Value functions ``[T + 1, …]``, the first of which is not used: each step's successor in its own plan."""
        changes = [0, *(np.flatnonzero(np.diff(target)) + 1), len(target)]
        parts = []
        for first, last in itertools.pairwise(changes):
            known = feed[first : last + TAIL]
            table = self.planner.values(known, np.full(len(known), target[first]))
            parts.append(table[int(first > 0) : last - first + 1])
        return np.concatenate(parts)

    def reset(self) -> None:
        self._step = 0

    def _act(self, seen: Array) -> Array:
        if seen.shape[0] != self.tables.shape[1] or self._step + 1 >= len(self.tables):
            raise ValueError(f"planned for {self.tables.shape[1]} episodes of {len(self.tables) - 1} steps")
        self._step += 1
        return self.planner.best_action(
            self.tables[self._step], ReactorVector.state(seen), ReactorVector.feed(seen), set_point(seen)
        )


def recorded_disturbances(environment: ReactorVector, seed: int, steps: int) -> tuple[Array, Array]:
    """Feed temperatures and set points ``[steps, N]`` of the episodes that a seed starts; no action changes them."""
    observation, _ = environment.reset(seed=seed)
    feed, target = [], []
    for _ in range(steps):
        feed.append(ReactorVector.feed(observation))
        target.append(set_point(observation))
        observation = environment.step(np.zeros((environment.num_envs, 1)))[0]
    return np.array(feed), np.array(target)
