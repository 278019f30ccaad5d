"""Microgrid: households with solar panels and batteries behind one feeder line. Book: evaluation/energy."""

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ca14lib.environments.batched import require_integer
from ca14lib.environments.multi_agent import MultiAgentEnvironment
from ca14lib.environments.target_grid import AGENT_COLOURS

Array = NDArray[np.float64]

# euro per kWh bought, by the hour at which the price begins: night, day, evening, night again
TARIFF = ((0, 0.20), (6, 0.28), (17, 0.42), (22, 0.20))
FEED_IN = 0.08  # euro per kWh sold
UNSERVED = 2.0  # euro per kWh of load that the line cannot carry and that stays without power
STORED = 0.18  # euro per kWh in a battery, by which the energy left at the end is compared with that at the start

LOAD_SCALES = (1.0, 0.8, 1.2, 0.9)  # of the households, over again from the fifth on
SOLAR_PEAKS = (4.0, 5.0, 3.0, 4.0)  # kW at noon under a clear sky
BASE, PEAKS = 0.4, ((1.2, 7.5, 1.2), (2.2, 19.5, 1.8))  # kW; height in kW, hour and width in hours of each peak
CLEARNESS, CLEARNESS_SPREAD = 0.6, 0.4  # of a day's sky: uniform within this distance of the mean
CLOUD_DEVIATION, CLOUD_MEMORY = 0.25, 0.6  # of the logarithm of the solar power, per hour
DAY_DEVIATION, LOAD_DEVIATION, LOAD_MEMORY = 0.15, 0.3, 0.5  # of the logarithm of a load: of a day, and within it
POWER_UNIT = 4.0  # kW, of loads and solar powers in observations
START_RANGE = (0.1, 0.5)  # share of the capacity that is stored at midnight
PICTURE = 96  # pixels


