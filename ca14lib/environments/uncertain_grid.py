"""UncertainGrid: a walk to the goal on a grid that is another one in every episode. Book: robust/environments."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ca14lib.environments.batched import BatchedEnvironment, SingleEnvironment, require_integer
from ca14lib.environments.grid import DISPLACEMENT, GOAL, WALL, Cell, grid_picture
from ca14lib.environments.tabular_model import TabularModel

FAILED = 4  # what a failed action becomes: "stay", the original's index
GOAL_REWARD, COLLISION_PENALTY, STEP_PENALTY, DISTANCE_PENALTY = 10.0, 5.0, 0.1, 0.01
LEAST_SIZE, MOST_SIZE = 3, 30
OBSERVATION_BOUND = 100.0  # 900 cells / 10, and ten standard deviations of the largest noise
FREE, OUTSIDE, OBSTACLE = range(3)  # what is on a cell of the map
BEYOND = (225, 225, 225)  # colour of what lies outside a grid smaller than the picture

Range = float | tuple[float, float]


@dataclass(frozen=True, eq=False)
class UncertainGridParameters:
    """What is drawn for each of N episodes. A plain record: whoever takes one from outside calls :meth:`checked`.

    Attributes:
        size: ``[N]``, cells along a side, 3 to 30.
        observation_noise: ``[N]``, standard deviation of the noise on all six features, in [0, 1].
        action_failure: ``[N]``, probability in [0, 1] that an action does nothing.
        reward_noise: ``[N]``, standard deviation of the noise on the reward, at least 0.
        obstacles: ``[N, M, M]`` bool with M at least the largest size; ``obstacles[n, x, y]``.
    """

    size: NDArray[np.int64]
    observation_noise: NDArray[np.float64]
    action_failure: NDArray[np.float64]
    reward_noise: NDArray[np.float64]
    obstacles: NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        size: ArrayLike = 6,
        *,
        observation_noise: ArrayLike = 0.0,
        action_failure: ArrayLike = 0.0,
        reward_noise: ArrayLike = 0.0,
        obstacles: Sequence[Cell] = (),
        count: int = 1,
    ) -> "UncertainGridParameters":
        """Parameters of ``count`` episodes from numbers, or arrays ``[count]``, and one list of cells (x, y).

        Raises:
            ValueError: If one is out of range, or the goal cannot be reached.
        """
        require_integer("count", count, 1)
        sizes = _sizes(size, count)
        return cls(
            sizes,
            _numbers("observation_noise", observation_noise, count, 0.0, 1.0),
            _numbers("action_failure", action_failure, count, 0.0, 1.0),
            _numbers("reward_noise", reward_noise, count, 0.0, np.inf),
            _obstacle_map(obstacles, sizes),
        ).checked()

    def __len__(self) -> int:
        return len(self.size)

    @property
    def num_obstacles(self) -> NDArray[np.int64]:
        """Number of obstacles, ``[N]``."""
        return self.obstacles.sum(axis=(1, 2), dtype=np.int64)

    def rows(self, which: slice | NDArray) -> "UncertainGridParameters":
        """Some of the episodes, by slice, index or mask."""
        return UncertainGridParameters(*(getattr(self, item.name)[which] for item in fields(self)))

    def changed(self, **values: ArrayLike) -> "UncertainGridParameters":
        """The same episodes with some parameters set to a number or to ``[N]``: a point of a shift curve.

        Raises:
            ValueError: If there is no such parameter, a value is out of range, or the obstacles do not fit the size.
        """
        unknown = set(values) - {item.name for item in fields(self)} | set(values) & {"obstacles"}
        if unknown:
            raise ValueError(f"changed() sets size, noise and failure, got {', '.join(sorted(unknown))}")
        arrays: dict[str, Any] = {
            name: _numbers(name, value, len(self), -np.inf, np.inf) for name, value in values.items()
        }
        return replace(self, **arrays).checked()

    def checked(self) -> "UncertainGridParameters":
        """The same with NumPy's types and a map of obstacles that is as wide as the largest grid.

        Raises:
            ValueError: Naming what is out of range: also obstacles outside the grid, on the start or on the goal, and
                episodes whose goal cannot be reached.
        """
        count = len(np.atleast_1d(self.size))
        size = _sizes(self.size, count)
        obstacles = np.asarray(self.obstacles)
        side = obstacles.shape[-1] if obstacles.ndim == 3 else 0
        if obstacles.shape != (count, side, side) or obstacles.dtype != np.bool_:
            raise ValueError(
                f"obstacles must be bool of shape [{count}, M, M], got {obstacles.dtype} of shape {obstacles.shape}"
            )
        if side < size.max():  # more room, and nothing in it
            more = int(size.max()) - side
            obstacles = np.pad(obstacles, ((0, 0), (0, more), (0, more)))
            side = int(size.max())
        within = np.arange(side) < size[:, None]
        outside = obstacles & ~(within[:, :, None] & within[:, None, :])
        if outside.any():
            episode, x, y = (int(index) for index in np.argwhere(outside)[0])
            raise ValueError(
                f"obstacles must lie on the {size[episode]} × {size[episode]} grid, got {(x, y)} in episode {episode}"
            )
        rows, last = np.arange(count), size - 1
        for name, taken in (("start", obstacles[:, 0, 0]), ("goal", obstacles[rows, last, last])):
            if taken.any():
                raise ValueError(f"obstacles must leave the {name} free, got one there in episode {taken.argmax()}")
        obstacles = obstacles[:, : size.max(), : size.max()]
        reached = reachable_goals(size, obstacles)
        if not reached.all():
            raise ValueError(f"obstacles must leave a way to the goal, episode {int((~reached).argmax())} has none")
        return UncertainGridParameters(
            size,
            _numbers("observation_noise", self.observation_noise, count, 0.0, 1.0),
            _numbers("action_failure", self.action_failure, count, 0.0, 1.0),
            _numbers("reward_noise", self.reward_noise, count, 0.0, np.inf),
            obstacles,
        )


class UncertainGridVector(BatchedEnvironment):
    r"""``CA14/UncertainGrid-v0``, batched: from (0, 0) to the opposite corner of a grid that every episode draws anew.

    **A step.** An action is 0 up (y + 1), 1 down, 2 left, 3 right. It fails with the episode's probability, and then
    the walker stays. A move off the grid is a stay; a move into an obstacle is one that costs 5. The step that reaches
    the goal pays 10 and terminates; any other pays :math:`-0.1-0.01\,d` with the Manhattan distance :math:`d` to the
    goal after the step (book eq. ugrid-reward). Normal noise is added to every reward.

    **An episode** draws, from the environment's own generator and independently of one another, its size, the standard
    deviation of the observations' noise, the probability of failure, the standard deviation of the rewards' noise,
    and obstacles (:class:`UncertainGridParameters`). With base size b, level u and
    :math:`v=\max\{1,\lfloor bu\rfloor\}` the original's ranges are: size uniform over
    :math:`\max\{3,b-v\},\dots,b+v`; noise and failure uniform over [0, u]; the rewards' noise uniform over [0, 5u]; a
    number of obstacles uniform over :math:`0,\dots,\lfloor\text{size}/2\rfloor-1`, each on a cell of the interior,
    those that coincide counted once. At level 0 nothing varies: the size is b, and there are no noise, failures or
    obstacles. The original would still draw sizes and obstacles. Each range can be replaced by another, or by one value
    for all episodes.

    **Observation** ``[6]``, float32: x and y, then the goal's offset from the walker in x and y, all divided by the
    size; size / 10; number of obstacles / 10; and normal noise on all six. Failures and the noise itself are not shown:
    a learner can only infer them. The space is the same whatever the arguments, so that an agent that learned on one
    range can be tested on another.

    **info**: ``"environment_size"``, ``"noise_level"``, ``"action_failure_prob"`` and ``"obstacles"`` (their number),
    ``[N]`` each.

    The limit of 100 steps is an artefact: it is not observed and truncates.

    ``reset(options={…})`` fixes ``size``, ``observation_noise``, ``action_failure``, ``reward_noise`` (a number or
    ``[N]``) and ``obstacles`` (a list of cells; needs a fixed size) of the episodes that it starts, or all of them with
    ``parameters``, an :class:`UncertainGridParameters` of N rows. Episodes that follow by automatic reset are drawn.

    Args:
        num_envs: Number of copies.
        base_size: b, 3 to 30.
        uncertainty: Level u in [0, 1], from which the ranges follow that are left None.
        dynamic_obstacles: False for no obstacles.
        obstacles_anywhere: Mazes: obstacles on any cell but start and goal, at any level. Their number is uniform from
            0 to ``density`` times the cells there are; where they cut off the goal, those on a path that crosses the
            fewest of them are taken away, so that there is always a way.
        density: Largest share of obstacles in a maze, in [0, 1).
        size: Cells along a side, a number or (least, greatest); None for the level's range.
        observation_noise: A number or (least, greatest) within [0, 1]; None for the level's range.
        action_failure: A number or (least, greatest) within [0, 1]; None for the level's range.
        reward_noise: A number or (least, greatest), at least 0; None for the level's range.
        num_obstacles: A number or (least, greatest), before those that coincide are dropped; None as described.
        obstacles: Cells (x, y) of all episodes; needs one size. None to draw them.
        time_limit: Steps after which an episode is truncated, or None.
        render_mode: ``"rgb_array"`` or None.

    Raises:
        ValueError: If an argument is out of range, or the goal cannot be reached.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        base_size: int = 6,
        uncertainty: float = 0.1,
        dynamic_obstacles: bool = True,
        obstacles_anywhere: bool = False,
        density: float = 0.3,
        size: int | tuple[int, int] | None = None,
        observation_noise: Range | None = None,
        action_failure: Range | None = None,
        reward_noise: Range | None = None,
        num_obstacles: int | tuple[int, int] | None = None,
        obstacles: Sequence[Cell] | None = None,
        time_limit: int | None = 100,
        render_mode: str | None = None,
    ) -> None:
        self._arguments = {
            "base_size": base_size, "uncertainty": uncertainty, "dynamic_obstacles": dynamic_obstacles,
            "obstacles_anywhere": obstacles_anywhere, "density": density, "size": size,
            "observation_noise": observation_noise, "action_failure": action_failure, "reward_noise": reward_noise,
            "num_obstacles": num_obstacles, "obstacles": obstacles, "time_limit": time_limit,
        }  # fmt: skip
        require_integer("base_size", base_size, LEAST_SIZE)
        uncertainty = float(_numbers("uncertainty", uncertainty, 1, 0.0, 1.0)[0])
        if not 0.0 <= density < 1.0:
            raise ValueError(f"density must lie in [0, 1), got {density}")
        if obstacles_anywhere and not dynamic_obstacles:
            raise ValueError("obstacles_anywhere draws obstacles, dynamic_obstacles=False forbids them")
        if obstacles is not None and (obstacles_anywhere or num_obstacles is not None):
            raise ValueError("obstacles are given: obstacles_anywhere and num_obstacles would draw others")
        variation = max(1, int(base_size * uncertainty)) if uncertainty else 0
        least, greatest = (max(LEAST_SIZE, base_size - variation), base_size + variation)
        self.uncertainty, self.obstacles_anywhere, self.density = float(uncertainty), obstacles_anywhere, density
        self.size_range = _whole_range("size", (least, greatest) if size is None else size, LEAST_SIZE, MOST_SIZE)
        self.observation_noise_range = _range("observation_noise", observation_noise, uncertainty, 1.0)
        self.action_failure_range = _range("action_failure", action_failure, uncertainty, 1.0)
        self.reward_noise_range = _range("reward_noise", reward_noise, 5.0 * uncertainty, np.inf)
        if num_obstacles is None and not obstacles_anywhere and (not dynamic_obstacles or uncertainty == 0.0):
            num_obstacles = 0
        self.num_obstacles_range = (
            None if num_obstacles is None else _whole_range("num_obstacles", num_obstacles, 0, MOST_SIZE**2)
        )
        self._given_obstacles: NDArray[np.bool_] | None = None
        if obstacles is not None:
            if self.size_range[0] < self.size_range[1]:
                raise ValueError(f"obstacles need one size, got sizes {self.size_range[0]} to {self.size_range[1]}")
            self._given_obstacles = UncertainGridParameters.of(self.size_range[0], obstacles=obstacles).obstacles[0]
        super().__init__(
            num_envs,
            gym.spaces.Box(-OBSERVATION_BOUND, OBSERVATION_BOUND, (6,), np.float32),
            gym.spaces.Discrete(len(DISPLACEMENT)),
            time_limit=time_limit,
            render_mode=render_mode,
        )
        self._stock: UncertainGridParameters | None = None  # episodes drawn in advance: many at once cost little more
        self._used = 0
        self._cell = np.zeros(num_envs, dtype=np.intp)  # on the map, which has a border of one cell
        self._size = np.full(num_envs, self.size_range[1], dtype=np.int64)
        self._obstacle_count = np.zeros(num_envs, dtype=np.int64)
        self._observation_noise, self._failure, self._reward_noise = (np.zeros(num_envs) for _ in range(3))
        self._noise = np.zeros((num_envs, 6), dtype=np.float32)  # on what is seen now
        self._side = np.ones((num_envs, 1), dtype=np.float32)  # the size once more
        # two features as one complex number: the goal, and size and obstacles
        self._corner, self._constant = (np.zeros(num_envs, dtype=np.complex64) for _ in range(2))
        self._make_room(self.size_range[1])

    def spawn(self, num_envs: int) -> "UncertainGridVector":
        return type(self)(num_envs, **self._arguments)  # type: ignore[arg-type]

    # Parameters

    @property
    def parameters(self) -> UncertainGridParameters:
        """Parameters of the episodes that run now, for evaluation: no agent sees them."""
        return UncertainGridParameters(
            self._size.copy(),
            self._observation_noise.copy(),
            self._failure.copy(),
            self._reward_noise.copy(),
            self._map.reshape(self.num_envs, self._stride, self._stride)[:, 1:-1, 1:-1] == OBSTACLE,
        )

    @property
    def cells(self) -> NDArray[np.int64]:
        """True cells (x, y) of the walkers, ``[N, 2]``."""
        return np.stack(np.divmod(self._cell, self._stride), axis=1) - 1

    @property
    def central_space(self) -> gym.spaces.Box:
        """Space of :meth:`central_state`."""
        return gym.spaces.Box(0.0, OBSERVATION_BOUND, (12,), np.float32)

    def central_state(self) -> NDArray[np.float32]:
        """What a critic may see that is used in training only, ``[N, 12]``.

        The six features without noise, the deviation of their noise, the probability of failure, and 1 for each of the
        four moves that would run into an obstacle. The rewards' noise is left out: it changes no value.
        """
        beside = self._map.take((self._first + self._cell)[:, None] + self._move[:FAILED]) == OBSTACLE
        hidden = np.column_stack([self._observation_noise, self._failure])
        return np.concatenate([self._features(), hidden, beside], axis=1, dtype=np.float32)

    def draw(self, count: int, generator: np.random.Generator) -> UncertainGridParameters:
        """Parameters of ``count`` episodes from a generator of your own, such as episodes held out for evaluation."""
        require_integer("count", count, 1)
        return self._drawn(count, generator, {})

    def parameter_grid(self, name: str, points: int = 5) -> NDArray[np.float64]:
        """Values of one parameter from the least to the greatest that is drawn, both included, equally spaced.

        Args:
            name: ``"size"`` (then whole numbers, each once), ``"observation_noise"``, ``"action_failure"`` or
                ``"reward_noise"``.
            points: How many, at least 2.
        Raises:
            ValueError: If there is no such parameter, or there are too few points.
        """
        names = ("size", "observation_noise", "action_failure", "reward_noise")
        if name not in names:
            raise ValueError(f"name must be one of {', '.join(names)}, got {name!r}")
        require_integer("points", points, 2)
        least, greatest = getattr(self, f"{name}_range")
        grid = np.linspace(least, greatest, points)
        return np.unique(np.rint(grid) if name == "size" else grid)

    def _drawn(self, count: int, generator: np.random.Generator, fixed: dict[str, NDArray]) -> UncertainGridParameters:
        """Episodes with some parameters fixed, by the name of the record's field."""
        size = fixed.get("size")
        if size is None:
            size = generator.integers(self.size_range[0], self.size_range[1] + 1, count)
        real = {
            name: fixed[name] if name in fixed else generator.uniform(*ends, count)
            for name, ends in (
                ("observation_noise", self.observation_noise_range),
                ("action_failure", self.action_failure_range),
                ("reward_noise", self.reward_noise_range),
            )
        }
        obstacles = fixed.get("obstacles")
        if obstacles is None:
            obstacles = self._drawn_obstacles(size, generator)
        return UncertainGridParameters(size=size, obstacles=obstacles, **real)

    def _drawn_obstacles(self, size: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.bool_]:
        side = max(self.size_range[1], int(size.max()))
        if self._given_obstacles is not None:
            return np.broadcast_to(self._given_obstacles, (len(size), *self._given_obstacles.shape))
        if self.num_obstacles_range == (0, 0):
            return np.zeros((len(size), side, side), dtype=np.bool_)
        if self.num_obstacles_range is not None:
            count = generator.integers(self.num_obstacles_range[0], self.num_obstacles_range[1] + 1, len(size))
        elif self.obstacles_anywhere:
            count = generator.integers(0, (self.density * (size**2 - 2)).astype(np.int64) + 1)
        else:
            count = generator.integers(0, np.maximum(1, size // 2))
        draw = maze_obstacles if self.obstacles_anywhere else interior_obstacles
        return draw(size, count, side, generator)

    # Episodes

    def _restart(self, count: int, options: dict[str, Any] | None) -> UncertainGridParameters:
        if options:
            self._stock = None  # drawn before: what follows a seed depends on nothing else
            return self._asked_for(count, options)
        if self._stock is None or self._used + count > len(self._stock):
            self._stock, self._used = self._drawn(self.num_envs, self.np_random, {}), 0
        self._used += count
        return self._stock.rows(slice(self._used - count, self._used))

    def _asked_for(self, count: int, options: dict[str, Any]) -> UncertainGridParameters:
        names = [item.name for item in fields(UncertainGridParameters)]
        unknown = sorted(set(options) - {*names, "parameters"})
        if unknown:
            raise ValueError(f"unknown option {unknown[0]!r}; there are {', '.join(names)} and parameters")
        if "parameters" in options:
            given = options["parameters"]
            if not isinstance(given, UncertainGridParameters) or len(options) > 1:
                raise ValueError(
                    "options['parameters'] must be an UncertainGridParameters and the only option, "
                    f"got {type(given).__name__} among {sorted(options)}"
                )
            if len(given) != count:
                raise ValueError(f"options['parameters'] must have {count} rows, one a copy, got {len(given)}")
            return given.checked()
        fixed: dict[str, NDArray] = {}
        for name, value in options.items():
            if name == "size":
                fixed[name] = _sizes(value, count)
            elif name != "obstacles":
                fixed[name] = _numbers(name, value, count, 0.0, np.inf if name == "reward_noise" else 1.0)
        if "obstacles" in options:
            if "size" not in fixed and self.size_range[0] < self.size_range[1]:
                raise ValueError("options['obstacles'] needs options['size']: sizes are drawn")
            fixed["obstacles"] = _obstacle_map(
                options["obstacles"], fixed.get("size", np.full(count, self.size_range[0]))
            )
        elif self._given_obstacles is not None and "size" in fixed:
            fixed["obstacles"] = np.broadcast_to(self._given_obstacles, (count, *self._given_obstacles.shape))
        return self._drawn(count, self.np_random, fixed).checked()

    def _make_room(self, size: int) -> None:
        """Maps for grids of up to ``size`` cells a side, and what depends on their width."""
        self._stride = size + 2
        area = self._stride**2
        self._map = np.full((self.num_envs, area), OUTSIDE, dtype=np.uint8)
        self._first = np.arange(self.num_envs) * area  # of every copy's cells in the flat array
        self._move = np.append(DISPLACEMENT @ (self._stride, 1), 0)
        x, y = np.array(np.divmod(np.arange(area), self._stride)) - 1
        self._along = x + y
        # a cell as one item x + iy: half as many passes as over two coordinates
        self._point = (x + 1j * y).astype(np.complex64)

    def _place(self, where: NDArray[np.intp] | slice, states: UncertainGridParameters) -> None:
        if states.size.max() > self._stride - 2:
            self._make_room(int(states.size.max()))  # only a reset with options asks for more, and it is of all copies
        self._map[where] = cell_map(states, self._stride - 2).reshape(len(states), -1)
        self._size[where], self._obstacle_count[where] = states.size, states.num_obstacles
        self._observation_noise[where], self._failure[where] = states.observation_noise, states.action_failure
        self._reward_noise[where] = states.reward_noise
        self._side[where, 0] = states.size
        self._corner[where] = (1 + 1j) * (states.size - 1)
        self._constant[where] = states.size / 10.0 + 1j * (self._obstacle_count[where] / 10.0)
        self._cell[where] = self._stride + 1
        self._goal = (self._stride + 1) * self._size
        self._farthest = 2 * (self._size - 1)
        # noise belongs to the state: what is returned twice for one step must be the same
        self._noise[where] = self._drawn_noise(states.observation_noise)

    def _drawn_noise(self, deviation: NDArray[np.float64]) -> NDArray[np.float32]:
        noise = self.np_random.standard_normal((len(deviation), 6), dtype=np.float32)
        noise *= deviation[:, None]
        return noise

    def _transition(self, action: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        generator = self.np_random
        fails = generator.random(self.num_envs) < self._failure
        target = self._cell + self._move.take(np.where(fails, FAILED, action))
        entered = self._map.take(self._first + target)
        self._cell = np.where(entered == FREE, target, self._cell)
        arrived = self._cell == self._goal
        distance = self._farthest - self._along.take(self._cell)
        reward = np.where(arrived, GOAL_REWARD, -STEP_PENALTY - DISTANCE_PENALTY * distance)
        reward[entered == OBSTACLE] = -COLLISION_PENALTY
        reward += self._reward_noise * generator.standard_normal(self.num_envs)
        self._noise = self._drawn_noise(self._observation_noise)
        return reward, arrived

    def _observe(self) -> NDArray[np.float32]:
        observation = self._features()
        observation += self._noise
        return observation

    def _features(self) -> NDArray[np.float32]:
        """The observation without noise."""
        features = np.empty((self.num_envs, 6), dtype=np.float32)
        columns = features.view(np.complex64)
        columns[:, 0] = own = self._point.take(self._cell)
        np.subtract(self._corner, own, out=columns[:, 1])
        columns[:, 2] = self._constant
        features[:, :4] /= self._side
        return features

    def _information(self) -> dict[str, Any]:
        return {
            "environment_size": self._size.copy(),
            "noise_level": self._observation_noise.copy(),
            "action_failure_prob": self._failure.copy(),
            "obstacles": self._obstacle_count.copy(),
        }

    def tabular_model(self) -> TabularModel:
        """The exact model, where all episodes are alike and are observed without noise, as at level 0.

        Raises:
            ValueError: If parameters vary or observations are noisy; :func:`uncertain_grid_model` gives the model of
                one episode.
        """
        fixed = (self.size_range, self.action_failure_range, self.observation_noise_range)
        settled = self._given_obstacles is not None or self.num_obstacles_range == (0, 0)
        if not settled or any(low < high for low, high in fixed) or self.observation_noise_range[1] > 0:
            raise ValueError(
                "UncertainGrid has no tabular model while parameters vary between episodes or observations are noisy; "
                "uncertain_grid_model(parameters) is that of one episode"
            )
        return uncertain_grid_model(self.draw(1, np.random.default_rng(0)))

    def _frame(self, index: int) -> NDArray[np.uint8]:
        side, (x, y) = self._stride - 2, self.cells[index]
        colours = {OUTSIDE: BEYOND, OBSTACLE: WALL}
        shown = self._map[index].reshape(self._stride, self._stride)[1:-1, 1:-1]
        fills = {(int(i), int(j)): colours[int(shown[i, j])] for i, j in np.argwhere(shown != FREE)}
        last = int(self._size[index]) - 1
        return grid_picture(side, side, fills | {(last, last): GOAL}, agent=(int(x), int(y)))


class UncertainGrid(SingleEnvironment):
    """``CA14/UncertainGrid-v0``; takes the arguments of :class:`UncertainGridVector` but ``num_envs``."""

    def __init__(self, **parameters: Any) -> None:
        super().__init__(UncertainGridVector(1, **parameters))

    @property
    def parameters(self) -> UncertainGridParameters:
        """Parameters of the episode that runs now, one row."""
        assert isinstance(self.batched, UncertainGridVector)
        return self.batched.parameters


# Exact models


def cell_map(parameters: UncertainGridParameters, side: int) -> NDArray[np.uint8]:
    """What is on every cell, ``[N, side + 2, side + 2]``: FREE, OUTSIDE or OBSTACLE; index x + 1, y + 1."""
    within = np.arange(-1, side + 1)
    inside = (within >= 0) & (within < parameters.size[:, None])
    found = np.where(inside[:, :, None] & inside[:, None, :], FREE, OUTSIDE).astype(np.uint8)
    obstacles = parameters.obstacles[:, :side, :side]
    found[:, 1 : 1 + obstacles.shape[1], 1 : 1 + obstacles.shape[2]][obstacles] = OBSTACLE
    return found


def outcome_tables(parameters: UncertainGridParameters) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """What the four moves and a failed one do in every cell ``x * M + y``, M the width of the obstacles' map.

    The rewards are those of book eq. ugrid-reward without noise.

    Returns:
        The cell that is reached ``[N, 5, M²]`` and the expected reward ``[N, 5, M²]``; where no walker can be, that is
        outside the grid and on obstacles, they mean nothing.
    """
    side = parameters.obstacles.shape[1]
    x, y = np.divmod(np.arange(side**2), side)
    displacement = np.vstack([DISPLACEMENT, (0, 0)])
    to_x, to_y = x + displacement[:, :1], y + displacement[:, 1:]  # [5, M²]
    entered = cell_map(parameters, side)[:, to_x + 1, to_y + 1]
    successor = np.where(entered == FREE, to_x * side + to_y, np.arange(side**2))
    last = (parameters.size - 1)[:, None, None]
    distance = 2 * last - (x + y).take(successor)
    reward = np.where(
        successor == last * (side + 1), GOAL_REWARD, -STEP_PENALTY - DISTANCE_PENALTY * np.maximum(distance, 0)
    )
    return successor, np.where(entered == OBSTACLE, -COLLISION_PENALTY, reward)


def uncertain_grid_model(parameters: UncertainGridParameters) -> TabularModel:
    """The exact model of one episode: states are the cells ``x * size + y``, rewards expected, no horizon.

    Args:
        parameters: One row. The noise of observations and rewards does not enter: observations are those without.
    Raises:
        ValueError: If there is more than one row, or one is not valid.
    """
    parameters = parameters.checked()
    if len(parameters) != 1:
        raise ValueError(f"a model is of one episode, got parameters of {len(parameters)}")
    size, failure = int(parameters.size[0]), float(parameters.action_failure[0])
    cells = size**2
    successor, reward = (table[0].T for table in outcome_tables(parameters))  # [S, 5]
    lands = np.eye(cells)[successor]
    x, y = np.divmod(np.arange(cells), size)
    features = [x / size, y / size, (size - 1 - x) / size, (size - 1 - y) / size]
    features += [np.full(cells, size / 10), np.full(cells, parameters.num_obstacles[0] / 10)]
    return TabularModel(
        transition=(1 - failure) * lands[:, :FAILED] + failure * lands[:, FAILED:],
        reward=(1 - failure) * reward[:, :FAILED] + failure * reward[:, FAILED:],
        terminal=np.arange(cells) == cells - 1,
        initial=np.eye(cells)[0],
        observation=np.stack(features, axis=1).astype(np.float32),
    )


# Obstacles


def interior_obstacles(
    size: NDArray[np.int64], count: NDArray[np.int64], side: int, generator: np.random.Generator
) -> NDArray[np.bool_]:
    """``count`` cells of the interior, drawn with replacement, ``[N, side, side]``: the border stays a way to the goal.

    Args:
        size: ``[N]``.
        count: ``[N]``, draws for each episode.
        side: Room, at least the largest size.
        generator: Source of the draws.
    """
    draws = int(count.max())
    cells = generator.integers(1, (size - 1)[None, :, None], size=(2, len(size), draws))
    episode, draw = np.nonzero(np.arange(draws) < count[:, None])
    found = np.zeros((len(size), side, side), dtype=np.bool_)
    found[episode, cells[0, episode, draw], cells[1, episode, draw]] = True
    return found


def maze_obstacles(
    size: NDArray[np.int64], count: NDArray[np.int64], side: int, generator: np.random.Generator
) -> NDArray[np.bool_]:
    """Up to ``count`` different cells other than start and goal that leave a way to the goal, ``[N, side, side]``.

    Every set of ``count`` cells is drawn with the same probability. Where it cuts off the goal, the obstacles on a path
    that crosses the fewest of them are removed.

    Args: as :func:`interior_obstacles`; counts beyond the cells there are take them all.
    """
    inside = np.arange(side) < size[:, None]
    rows, last = np.arange(len(size)), size - 1
    allowed = inside[:, :, None] & inside[:, None, :]
    allowed[:, 0, 0] = allowed[rows, last, last] = False
    rank = np.where(allowed, generator.random(allowed.shape), np.inf).reshape(len(size), -1).argsort(axis=1)
    taken = np.arange(side**2) < np.minimum(count, size**2 - 2)[:, None]
    found = np.zeros((len(size), side**2), dtype=np.bool_)
    np.put_along_axis(found, rank, taken, axis=1)
    maze = found.reshape(allowed.shape)
    closed = np.flatnonzero(~reachable_goals(size, maze))
    if closed.size:
        jitter = generator.random((closed.size, side, side)) / side**2  # ties between paths are broken at random
        maze[closed] &= ~_cheapest_path(size[closed], maze[closed] + jitter)
    return maze


def reachable_goals(size: NDArray[np.int64], obstacles: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether a way leads from the start to the goal, ``[N]``, past obstacles ``[N, M, M]``."""
    inside = np.arange(obstacles.shape[1]) < size[:, None]
    free = inside[:, :, None] & inside[:, None, :] & ~obstacles
    reached = np.zeros_like(free)
    reached[:, 0, 0] = free[:, 0, 0]
    while True:
        grown = reached.copy()
        grown[:, 1:] |= reached[:, :-1]
        grown[:, :-1] |= reached[:, 1:]
        grown[:, :, 1:] |= reached[:, :, :-1]
        grown[:, :, :-1] |= reached[:, :, 1:]
        grown &= free
        if (grown == reached).all():
            return reached[np.arange(len(size)), size - 1, size - 1]
        reached = grown


def _cheapest_path(size: NDArray[np.int64], toll: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The cells ``[N, M, M]`` of a path from start to goal whose tolls ``[N, M, M]`` add up to the least."""
    rows, side = np.arange(len(size)), toll.shape[1]
    inside = np.arange(side) < size[:, None]
    padded = np.full((len(size), side + 2, side + 2), np.inf)
    price = np.where(inside[:, :, None] & inside[:, None, :], toll, np.inf)
    total = padded[:, 1:-1, 1:-1]
    total[:, 0, 0] = 0.0
    neighbours = [padded[:, 1 + dx : side + 1 + dx, 1 + dy : side + 1 + dy] for dx, dy in DISPLACEMENT]
    while True:
        lower = np.minimum(total, price + np.minimum.reduce(neighbours))
        if (lower == total).all():
            break
        total[:] = lower
    path = np.zeros(toll.shape, dtype=np.bool_)
    x, y = size - 1, size - 1
    path[rows, x, y] = True
    while (x + y).any():
        ways = np.stack([padded[rows, x + 1 + dx, y + 1 + dy] for dx, dy in DISPLACEMENT], axis=1)
        step = DISPLACEMENT[ways.argmin(axis=1)] * ((x + y) > 0)[:, None]
        x, y = x + step[:, 0], y + step[:, 1]
        path[rows, x, y] = True
    return path


# Reading arguments


def _numbers(name: str, value: ArrayLike, count: int, least: float, greatest: float) -> NDArray[np.float64]:
    """``[count]`` real numbers within bounds, from one or as many."""
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be a number or {count} numbers, got {value!r}") from None
    if array.shape not in ((), (count,)):
        raise ValueError(f"{name} must be a number or of shape ({count},), got shape {array.shape}")
    wrong = ~((array >= least) & (array <= greatest) & np.isfinite(array))
    if wrong.any():
        bounds = f"be at least {least:g} and finite" if np.isinf(greatest) else f"lie in [{least:g}, {greatest:g}]"
        raise ValueError(f"{name} must {bounds}, got {array[wrong].reshape(-1)[0]:g}")
    return np.array(np.broadcast_to(array, (count,)))


def _range(name: str, value: Range | None, level: float, greatest: float) -> tuple[float, float]:
    """(least, greatest) from a number, a pair, or None for 0 to the level's."""
    if value is None:
        return 0.0, float(level)
    ends = np.asarray(value)
    if ends.shape not in ((), (2,)) or ends.dtype.kind not in "iuf":
        raise ValueError(f"{name} must be a number or a pair (least, greatest), got {value!r}")
    low, high = _numbers(name, value, 1 if ends.ndim == 0 else 2, 0.0, greatest)[[0, -1]].tolist()
    if low > high:
        raise ValueError(f"{name} must be (least, greatest), got {value!r}")
    return low, high


def _whole_range(name: str, value: int | tuple[int, int], least: int, greatest: int) -> tuple[int, int]:
    low, high = value if isinstance(value, tuple | list) and len(value) == 2 else (value, value)
    require_integer(name, low, least)
    require_integer(name, high, least)
    if low > high or high > greatest:
        raise ValueError(f"{name} must be (least, greatest) up to {greatest}, got {value!r}")
    return int(low), int(high)


def _sizes(value: ArrayLike, count: int) -> NDArray[np.int64]:
    size = _numbers("size", value, count, LEAST_SIZE, MOST_SIZE)
    if (size != np.rint(size)).any():
        raise ValueError(f"size must be an integer, got {size[size != np.rint(size)][0]:g}")
    return size.astype(np.int64)


def _obstacle_map(cells: Sequence[Cell], size: NDArray[np.int64]) -> NDArray[np.bool_]:
    """``[N, M, M]`` with the same cells in every episode."""
    found = np.zeros((len(size), size.max(), size.max()), dtype=np.bool_)
    if not len(cells):
        return found
    array, least = np.asarray(cells), size.min()
    if array.ndim != 2 or array.shape[1] != 2 or array.dtype.kind not in "iu":
        raise ValueError(f"obstacles must be cells (x, y) of integers, got {cells!r}")
    wrong = ((array < 0) | (array >= least)).any(axis=1)
    if wrong.any():
        raise ValueError(f"obstacles must lie on the {least} × {least} grid, got {tuple(array[wrong][0].tolist())}")
    found[:, array[:, 0], array[:, 1]] = True
    return found
