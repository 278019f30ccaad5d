"""Microgrid: the bill of perfect foresight by linear programming, dynamic programming, and what practitioners run.

Book: evaluation/energy.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linprog
from scipy.sparse import coo_array, csr_array

from ca14lib.environments.applications.microgrid import FEED_IN, POWER_UNIT, STORED, UNSERVED, Microgrid
from ca14lib.environments.batched import require_integer

Array = NDArray[np.float64]
FORECASTS = ("mean", "corrected", "perfect")
MOST_STATES = 2_000  # of the dynamic programme, which looks at all pairs of them
RATIO_RANGE = (0.3, 1.7)  # of today's energy so far to its mean, by which a forecast is corrected


@dataclass(frozen=True, eq=False)
class MicrogridPlan:
    """Powers of all batteries over some steps, and what they cost.

    Attributes:
        bill: Euro, with the change of the stored energy set off as in the game.
        battery: ``[n, T]``, kW at the households' side, positive when charging.
        stored: ``[n, T + 1]``, kWh before the first step and after each.
        line: ``[T]``, the draw in kW before the line's limit.
    """

    bill: float
    battery: Array
    stored: Array
    line: Array


class MicrogridProgram:
    r"""The linear programme of perfect foresight over a number of steps (book eq. energy-lp), for any load and sun.

    Variables of every step: charge, discharge and stored energy of every household; import, unserved load, export and
    curtailed export of all. The game's rules are its constraints, except that powers are continuous: its value bounds
    the bill of every policy of the game from below.

    Args:
        game: The game, for its numbers; it is not touched.
        steps: T, at least 1.
        margin: kW by which imports stay under the line's limit, at least 0 and less than the limit; with one, the value
            is no bound any more.
    """

    def __init__(self, game: Microgrid, steps: int, *, margin: float = 0.0) -> None:
        require_integer("steps", steps, 1)
        if not 0.0 <= margin < game.line_limit:
            raise ValueError(f"margin must be at least 0 and under the limit of {game.line_limit} kW, got {margin}")
        self.game, self.steps = game, steps
        self._matrix = self._equations()
        n, each = game.num_agents, game.num_agents * steps
        no_limit, line = np.full(steps, np.inf), np.full(steps, game.line_limit)
        battery = [np.full(2 * each, game.power), np.full(each, game.capacity)]
        highest = np.concatenate([*battery, line - margin, no_limit, line, no_limit])
        self._bounds = np.stack([np.zeros_like(highest), highest], axis=1)
        self._left = slice(3 * each - n, 3 * each)  # stored energy after the last step

    def _equations(self) -> csr_array:
        """Rows: the storage of every household and step, then the balance of every step."""
        game, steps, n = self.game, self.steps, self.game.num_agents
        each, one, hours = n * steps, game.one_way, game.step_hours
        # variables [step, household], one kind after another
        cell = np.arange(each)
        charge, discharge, stored = cell, each + cell, 2 * each + cell
        line = 3 * each + steps * np.arange(4)[:, None] + np.arange(steps)  # import, unserved, export, curtailed
        balance = each + cell // n
        entries = [
            (cell, stored, 1.0), (cell[n:], stored[:-n], -1.0), (cell, charge, -hours * one),
            (cell, discharge, hours / one), (balance, charge, 1.0), (balance, discharge, -1.0),
        ]  # fmt: skip
        entries += [(each + np.arange(steps), line[kind], sign) for kind, sign in enumerate((-1.0, -1.0, 1.0, 1.0))]
        rows, columns = (np.concatenate([entry[place] for entry in entries]) for place in (0, 1))
        values = np.concatenate([np.full(len(entry[0]), entry[2]) for entry in entries])
        return coo_array((values, (rows, columns)), shape=(each + steps, 3 * each + 4 * steps)).tocsr()

    def solve(self, load: ArrayLike, solar: ArrayLike, stored: ArrayLike, *, start: int = 0) -> MicrogridPlan:
        """The least bill for known load and solar power.

        Args:
            load: kW, ``[n, T]``.
            solar: kW, ``[n, T]``.
            stored: kWh at the start, ``[n]``.
            start: First step, for the prices.
        Raises:
            ValueError: If shapes or numbers do not fit the game.
            RuntimeError: If the solver does not find the optimum.
        """
        game, steps, n = self.game, self.steps, self.game.num_agents
        demand, before = checked_day(game, load, solar, stored, steps, start)
        each, price, hours = n * steps, game.price[start : start + steps], game.step_hours
        objective = np.zeros(len(self._bounds))
        objective[3 * each :] = hours * np.concatenate(
            [price, np.full(steps, UNSERVED), np.full(steps, -FEED_IN), np.zeros(steps)]
        )
        objective[self._left] = -STORED
        known = np.concatenate([before, np.zeros(each - n), -demand.sum(axis=0)])
        found = linprog(objective, A_eq=self._matrix, b_eq=known, bounds=self._bounds, method="highs-ds")
        if found.status != 0:
            raise RuntimeError(f"the linear programme was not solved: {found.message}")
        charge, discharge, after = found.x[: 3 * each].reshape(3, steps, n).transpose(0, 2, 1)
        battery = charge - discharge
        path = np.concatenate([before[:, None], after], axis=1)
        return MicrogridPlan(float(found.fun + STORED * before.sum()), battery, path, (demand + battery).sum(axis=0))


def microgrid_optimum(game: Microgrid, load: ArrayLike, solar: ArrayLike, stored: ArrayLike) -> MicrogridPlan:
    """The least bill of an episode whose load and sun are known from the start: a bound for every policy.

    Args:
        game: For its numbers.
        load: kW, ``[n, H]``.
        solar: kW, ``[n, H]``.
        stored: kWh at the start, ``[n]``.
    Raises:
        ValueError: If shapes or numbers do not fit the game.
    """
    assert game.horizon is not None
    return MicrogridProgram(game, game.horizon).solve(load, solar, stored)


def microgrid_bounds(game: Microgrid) -> Array:
    """:func:`microgrid_optimum`'s bill of every copy's episode after a reset, ``[N]``."""
    assert game.horizon is not None
    program, (load, solar) = MicrogridProgram(game, game.horizon), game.profiles
    return np.array([program.solve(*day).bill for day in zip(load, solar, game.stored, strict=True)])


def microgrid_dynamic_programming(
    game: Microgrid, load: ArrayLike, solar: ArrayLike, stored: ArrayLike, *, points: int = 31
) -> MicrogridPlan:
    r"""The least bill of a known day when a battery only holds multiples of capacity / (points − 1) after each step.

    Backward induction over all combinations of the households' grid points (book eq. energy-dp). A step may go from a
    point to any other that the battery's power allows. That is a part of what the linear programme may do, so its bill
    is at least as high; with more points the two come together.

    Args:
        game: For its numbers, with one or two households.
        load: kW, ``[n, H]``.
        solar: kW, ``[n, H]``.
        stored: kWh at the start, ``[n]``, on the grid.
        points: Grid points of each battery, at least 2.
    Raises:
        ValueError: If there are more households or states than this is for, or the start is not on the grid.
    """
    require_integer("points", points, 2)
    n, horizon = game.num_agents, game.horizon
    if n > 2 or points**n > MOST_STATES:
        raise ValueError(
            f"dynamic programming is for at most 2 households and {MOST_STATES} states, got {n} and {points**n}"
        )
    assert horizon is not None
    demand, before = checked_day(game, load, solar, stored, horizon, 0)
    grid = np.linspace(0.0, game.capacity, points)
    first = np.rint(before / game.capacity * (points - 1)).astype(np.int64)
    if not np.allclose(grid[first], before, atol=1e-9 * game.capacity):
        raise ValueError(f"stored must lie on the grid of {points} points up to {game.capacity}, got {before}")
    change = grid[None, :] - grid[:, None]  # from the first to the second
    power = np.where(change > 0, change / game.one_way, change * game.one_way) / game.step_hours
    power[np.abs(power) > game.power * (1 + 1e-9)] = np.inf
    places = np.stack(np.meshgrid(*[np.arange(points)] * n, indexing="ij"), axis=-1).reshape(-1, n)
    joint = sum(power[np.ix_(places[:, i], places[:, i])] for i in range(n))  # [from, to]
    possible, gained = np.isfinite(joint), grid[places].sum(axis=1)
    credit = STORED * (gained[None, :] - gained[:, None])
    value, choice = np.zeros(len(places)), np.zeros((horizon, len(places)), dtype=np.int64)
    for step in reversed(range(horizon)):
        line = np.where(possible, joint, 0.0) + demand[:, step].sum()
        total = np.where(possible, game.payment(line, game.price[step]) - credit + value, np.inf)
        choice[step] = total.argmin(axis=1)
        value = total.min(axis=1)
    state = int(np.ravel_multi_index(tuple(first), (points,) * n))
    bill, path = float(value[state]), [places[state]]
    for step in range(horizon):
        state = int(choice[step, state])
        path.append(places[state])
    held = np.stack(path)
    battery = power[held[:-1], held[1:]].T
    return MicrogridPlan(bill, battery, grid[held].T, (demand + battery).sum(axis=0))


def checked_day(
    game: Microgrid, load: ArrayLike, solar: ArrayLike, stored: ArrayLike, steps: int, start: int
) -> tuple[Array, Array]:
    """Demand before the batteries in kW ``[n, T]`` and stored energy in kWh ``[n]``.

    Raises:
        ValueError: If a shape or a number does not fit the game.
    """
    n, horizon = game.num_agents, game.horizon
    assert horizon is not None
    if not 0 <= start <= horizon - steps:
        raise ValueError(f"start must leave {steps} of {horizon} steps, got {start}")
    powers = []
    for name, value in (("load", load), ("solar", solar)):
        numbers = np.asarray(value, dtype=np.float64)
        if numbers.shape != (n, steps) or not (np.isfinite(numbers) & (numbers >= 0)).all():
            raise ValueError(f"{name} must be finite kW of at least 0 of shape {(n, steps)}, got shape {numbers.shape}")
        powers.append(numbers)
    before = np.asarray(stored, dtype=np.float64)
    if before.shape != (n,) or not ((before >= 0) & (before <= game.capacity * (1 + 1e-6))).all():
        raise ValueError(f"stored must be {n} energies in kWh from 0 to {game.capacity}, got {before}")
    return powers[0] - powers[1], np.minimum(before, game.capacity)


# What practitioners run: functions of observation and info to actions [N, n], for `TeamEvaluation` and `play`

Policy = Callable[[NDArray, dict[str, Any]], NDArray[np.int64]]


def idle_policy(game: Microgrid) -> Policy:
    """Batteries that are never used: the bill that shares are counted from."""

    def act(observation: NDArray, info: dict[str, Any]) -> NDArray[np.int64]:
        return np.full(observation.shape[:2], game.levels // 2, dtype=np.int64)

    return act


def self_consumption_policy(game: Microgrid, *, common: bool = True) -> Policy:
    """Greedy self-consumption: store what the sun gives too much, use it as soon as there is too little.

    Args:
        game: For its numbers.
        common: Look at the surplus of all households, in equal shares; otherwise each at its own, as a battery does
            that knows nothing of its neighbours.
    """

    def act(observation: NDArray, info: dict[str, Any]) -> NDArray[np.int64]:
        demand = POWER_UNIT * (observation[..., 0] - observation[..., 1]).astype(np.float64)
        if common:
            demand = np.broadcast_to(demand.mean(axis=1, keepdims=True), demand.shape)
        return nearest_levels(game, -demand)

    return act


def nearest_levels(game: Microgrid, wanted: Array) -> NDArray[np.int64]:
    """Actions ``[N, n]`` for wanted powers in kW ``[N, n]``: what rounding takes from a household the next one adds."""
    action = np.zeros(wanted.shape, dtype=np.int64)
    rest, step = np.zeros(len(wanted)), game.level_powers[1] - game.level_powers[0]
    for index in range(wanted.shape[1]):
        target = np.clip(wanted[:, index] + rest, -game.power, game.power)
        action[:, index] = np.rint((target + game.power) / step)
        rest = target - game.level_powers[action[:, index]]
    return action


class RecedingHorizon:
    """Model predictive control: in every step the linear programme over the rest of the episode; its first powers.

    The step's own load and solar power are measured. For the steps after it ``forecast`` says what is expected:
    ``"mean"``, the mean profiles; ``"corrected"``, these times today's energy so far over its mean, each household's
    load and the sun by a ratio of its own, which goes back to 1 with the next day; ``"perfect"``, what will come, which
    only a simulator can tell: beside the bound it shows what the levels cost.

    It remembers the day, so it is for one pass over copies that were reset together.

    Args:
        game: The game, for its numbers and, if the forecast is perfect, for the days to come.
        forecast: One of ``FORECASTS``.
        margin: kW by which planned imports stay under the line's limit, room for rounding to levels and for what the
            forecast does not know.
    Raises:
        ValueError: If there is no such forecast.
    """

    def __init__(self, game: Microgrid, forecast: str = "corrected", *, margin: float = 0.0) -> None:
        if forecast not in FORECASTS:
            raise ValueError(f"forecast must be one of {', '.join(FORECASTS)}, got {forecast!r}")
        self.game, self.forecast, self.margin = game, forecast, margin
        self.mean_load, self.mean_solar = game.mean_profiles()
        self._programs: dict[int, MicrogridProgram] = {}
        self._load_so_far: Array = np.zeros((0, game.num_agents))

    def __call__(self, observation: NDArray, info: dict[str, Any]) -> NDArray[np.int64]:
        """Actions ``[N, n]``, all copies at the same step."""
        game, n = self.game, self.game.num_agents
        assert game.horizon is not None
        state = np.asarray(info["state"], dtype=np.float64)
        step = game.horizon - round(float(state[0, -1]) * game.horizon)
        load, solar, full = POWER_UNIT * state[:, :n], POWER_UNIT * state[:, n : 2 * n], state[:, 2 * n : 3 * n]
        coming = self._coming(step, load, solar, sun=state[:, 3 * n])
        program = self._program(step)
        stored = np.clip(full, 0.0, 1.0) * game.capacity
        plans = [program.solve(*day, start=step) for day in zip(*coming, stored, strict=True)]
        return nearest_levels(game, np.stack([plan.battery[:, 0] for plan in plans]))

    def _program(self, step: int) -> MicrogridProgram:
        assert self.game.horizon is not None
        if step not in self._programs:
            self._programs[step] = MicrogridProgram(self.game, self.game.horizon - step, margin=self.margin)
        return self._programs[step]

    def _coming(self, step: int, load: Array, solar: Array, sun: Array) -> tuple[Array, Array]:
        """Load and solar power ``[N, n, T]`` that are expected from this step on, the step's own as measured."""
        game = self.game
        if self.forecast == "perfect":
            true_load, true_solar = game.profiles
            return true_load[..., step:], true_solar[..., step:]
        length = 24 * game.steps_per_hour
        today = step % length
        self._load_so_far = load.copy() if today == 0 or len(load) != len(self._load_so_far) else (
            self._load_so_far + load
        )  # fmt: skip
        coming_load, coming_solar = (
            np.repeat(mean[None, :, step:], len(load), axis=0) for mean in (self.mean_load, self.mean_solar)
        )
        if self.forecast == "corrected":
            rest = length - today
            expected = self.mean_load[:, step - today : step + 1].sum(axis=1)
            # a few hours say little of the day: as many mean hours as have passed are missing to a quarter day
            trust = min(1.0, 4.0 * (today + 1) / length)
            ratio = np.clip(1.0 + trust * (self._load_so_far / expected - 1.0), *RATIO_RANGE)
            coming_load[..., :rest] *= ratio[..., None]
            coming_solar[..., :rest] *= np.clip(sun, *RATIO_RANGE)[:, None, None]
        coming_load[..., 0], coming_solar[..., 0] = load, solar
        return coming_load, coming_solar