class Microgrid(MultiAgentEnvironment):
    r"""``"Microgrid"``, batched: n households run their batteries so that the bill at their common meter is least.

    **A step** lasts :math:`\Delta` = 1 / ``steps_per_hour`` hours. Household i has load :math:`\ell^i` and solar power
    :math:`g^i` in kW, means over the step, and knows both when the step begins. Its action is a level of
    :math:`-1,\dots,1` in equal distances, times the power of the battery: discharge, idle, charge. With one-way
    efficiency :math:`\sqrt\eta` the battery follows book eq. energy-battery; what would leave the range from empty to
    full is cut. All households together draw :math:`b=\sum_i \ell^i-g^i+p^i` kW from the line.

    **The line** carries :math:`|b|\le L`. Import beyond L is not delivered: that load stays without power, which is
    fined with 2 euro/kWh. Export beyond L is curtailed: it is lost and pays nothing. What is carried is bought at the
    tariff (0.20 euro/kWh from 22 h to 6 h, 0.28 to 17 h, 0.42 to 22 h) or sold at 0.08 euro/kWh.

    **Rewards.** Every household gets an equal share of minus the bill of the step (book eq. energy-bill). The bill
    counts 0.18 euro for every kWh that leaves the batteries and pays as much for every kWh that enters, so that over
    an episode the energy left is set off against that at the start.

    **Days** are drawn at the reset, load and solar power of all steps, so that a seed fixes the days whatever is done.
    With h the hour of the middle of a step, the mean load is
    :math:`k_i\,(0.4+1.2\,e^{-(h-7.5)^2/(2\cdot 1.2^2)}+2.2\,e^{-(h-19.5)^2/(2\cdot 1.8^2)})` kW, with
    :math:`k_i` = 1, 0.8, 1.2, 0.9, and the mean solar power :math:`0.6\,s_i\sin^{1.5}(\pi(h-6)/12)` from 6 h to 18 h,
    with :math:`s_i` = 4, 5, 3, 4 kW, times ``sunshine``. All households have the same sky: each day 0.6 is replaced by
    a clearness uniform in [0.2, 1], and clouds multiply the solar power by :math:`e^{x-\sigma^2/2}` with an
    autoregressive x of deviation :math:`\sigma=0.25` and a correlation of 0.6 after an hour. Loads are multiplied
    likewise, each household on its own: by a factor of the day (0.15) and one of the hour (0.3, correlation 0.5). The
    factors have mean 1: :meth:`mean_profiles` is exact. ``noise`` scales all deviations; at 0 every day is the mean.

    **Observation** of household i, float32, of size 10: its load and solar power divided by 4 kW, the share of its
    battery that is full, the draw of all households without batteries divided by L, the mean share that is full,
    today's solar energy so far divided by its mean at ``sunshine`` 1 (1 before sunrise, at most 2), the price divided
    by the highest, sine and cosine of the hour, and the share of the horizon that is left. **State**, of size 3n + 5:
    all loads, solar powers and shares, then today's sun, price, sine, cosine and horizon. **Starts**: midnight,
    batteries 10% to 50% full, uniform.
    ``reset(options={"load": …, "solar": …, "stored": …})`` sets load and solar power in kW, ``[n, H]`` or
    ``[N, n, H]``, and the stored energy in kWh, ``[n]`` or ``[N, n]``, all three together. The end after ``days`` is
    part of the task: it terminates.

    ``info``: ``"cost"`` ``[N]``, kWh of load in this step that the line could not carry; ``"curtailed"`` ``[N]``, kWh
    of export lost; ``"line"`` ``[N]``, the draw b in kW before the line's limit; ``"bill"`` ``[N]``, euro of the step;
    ``"stored"`` ``[N, n]``, kWh; ``"battery"`` ``[N, n]``, kW, positive when charging.

    Args:
        num_envs: Number of copies.
        num_agents: n households, at least 1.
        days: Length of an episode, at least 1.
        steps_per_hour: At least 1; 2 for half-hourly steps.
        capacity: Of each battery in kWh, positive.
        power: Of each battery in kW at the household's side, positive.
        efficiency: :math:`\eta` of a round trip, in (0, 1].
        line_limit: L in kW, positive.
        levels: Number of actions, odd, at least 3.
        noise: Scale of all deviations, in [0, 1].
        sunshine: Factor of all solar power, at least 0.
        render_mode: ``"rgb_array"`` or None.

    Raises:
        ValueError: If an argument is out of range.
    """

    least_agents = 1

    def __init__(
        self,
        num_envs: int = 1,
        *,
        num_agents: int = 3,
        days: int = 1,
        steps_per_hour: int = 1,
        capacity: float = 6.0,
        power: float = 2.5,
        efficiency: float = 0.9,
        line_limit: float = 5.5,
        levels: int = 9,
        noise: float = 1.0,
        sunshine: float = 1.0,
        render_mode: str | None = None,
    ) -> None:
        for name, value, least in (
            ("num_agents", num_agents, self.least_agents), ("days", days, 1), ("steps_per_hour", steps_per_hour, 1),
            ("levels", levels, 3),
        ):  # fmt: skip
            require_integer(name, value, least)
        if levels % 2 == 0:
            raise ValueError(f"levels must be odd, one of them is idle, got {levels}")
        for name, number in (("capacity", capacity), ("power", power), ("line_limit", line_limit)):
            if not (np.isfinite(number) and number > 0):
                raise ValueError(f"{name} must be positive and finite, got {number}")
        if not 0.0 < efficiency <= 1.0:
            raise ValueError(f"efficiency must lie in (0, 1], got {efficiency}")
        if not 0.0 <= noise <= 1.0:
            raise ValueError(f"noise must lie in [0, 1], got {noise}")
        if not (np.isfinite(sunshine) and sunshine >= 0.0):
            raise ValueError(f"sunshine must be finite and at least 0, got {sunshine}")
        self.days, self.steps_per_hour, self.levels = days, steps_per_hour, levels
        self.capacity, self.power, self.efficiency = float(capacity), float(power), float(efficiency)
        self.line_limit, self.noise, self.sunshine = float(line_limit), float(noise), float(sunshine)
        self.step_hours, self.one_way = 1.0 / steps_per_hour, float(np.sqrt(efficiency))
        n, horizon = num_agents, 24 * days * steps_per_hour
        low = np.zeros(10, dtype=np.float32)
        low[3], low[7:9] = -np.inf, -1.0
        state_low = np.zeros(3 * n + 5, dtype=np.float32)
        state_low[3 * n + 2 : 3 * n + 4] = -1.0
        super().__init__(
            num_envs,
            num_agents,
            gym.spaces.Box(low, np.full(10, np.inf, dtype=np.float32), dtype=np.float32),
            gym.spaces.Discrete(levels),
            gym.spaces.Box(state_low, np.full(3 * n + 5, np.inf, dtype=np.float32), dtype=np.float32),
            time_limit=None,
            horizon=horizon,
            render_mode=render_mode,
        )
        self.level_powers = self.power * np.linspace(-1.0, 1.0, levels)  # kW, by action
        self.hours: Array = np.asarray(
            (np.arange(horizon) + 0.5) * self.step_hours % 24.0, dtype=np.float64
        )  # of the middle of every step
        starts, prices = np.array(TARIFF).T
        self.price: Array = prices[np.searchsorted(starts, self.hours, side="right") - 1]
        # a place after the last step: what is seen at the end
        self._load, self._solar = (np.zeros((num_envs, n, horizon + 1)) for _ in range(2))
        self._sun = np.ones((num_envs, horizon + 1))
        self._stored = np.zeros((num_envs, n))
        self._battery = np.zeros((num_envs, n))
        self._line, self._unserved, self._curtailed, self._bill = np.zeros((4, num_envs))
        self._mean_load, self._mean_solar = self.mean_profiles()
        peaks: Array = np.resize(SOLAR_PEAKS, n)[:, None]
        self._usual_sun = peaks * CLEARNESS * _height(self.hours)  # at sunshine 1

    def spawn(self, num_envs: int) -> "Microgrid":
        return type(self)(num_envs, **self.parameters())

    def parameters(self) -> dict[str, Any]:
        """The arguments of the constructor but ``num_envs`` and ``render_mode``."""
        names = (
            "num_agents", "days", "steps_per_hour", "capacity", "power", "efficiency", "line_limit", "levels", "noise",
            "sunshine",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names}

    # Days

    def mean_profiles(self) -> tuple[Array, Array]:
        """Expected load and solar power in kW, ``[n, H]`` each: what a forecast knows that has only seen other days."""
        hour = self.hours
        day: Array = np.zeros(len(hour))
        for top, at, width in PEAKS:
            day = day + top * np.exp(-((hour - at) ** 2) / (2 * width**2))
        scales, peaks = (np.resize(values, self.num_agents) for values in (LOAD_SCALES, SOLAR_PEAKS))
        return np.outer(scales, BASE + day), self.sunshine * np.outer(peaks, CLEARNESS * _height(hour))

    @property
    def profiles(self) -> tuple[Array, Array]:
        """Load and solar power of the whole episode in kW, past and future, ``[N, n, H]`` each: not for agents."""
        return self._load[..., :-1].copy(), self._solar[..., :-1].copy()

    @property
    def stored(self) -> Array:
        """Energy in the batteries now, kWh, ``[N, n]``."""
        return self._stored.copy()

    def _restart(self, count: int, options: dict[str, Any] | None) -> tuple[Array, Array, Array]:
        """Load and solar power ``[count, n, H]`` and stored energy ``[count, n]``."""
        shape = (count, self.num_agents)
        known = {"load", "solar", "stored"} & set(options or {})
        if known:
            if len(known) < 3:
                raise ValueError(f"options must hold 'load', 'solar' and 'stored', got {sorted(known)}")
            assert options is not None
            assert self.horizon is not None
            load, solar = (_given(name, options[name], (*shape, self.horizon)) for name in ("load", "solar"))
            stored = _given("stored", options["stored"], shape)
            if stored.max() > self.capacity:
                raise ValueError(f"stored must be at most the capacity of {self.capacity} kWh, got {stored.max()}")
            return load, solar, stored
        draw = self.np_random
        stored = self.capacity * draw.uniform(*START_RANGE, size=shape)
        clearness = 1.0 + self.noise * CLEARNESS_SPREAD / CLEARNESS * draw.uniform(-1.0, 1.0, (count, self.days))
        clouds = self._factors((count,), CLOUD_DEVIATION, CLOUD_MEMORY)
        solar = self._mean_solar * (self._every_step(clearness) * clouds)[:, None]
        deviation = self.noise * DAY_DEVIATION
        day = np.exp(deviation * draw.standard_normal((*shape, self.days)) - deviation**2 / 2)
        load = self._mean_load * self._every_step(day) * self._factors(shape, LOAD_DEVIATION, LOAD_MEMORY)
        return load, solar, stored

    def _every_step(self, by_day: Array) -> Array:
        return np.repeat(by_day, 24 * self.steps_per_hour, axis=-1)

    def _factors(self, shape: tuple[int, ...], deviation: float, memory: float) -> Array:
        """Log-normal factors ``[*shape, H]`` of mean 1 with an autoregressive logarithm."""
        assert self.horizon is not None
        deviation, kept = self.noise * deviation, memory**self.step_hours
        values = self.np_random.standard_normal((*shape, self.horizon))
        for step in range(1, self.horizon):
            values[..., step] = kept * values[..., step - 1] + np.sqrt(1.0 - kept**2) * values[..., step]
        return np.exp(deviation * values - deviation**2 / 2)

    def _place(self, where: NDArray[np.intp] | slice, states: tuple[Array, Array, Array]) -> None:
        load, solar, self._stored[where] = states
        self._load[where, :, :-1], self._solar[where, :, :-1] = load, solar
        self._sun[where] = self._sun_so_far(solar)
        self._battery[where] = 0.0
        for values in (self._line, self._unserved, self._curtailed, self._bill):
            values[where] = 0.0

    def _sun_so_far(self, solar: Array) -> Array:
        """Today's solar energy, the step's own included, as a share of the mean at sunshine 1, ``[N, H + 1]``."""
        length = 24 * self.steps_per_hour
        measured, expected = (
            values.sum(axis=-2).reshape(-1, self.days, length).cumsum(axis=-1) for values in (solar, self._usual_sun)
        )
        risen = np.broadcast_to(expected > 1e-9, measured.shape)
        share = np.divide(measured, expected, out=np.ones_like(measured), where=risen).clip(0.0, 2.0)
        return np.pad(share.reshape(len(solar), -1), ((0, 0), (0, 1)), constant_values=1.0)

    # Physics and money, as solvers and tests use them

    def battery(self, stored: Array, wanted: Array) -> tuple[Array, Array]:
        """What batteries do with wanted powers (book eq. energy-battery).

        Args:
            stored: Energy in kWh, any shape.
            wanted: Power in kW, positive to charge, same shape; within the battery's power.
        Returns:
            The power at the household's side, cut to what fits, and the energy after the step.
        """
        hours, one_way = self.step_hours, self.one_way
        charge = np.minimum(np.maximum(wanted, 0.0), (self.capacity - stored) / (one_way * hours))
        discharge = np.minimum(np.maximum(-wanted, 0.0), stored * one_way / hours)
        after = stored + hours * (one_way * charge - discharge / one_way)
        return charge - discharge, np.clip(after, 0.0, self.capacity)  # rounding may leave the range by 1e-16

    def payment(self, line: Array, price: Array | float) -> Array:
        """Euro for a step with a draw from the line in kW, negative for export (book eq. energy-bill).

        Args:
            line: Draw before the limit, any shape.
            price: Of buying, euro/kWh, broadcast against ``line``.
        """
        carried = np.clip(line, -self.line_limit, self.line_limit)
        bought, sold = np.maximum(carried, 0.0), np.maximum(-carried, 0.0)
        unserved = np.maximum(line - self.line_limit, 0.0)
        return self.step_hours * (price * bought - FEED_IN * sold + UNSERVED * unserved)

    # What the batched core asks for

    def _transition(self, action: NDArray[np.int64]) -> tuple[Array, NDArray[np.bool_]]:
        rows, now = np.arange(self.num_envs), self._elapsed
        before = self._stored
        self._battery, self._stored = self.battery(before, self.level_powers[action])
        demand = self._load[rows, :, now] - self._solar[rows, :, now]
        self._line = (demand + self._battery).sum(axis=1)
        self._unserved = self.step_hours * np.maximum(self._line - self.line_limit, 0.0)
        self._curtailed = self.step_hours * np.maximum(-self._line - self.line_limit, 0.0)
        self._bill = self.payment(self._line, self.price[now]) - STORED * (self._stored - before).sum(axis=1)
        share = -self._bill / self.num_agents
        return np.repeat(share[:, None], self.num_agents, axis=1), np.zeros(self.num_envs, dtype=np.bool_)

    def _now(self) -> tuple[Array, Array, Array, Array, NDArray[np.float32]]:
        """Load, solar power and full share ``[N, n]``; what all know of sun, price, hour ``[N, 4]``; what is left."""
        rows, now = np.arange(self.num_envs), self._elapsed
        last = np.minimum(now, len(self.price) - 1)
        angle = 2.0 * np.pi * self.hours[last] / 24.0
        price = self.price[last] / max(price for _, price in TARIFF)
        known = [self._sun[rows, now], price, np.sin(angle), np.cos(angle)]
        return (
            self._load[rows, :, now], self._solar[rows, :, now], self._stored / self.capacity,
            np.stack(known, axis=-1), self._remaining(),
        )  # fmt: skip

    def _observe(self) -> NDArray[np.float32]:
        load, solar, full, known, left = self._now()
        seen = np.empty((self.num_envs, self.num_agents, 10), dtype=np.float32)
        seen[..., 0], seen[..., 1], seen[..., 2] = load / POWER_UNIT, solar / POWER_UNIT, full
        seen[..., 3] = (load - solar).sum(axis=1, keepdims=True) / self.line_limit
        seen[..., 4] = full.mean(axis=1, keepdims=True)
        seen[..., 5:9], seen[..., 9] = known[:, None], left[:, None]
        return seen

    def _state(self) -> NDArray[np.float32]:
        load, solar, full, known, left = self._now()
        parts = (load / POWER_UNIT, solar / POWER_UNIT, full, known, left[:, None])
        return np.concatenate(parts, axis=1).astype(np.float32)

    def _report(self) -> dict[str, Any]:
        return {
            "cost": self._unserved.copy(), "curtailed": self._curtailed.copy(), "line": self._line.copy(),
            "bill": self._bill.copy(), "stored": self._stored.copy(), "battery": self._battery.copy(),
        }  # fmt: skip

    def _frame(self, index: int) -> NDArray[np.uint8]:
        """One bar per battery, as high as it is full, and the line's draw against its limit along the lower edge."""
        picture = np.full((PICTURE, PICTURE, 3), 255, dtype=np.uint8)
        width, ground = PICTURE // self.num_agents, PICTURE - 12
        for number, full in enumerate(self._stored[index] / self.capacity):
            top = ground - round(full * (ground - 4))
            picture[top:ground, number * width + 2 : (number + 1) * width - 2] = AGENT_COLOURS[number % 7]
        share = min(abs(self._line[index]) / self.line_limit, 1.0)
        over = abs(self._line[index]) > self.line_limit
        picture[PICTURE - 8 : PICTURE - 2, : round(share * PICTURE)] = (200, 0, 0) if over else (90, 90, 90)
        return picture


def _height(hour: Array) -> Array:
    """Solar power under a clear sky as a share of its value at noon: 0 before 6 h and after 18 h."""
    return np.where((hour > 6.0) & (hour < 18.0), np.clip(np.sin(np.pi * (hour - 6.0) / 12.0), 0.0, None) ** 1.5, 0.0)


def _given(name: str, value: ArrayLike, shape: tuple[int, ...]) -> Array:
    numbers = np.asarray(value, dtype=np.float64)
    if numbers.shape not in (shape, shape[1:]) or not (np.isfinite(numbers) & (numbers >= 0)).all():
        raise ValueError(
            f"{name} must be finite numbers of at least 0 of shape {shape[1:]} or {shape}, got shape {numbers.shape}"
        )
    return np.broadcast_to(numbers, shape)
