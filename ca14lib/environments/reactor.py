"""Reactor: a cooled stirred tank with a reaction that feeds on its own heat. Book: safe/environments.

Source: D. E. Seborg, T. F. Edgar, D. A. Mellichamp and F. J. Doyle, Process Dynamics and Control, 3rd edition (Wiley,
2011), example 2.5 with its nominal values; feed disturbances, set points and limits are the course's.
"""

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from ca14lib.environments.batched import BatchedEnvironment, SingleEnvironment, require_integer

FLOW = 100.0  # q, L/min
VOLUME = 100.0  # V, L
HEAT_CAPACITY = 1000.0 * 0.239  # ρ C, J/(L K)
REACTION_HEAT = 5e4  # −ΔH, J/mol
ACTIVATION = 8750.0  # E/R, K
RATE_FACTOR = 7.2e10  # k₀, 1/min
HEAT_TRANSFER = 5e4  # UA, J/(min K)
EXCHANGE = HEAT_TRANSFER / (VOLUME * HEAT_CAPACITY)  # 1/min, per K between jacket and tank
HEATING = REACTION_HEAT / HEAT_CAPACITY  # 209 K per mol/L that has reacted
FEED_CONCENTRATION = 1.0  # mol/L
FEED_TEMPERATURE = 350.0  # K
NOMINAL_CONCENTRATION, NOMINAL_TEMPERATURE, NOMINAL_COOLANT = 0.5, 350.0, 300.0  # an unstable steady state
COOLANT_RANGE = 20.0  # K on either side of the nominal

CONTROL_INTERVAL = 0.1  # min
FEED_STEP, FEED_MEMORY, FEED_BOUND = 0.5, 0.95, 5.0  # K; of the feed temperature's deviation
SET_POINTS = (0.35, 0.60)  # mol/L
CONCENTRATION_UNIT, TEMPERATURE_UNIT = 0.1, 10.0  # of the observation: mol/L and K
BREEDING_SHARE, CONSUMPTION_SHARE = 0.2, 0.5  # integration step as a share of a time constant; 2.8 is unstable


def reaction_rate(temperature: NDArray[np.float64]) -> NDArray[np.float64]:
    """Arrhenius' rate constant k(T) in 1/min, any shape; T in K."""
    return RATE_FACTOR * np.exp(-ACTIVATION / temperature)