def play(game: Microgrid, policy: Policy, *, seed: int) -> dict[str, Array]:
    """One episode of every copy, to the end.

    Args:
        game: Reset with the seed.
        policy: Function of observation and info to actions.
        seed: Fixes the days.
    Returns:
        ``bill`` in euro, ``unserved`` and ``curtailed`` in kWh, ``overloaded`` steps in which the line could not carry
        the import, ``[N]`` each; and by step ``line`` ``[N, H]``, ``battery`` ``[N, n, H]`` in kW and ``stored``
        ``[N, n, H]`` in kWh after each step.
    """
    observation, info = game.reset(seed=seed)
    assert game.horizon is not None
    rows = []
    for _ in range(game.horizon):
        observation, _, terminated, _, info = game.step(policy(observation, info))
        rows.append(info["final_info"] if terminated.any() else info)
    steps = {name: np.stack([row[name] for row in rows], axis=-1) for name in rows[0]}
    return {
        "bill": steps["bill"].sum(axis=-1), "unserved": steps["cost"].sum(axis=-1),
        "curtailed": steps["curtailed"].sum(axis=-1), "overloaded": (steps["cost"] > 1e-9).sum(axis=-1).astype(float),
        "line": steps["line"], "battery": steps["battery"], "stored": steps["stored"],
    }  # fmt: skip