class ReactorVector(BatchedEnvironment):
    r"""``CA14/Reactor-v0``, batched: hold the concentration at its set point without overheating.

    A reactant A flows in, reacts to the product and gives off heat; a jacket cools. With concentration
    :math:`x_1` (mol/L) and temperature :math:`x_2` (K), time in minutes,

    .. math::

        \dot x_1 = \tfrac{q}{V}(c_f - x_1) - k(x_2)\,x_1, \qquad
        \dot x_2 = \tfrac{q}{V}(T_f - x_2) + \tfrac{-\Delta H}{\rho C} k(x_2)\,x_1 + \tfrac{UA}{V\rho C}(T_c - x_2),

    which is affine in the coolant temperature :math:`T_c`: :meth:`drift` and :meth:`input_gain` are the two parts. At
    :math:`T_c = 300` K the point (0.5, 350) is a steady state and unstable: left alone the reactor goes out
    (0.88 mol/L, 324 K) or, with a slightly warmer jacket, runs away beyond 430 K within minutes.

    * Action, ``Box(−1, 1, (1,))``: :math:`T_c = 300 + 20a` K, held for 0.1 minutes.
    * Observation ``[5]``, float32: ``(x₁ − 0.5) / 0.1``, ``(x₂ − 350) / 10``, ``(set point − x₁) / 0.1``,
      ``(set point − 0.5) / 0.1`` and ``(T_f − 350) / 10``; :meth:`state` and :meth:`feed` undo the scaling.
    * Reward: minus ten times the distance :math:`|x_1 - \text{set point}|` in mol/L after the step.
    * ``info["cost"]``, shape ``[N, 2]``: 1 where the temperature is above ``temperature_limit`` after the step, and
      1 where the concentration is above ``concentration_limit``: unreacted A is what a runaway burns.
    * Disturbance: the feed temperature, a mean-reverting random walk within 350 ± 5 K, observed. The set point, uniform
      over 0.35 to 0.6 mol/L, is drawn anew every ``set_point_steps``. Under the default limit those below 0.41 mol/L
      cannot be held.
    * The limit of 200 steps is an artefact (``truncated``); nothing ends an episode early, runaways included.

    Args:
        num_envs: Number of copies.
        temperature_limit: K.
        concentration_limit: mol/L.
        set_point_steps: Steps between two draws of the set point.
        time_limit: Artificial limit on the steps of an episode, or None.
        render_mode: Must be None.

    Raises:
        ValueError: If a number is out of range.
    """

    metadata = BatchedEnvironment.metadata | {"render_modes": []}

    def __init__(
        self,
        num_envs: int = 1,
        *,
        temperature_limit: float = 355.0,
        concentration_limit: float = 0.65,
        set_point_steps: int = 50,
        time_limit: int | None = 200,
        render_mode: str | None = None,
    ) -> None:
        if not np.isfinite(temperature_limit) or temperature_limit <= 0:
            raise ValueError(f"temperature_limit must be a temperature in K, got {temperature_limit}")
        if not 0.0 < concentration_limit <= FEED_CONCENTRATION:
            raise ValueError(
                f"concentration_limit must lie in (0, {FEED_CONCENTRATION}] mol/L, got {concentration_limit}"
            )
        require_integer("set_point_steps", set_point_steps, 1)
        # T + 209 x₁ cannot leave the range that feed and coolant span: rigorous bounds for every policy
        hottest = FEED_TEMPERATURE + FEED_BOUND + HEATING * FEED_CONCENTRATION
        coldest = NOMINAL_COOLANT - COOLANT_RANGE
        low = self._scaled(0.0, coldest, SET_POINTS[0], FEED_TEMPERATURE - FEED_BOUND)
        high = self._scaled(FEED_CONCENTRATION, hottest, SET_POINTS[1], FEED_TEMPERATURE + FEED_BOUND)
        low[2] = (SET_POINTS[0] - FEED_CONCENTRATION) / CONCENTRATION_UNIT
        high[2] = SET_POINTS[1] / CONCENTRATION_UNIT
        super().__init__(
            num_envs,
            gym.spaces.Box(low.astype(np.float32), high.astype(np.float32)),
            gym.spaces.Box(-1.0, 1.0, (1,), dtype=np.float32),
            time_limit=time_limit,
            render_mode=render_mode,
        )
        self.temperature_limit, self.concentration_limit = float(temperature_limit), float(concentration_limit)
        self.set_point_steps = set_point_steps
        self._x = np.tile([NOMINAL_CONCENTRATION, NOMINAL_TEMPERATURE], (num_envs, 1))
        self._feed = np.full(num_envs, FEED_TEMPERATURE)
        self._set_point = np.full(num_envs, NOMINAL_CONCENTRATION)
        self._cost = np.zeros((num_envs, 2))

    # The process, as a controller or a barrier function sees it

    @staticmethod
    def coolant_temperature(action: NDArray[np.float64]) -> NDArray[np.float64]:
        """T_c in K of actions in [−1, 1], any shape."""
        return NOMINAL_COOLANT + COOLANT_RANGE * np.asarray(action, dtype=np.float64)

    @staticmethod
    def drift(state: NDArray[np.float64], feed: NDArray[np.float64] | float = FEED_TEMPERATURE) -> NDArray[np.float64]:
        """The rate of change at action 0, per minute.

        Args:
            state: Concentration (mol/L) and temperature (K), ``[N, 2]``.
            feed: Feed temperature in K, ``[N]`` or one number.
        Returns:
            ``[N, 2]``: the state changes by ``drift + input_gain @ action`` per minute.
        """
        concentration, temperature = np.asarray(state, dtype=np.float64).T
        warmth = FLOW / VOLUME * np.asarray(feed, dtype=np.float64) + EXCHANGE * NOMINAL_COOLANT
        return np.stack(ReactorVector._rates(concentration, temperature, warmth), axis=-1)

    @staticmethod
    def input_gain(state: NDArray[np.float64]) -> NDArray[np.float64]:
        """What one unit of action adds to the rate of change, ``[N, 2, 1]``, per minute: (0, 41.8) everywhere."""
        gain = np.zeros((len(state), 2, 1))
        gain[:, 1, 0] = COOLANT_RANGE * EXCHANGE
        return gain

    @staticmethod
    def state(observation: NDArray) -> NDArray[np.float64]:
        """Concentration (mol/L) and temperature (K) that observations ``[N, 5]`` show, ``[N, 2]``."""
        observation = np.asarray(observation, dtype=np.float64)
        return np.stack(
            [
                NOMINAL_CONCENTRATION + CONCENTRATION_UNIT * observation[:, 0],
                NOMINAL_TEMPERATURE + TEMPERATURE_UNIT * observation[:, 1],
            ],
            axis=-1,
        )

    @staticmethod
    def feed(observation: NDArray) -> NDArray[np.float64]:
        """Feed temperature in K that observations ``[N, 5]`` show, ``[N]``."""
        return FEED_TEMPERATURE + TEMPERATURE_UNIT * np.asarray(observation, dtype=np.float64)[:, 4]

    @classmethod
    def integrate(
        cls,
        state: NDArray[np.float64],
        action: NDArray[np.float64],
        feed: NDArray[np.float64] | float = FEED_TEMPERATURE,
        minutes: float = CONTROL_INTERVAL,
    ) -> NDArray[np.float64]:
        """The state ``[N, 2]`` after some minutes under constant actions ``[N, 1]``, by fourth-order Runge-Kutta steps.

        Every copy takes steps of its own, so that a runaway, a thousand times faster than normal operation, is followed
        too, and what happens to one copy does not depend on the others.
        """
        concentration, temperature = np.array(state, dtype=np.float64).T
        push = COOLANT_RANGE * EXCHANGE * np.asarray(action, dtype=np.float64)[:, 0]
        # all that does not depend on the state: the feed's heat and the jacket's
        warmth = FLOW / VOLUME * np.broadcast_to(feed, push.shape) + EXCHANGE * NOMINAL_COOLANT + push
        left, running = np.full(len(push), float(minutes)), np.arange(len(push))
        while running.size:
            # while every copy runs, plain views spare the gathering
            rows: NDArray[np.intp] | slice = slice(None) if running.size == len(push) else running
            c, t, w = concentration[rows], temperature[rows], warmth[rows]
            step = np.minimum(left[rows], cls._step_size(c, t))
            c1, t1 = cls._rates(c, t, w)
            c2, t2 = cls._rates(c + step / 2 * c1, t + step / 2 * t1, w)
            c3, t3 = cls._rates(c + step / 2 * c2, t + step / 2 * t2, w)
            c4, t4 = cls._rates(c + step * c3, t + step * t3, w)
            concentration[rows] = c + step / 6 * (c1 + 2 * (c2 + c3) + c4)
            temperature[rows] = t + step / 6 * (t1 + 2 * (t2 + t3) + t4)
            left[rows] -= step
            running = np.flatnonzero(left > 1e-12)
        return np.stack([concentration, temperature], axis=-1)

    @staticmethod
    def _rates(
        concentration: NDArray[np.float64], temperature: NDArray[np.float64], warmth: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The two rates of change, given the heat that feed and jacket bring, in K/min."""
        reacting = reaction_rate(temperature) * concentration
        return (
            FLOW / VOLUME * (FEED_CONCENTRATION - concentration) - reacting,
            warmth - (FLOW / VOLUME + EXCHANGE) * temperature + HEATING * reacting,
        )

    @staticmethod
    def _step_size(concentration: NDArray[np.float64], temperature: NDArray[np.float64]) -> NDArray[np.float64]:
        """Minutes that one integration step may take, ``[N]``: a share of the time constants in force.

        Heat that breeds heat has to be followed closely; the consumption of what little A is left when it is hot only
        has to stay stable.
        """
        rate = reaction_rate(temperature)
        breeding = FLOW / VOLUME + EXCHANGE + rate * HEATING * ACTIVATION * concentration / temperature**2
        return np.minimum(BREEDING_SHARE / breeding, CONSUMPTION_SHARE / (rate + FLOW / VOLUME))

    # What the batched core asks for

    def spawn(self, num_envs: int) -> "ReactorVector":
        return type(self)(
            num_envs,
            temperature_limit=self.temperature_limit,
            concentration_limit=self.concentration_limit,
            set_point_steps=self.set_point_steps,
            time_limit=self.time_limit,
        )

    def _restart(self, count: int, options: dict[str, Any] | None) -> NDArray[np.float64]:
        """Rows of concentration (0.45 to 0.55 mol/L), temperature (345 to 352 K) and set point, uniform."""
        return self.np_random.uniform((0.45, 345.0, SET_POINTS[0]), (0.55, 352.0, SET_POINTS[1]), size=(count, 3))

    def _place(self, where: NDArray[np.intp] | slice, states: NDArray[np.float64]) -> None:
        self._x[where], self._set_point[where] = states[:, :2], states[:, 2]
        self._feed[where] = FEED_TEMPERATURE
        self._cost[where] = 0.0

    def _transition(self, action: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        self._x = self.integrate(self._x, action, self._feed)
        self._cost = (self._x[:, ::-1] > (self.temperature_limit, self.concentration_limit)).astype(np.float64)
        reward = -abs(self._x[:, 0] - self._set_point) / CONCENTRATION_UNIT
        deviation = FEED_MEMORY * (self._feed - FEED_TEMPERATURE) + FEED_STEP * self.np_random.standard_normal(
            self.num_envs
        )
        self._feed = FEED_TEMPERATURE + np.clip(deviation, -FEED_BOUND, FEED_BOUND)
        due = np.flatnonzero((self._elapsed + 1) % self.set_point_steps == 0)
        if due.size:
            self._set_point[due] = self.np_random.uniform(*SET_POINTS, size=due.size)
        return reward, np.zeros(self.num_envs, dtype=np.bool_)

    def _observe(self) -> NDArray[np.float32]:
        return self._scaled(self._x[:, 0], self._x[:, 1], self._set_point, self._feed).T.astype(np.float32)

    @staticmethod
    def _scaled(concentration: Any, temperature: Any, set_point: Any, feed: Any) -> NDArray[np.float64]:
        return np.stack(
            [
                (concentration - NOMINAL_CONCENTRATION) / CONCENTRATION_UNIT,
                (temperature - NOMINAL_TEMPERATURE) / TEMPERATURE_UNIT,
                (set_point - concentration) / CONCENTRATION_UNIT,
                (set_point - NOMINAL_CONCENTRATION) / CONCENTRATION_UNIT,
                (feed - FEED_TEMPERATURE) / TEMPERATURE_UNIT,
            ]
        )

    def _information(self) -> dict[str, Any]:
        return {"cost": self._cost.copy()}


class Reactor(SingleEnvironment):
    """``CA14/Reactor-v0``; takes the arguments of :class:`ReactorVector` but ``num_envs``."""

    metadata = {"render_modes": []}

    def __init__(self, **parameters: Any) -> None:
        super().__init__(ReactorVector(1, **parameters))
