"""Cart-pole, pendulum and hopper whose physics differ from episode to episode. Book: robust/environments.

A **domain** is a set of physical parameters: masses, lengths, friction, the gain and the delay of the actuator. Every
copy draws its own at the start of every episode, uniformly from ranges, with the environment's seeded generator. At the
nominal parameters cart-pole and pendulum are Gymnasium's, step for step.
"""

import itertools
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ca14lib.environments.batched import BatchedEnvironment, SingleEnvironment, require_integer

Range = tuple[float, float]
Ranges = Mapping[str, "float | Range"]

LONGEST_DELAY = 10  # steps


class Parameter(NamedTuple):
    """A physical parameter: its nominal value and what it may be."""

    nominal: float
    low: float
    high: float
    unit: str
    whole: bool = False  # a number of steps


# Ranges of parameters, and what is done with them


def checked_range(name: str, given: Any, parameters: Mapping[str, Parameter]) -> Range:
    """A number or a pair ``(low, high)`` as a pair of floats.

    Raises:
        ValueError: Naming the value, if there is no such parameter, or the range is empty, not finite or not within
            what the parameter may be.
    """
    if name not in parameters:
        raise ValueError(f"unknown parameter {name!r}; there are {', '.join(parameters)}")
    allowed = parameters[name]
    try:
        pair = np.broadcast_to(np.asarray(given, dtype=np.float64), (2,))
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be a number or a pair (low, high), got {given!r}") from None
    low, high = float(pair[0]), float(pair[1])
    if not low <= high:  # NaN is not
        raise ValueError(f"{name} must be a range with low at most high, got {given!r}")
    _require_allowed(name, pair, allowed)
    return low, high


def _require_allowed(name: str, values: NDArray[np.float64], allowed: Parameter) -> None:
    fits = (values >= allowed.low) & (values <= allowed.high)
    if allowed.whole:
        fits &= values == np.round(values)
    if not fits.all():
        kind = "a whole number" if allowed.whole else "a number"
        raise ValueError(
            f"{name} must be {kind} in [{allowed.low:g}, {allowed.high:g}] {allowed.unit}, got {values[~fits].flat[0]}"
        )


def parameter_grid(
    ranges: Ranges, points: int | Mapping[str, int], *, whole: Collection[str] = ("delay",)
) -> list[dict[str, float]]:
    """Every combination of evenly spaced values of some parameters, both ends of every range included.

    Args:
        ranges: A number, or ``(low, high)``, for each parameter. A number, or a range of no width, is one point.
        points: Values along each range, at least 2; one number, or one for each parameter.
        whole: Parameters whose values are rounded to whole numbers; those that coincide count once.
    Returns:
        One dict for each point of the mesh, the last parameter running fastest; each can be given to an environment as
        ``ranges`` or as ``options={"parameters": …}``.
    Raises:
        ValueError: If there is no parameter, a range is empty or not finite, or ``points`` is under 2 or not given.
    """
    if not ranges:
        raise ValueError("a grid needs at least one parameter, got no ranges")
    axes = []
    for name, given in ranges.items():
        low, high = checked_range(name, given, {name: Parameter(0.0, -np.finfo(float).max, np.finfo(float).max, "")})
        count: Any = points.get(name) if isinstance(points, Mapping) else points
        require_integer(f"points of {name} (both ends count)", count, 2)
        values = np.linspace(low, high, count)
        axes.append(np.unique(np.round(values) if name in whole else values))
    return [dict(zip(ranges, map(float, values))) for values in itertools.product(*axes)]


class AdaptiveRanges(Mapping[str, Range]):
    """Ranges that grow where the agent copes and shrink where it does not (Akkaya et al., 2019; book eq. adr-update).

    It is a mapping from parameter to ``(low, high)``, so an environment takes it as ``ranges``, and reads it anew at
    the start of every episode. Nothing here runs an episode: whoever evaluates the agent reports a performance at a
    boundary to :meth:`record`, measured in the domain of :meth:`at_boundary`.

    Args:
        start: ``(low, high)`` or a number for each parameter, where the ranges begin and the narrowest they become.
        limits: The widest they become, for each parameter.
        step: How far a boundary moves at a time, for each parameter, positive.
        low_threshold: A mean performance of at most this narrows.
        high_threshold: One of at least this widens; above ``low_threshold``.
        buffer_size: Performances that are averaged before a boundary moves, at least 1.

    Raises:
        ValueError: If the names do not agree, a start is not within its limits, or a number is out of range.
    """

    SIDES = ("low", "high")

    def __init__(
        self,
        start: Ranges,
        limits: Mapping[str, Range],
        step: Mapping[str, float],
        *,
        low_threshold: float,
        high_threshold: float,
        buffer_size: int = 10,
    ) -> None:
        if not start or not start.keys() == limits.keys() == step.keys():
            raise ValueError(
                f"start, limits and step must name the same parameters, got {list(start)}, {list(limits)}, {list(step)}"
            )
        if not (np.isfinite(low_threshold) and np.isfinite(high_threshold) and low_threshold < high_threshold):
            raise ValueError(f"thresholds must be finite and rise, got {low_threshold} and {high_threshold}")
        require_integer("buffer_size", buffer_size, 1)
        self.start: dict[str, Range] = {}
        for name, given in start.items():
            low, high = limits[name]
            self.start[name] = checked_range(name, given, {name: Parameter(0.0, low, high, "(its limits)")})
            if not (np.isfinite(step[name]) and step[name] > 0.0):
                raise ValueError(f"the step of {name} must be positive and finite, got {step[name]}")
        self.limits = {name: (float(low), float(high)) for name, (low, high) in limits.items()}
        self.step, self.buffer_size = dict(step), buffer_size
        self.low_threshold, self.high_threshold = float(low_threshold), float(high_threshold)
        self._ranges = dict(self.start)
        self._buffers: dict[tuple[str, str], list[float]] = {
            (name, side): [] for name in self.start for side in self.SIDES
        }

    def __getitem__(self, name: str) -> Range:
        return self._ranges[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._ranges)

    def __len__(self) -> int:
        return len(self._ranges)

    def __repr__(self) -> str:
        """How it was made, not where it is: a training run that goes on is recognised by it."""
        return (
            f"AdaptiveRanges({self.start}, {self.limits}, {self.step}, low_threshold={self.low_threshold}, "
            f"high_threshold={self.high_threshold}, buffer_size={self.buffer_size})"
        )

    @property
    def boundaries(self) -> list[tuple[str, str]]:
        """Parameter and side of every boundary."""
        return list(self._buffers)

    def at_boundary(self, name: str, side: str) -> dict[str, "float | Range"]:
        """The present ranges with one parameter held at one of its ends: the domain in which that end is judged."""
        self._require(name, side)
        return {**self._ranges, name: self._ranges[name][self.SIDES.index(side)]}

    def record(self, name: str, side: str, performance: float) -> bool:
        """Add a performance at a boundary, and move the boundary once its buffer is full (book eq. adr-update).

        Returns:
            Whether the boundary moved.
        Raises:
            ValueError: If there is no such boundary or the performance is not finite.
        """
        self._require(name, side)
        if not np.isfinite(performance):
            raise ValueError(f"a performance must be finite, got {performance}")
        buffer = self._buffers[name, side]
        buffer.append(float(performance))
        if len(buffer) < self.buffer_size:
            return False
        mean = sum(buffer) / len(buffer)
        buffer.clear()
        outwards = 1.0 if mean >= self.high_threshold else -1.0 if mean <= self.low_threshold else 0.0
        index = self.SIDES.index(side)
        moved = self._ranges[name][index] + outwards * self.step[name] * (-1.0, 1.0)[index]
        ends = (self.limits[name][index], self.start[name][index])  # between the widest and the narrowest
        moved = min(max(moved, min(ends)), max(ends))
        before = self._ranges[name]
        self._ranges[name] = (moved, before[1]) if index == 0 else (before[0], moved)
        return self._ranges[name] != before

    def entropy(self) -> float:
        """Mean logarithm of the widths in nats, −∞ while one of them is 0 (book eq. adr-entropy)."""
        widths = np.array([high - low for low, high in self._ranges.values()])
        return float(np.log(widths).mean()) if (widths > 0).all() else -np.inf

    def _require(self, name: str, side: str) -> None:
        if (name, side) not in self._buffers:
            raise ValueError(f"unknown boundary {(name, side)!r}; there are {self.boundaries}")


# The batched environments


def _fixed(ranges: Ranges | None, parameters: Mapping[str, Parameter]) -> Ranges:
    """Checked ranges: a copy, or the same object if they adapt."""
    checked = {name: checked_range(name, given, parameters) for name, given in (ranges or {}).items()}
    if isinstance(ranges, AdaptiveRanges):
        for name, limit in ranges.limits.items():
            checked_range(name, limit, parameters)
        return ranges
    return checked


def _drawn(
    ranges: Ranges, parameters: Mapping[str, Parameter], count: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Parameters ``[P, count]``; those without a range are nominal, and those of one value draw nothing."""
    values = np.empty((len(parameters), count))
    for row, (name, allowed) in enumerate(parameters.items()):
        low, high = ranges.get(name, (allowed.nominal, allowed.nominal))  # type: ignore[misc]
        if low == high:
            values[row] = low
        elif allowed.whole:
            values[row] = rng.integers(int(low), int(high) + 1, size=count)
        else:
            values[row] = rng.uniform(low, high, size=count)
    return values


class DomainVector(BatchedEnvironment):
    """A batched environment with physical parameters; a subclass adds the dynamics.

    ``info["parameters"]``, ``[N, P]`` in the order of :attr:`PARAMETERS`, holds those of the present episodes; no
    observation shows them. ``reset(options={"parameters": {name: number or [N]}, "state": [N, D]})`` fixes parameters
    or initial states of the episodes that this reset begins; later ones draw again. To fix a parameter for good, give
    the constructor a number.

    An action reaches the actuator ``delay`` steps after it was chosen; until the first arrives the actuator rests.

    Args:
        num_envs: Number of copies.
        ranges: A number, or ``(low, high)`` to draw from uniformly at the start of every episode, by parameter;
            parameters without one are nominal. :class:`AdaptiveRanges` are read anew at every start.
        start: ``(low, high)`` of the initial state, each a number or ``[D]``; uniform, drawn for every episode. None
            for Gymnasium's.
        time_limit: Artificial limit on the steps of an episode, or None.
        render_mode: Must be None.

    Raises:
        ValueError: Naming the value, if a parameter is unknown or a number is out of range.
    """

    metadata = BatchedEnvironment.metadata | {"render_modes": []}

    PARAMETERS: Mapping[str, Parameter]
    START: tuple[ArrayLike, ArrayLike]
    DIMENSION: int
    START_BOUND: NDArray[np.float64]  # how far from 0 an initial state may be

    def __init__(
        self,
        num_envs: int,
        observation_space: gym.Space,
        action_space: gym.spaces.Discrete | gym.spaces.Box,
        *,
        ranges: Ranges | None,
        start: tuple[ArrayLike, ArrayLike] | None,
        time_limit: int | None,
        render_mode: str | None,
    ) -> None:
        super().__init__(num_envs, observation_space, action_space, time_limit=time_limit, render_mode=render_mode)
        self.ranges = _fixed(ranges, self.PARAMETERS)
        self.start = self._checked_start(self.START if start is None else start)
        self.names = tuple(self.PARAMETERS)
        self._values = _drawn({}, self.PARAMETERS, num_envs, np.random.default_rng(0))
        self._state = np.zeros((num_envs, self.DIMENSION))
        self._sent = np.zeros((LONGEST_DELAY + 1, num_envs))  # what was sent to the actuators, a ring over steps
        self._now = 0

    @property
    def parameters(self) -> dict[str, NDArray[np.float64]]:
        """Those of the present episodes, ``[N]`` each."""
        return {name: row.copy() for name, row in zip(self.names, self._values)}

    @property
    def state(self) -> NDArray[np.float64]:
        """A copy of the present states, ``[N, D]``."""
        return self._state.copy()

    def change(self, name: str, values: ArrayLike, where: NDArray[np.intp] | slice = slice(None)) -> None:
        """Set a parameter of some copies in the middle of their episodes.

        Args:
            name: Of the parameter.
            values: A number or one for each of those copies.
            where: Indices of the copies; all by default.
        Raises:
            ValueError: Naming the value, if there is no such parameter or it may not be that.
        """
        if name not in self.PARAMETERS:
            raise ValueError(f"unknown parameter {name!r}; there are {', '.join(self.names)}")
        given = np.asarray(values, dtype=np.float64)
        _require_allowed(name, given, self.PARAMETERS[name])
        self._values[self.names.index(name), where] = given

    def spawn(self, num_envs: int) -> "DomainVector":
        return type(self)(num_envs, ranges=self.ranges, start=self.start, time_limit=self.time_limit)  # type: ignore[call-arg]

    def _checked_start(self, start: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        try:
            low, high = (np.broadcast_to(np.asarray(end, dtype=np.float64), (self.DIMENSION,)).copy() for end in start)
        except (TypeError, ValueError):
            raise ValueError(f"start must be (low, high), numbers or [{self.DIMENSION}] each, got {start!r}") from None
        if not (low <= high).all() or not (np.maximum(-low, high) <= self.START_BOUND).all():
            raise ValueError(f"start must be ranges within ±{self.START_BOUND.tolist()}, got {start!r}")
        return low, high

    def _restart(self, count: int, options: dict[str, Any] | None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Initial states ``[count, D]`` and parameters ``[P, count]``."""
        options = options or {}
        unknown = options.keys() - {"parameters", "state"}
        if unknown:
            raise ValueError(f"unknown option {min(unknown)!r}; there are 'parameters' and 'state'")
        states = self.np_random.uniform(*self.start, size=(count, self.DIMENSION))
        values = _drawn(self.ranges, self.PARAMETERS, count, self.np_random)
        for name, given in (options.get("parameters") or {}).items():
            if name not in self.PARAMETERS:
                raise ValueError(f"unknown parameter {name!r}; there are {', '.join(self.names)}")
            array = np.asarray(given, dtype=np.float64)
            if array.shape not in ((), (count,)):
                raise ValueError(f"{name} must be a number or have shape ({count},), got shape {array.shape}")
            _require_allowed(name, array, self.PARAMETERS[name])
            values[self.names.index(name)] = array
        if options.get("state") is not None:
            states = np.array(options["state"], dtype=np.float64)
            if states.shape != (count, self.DIMENSION) or not (abs(states) <= self.START_BOUND).all():
                raise ValueError(
                    f"state must have shape ({count}, {self.DIMENSION}) and lie within ±{self.START_BOUND.tolist()}, "
                    f"got {options['state']!r}"
                )
        return states, values

    def _place(self, where: NDArray[np.intp] | slice, states: Any) -> None:
        self._state[where], self._values[:, where] = states
        self._sent[:, where] = 0.0

    def _arriving(self, sent: NDArray[np.float64], delay: NDArray[np.float64]) -> NDArray[np.float64]:
        """What reaches the actuators in this step, ``[N]``: what was sent ``delay`` steps ago."""
        self._now = (self._now + 1) % len(self._sent)
        self._sent[self._now] = sent
        return self._sent[(self._now - delay.astype(np.intp)) % len(self._sent), np.arange(self.num_envs)]

    def _information(self) -> dict[str, Any]:
        return {"parameters": self._values.T.copy()}


class CartPoleDomainVector(DomainVector):
    r"""``CA14/CartPoleDomain-v0``, batched: keep a pole upright on a cart whose physics differ (book eq. domain-cart).

    The equations of Barto, Sutton and Anderson (1983) with friction: at the nominal parameters, which have none, those
    of ``CartPole-v1``.

    * Action, ``Discrete(2)``: push left or right with 10 N times ``gain``.
    * Observation ``[4]``, float32: position (m), velocity (m/s), angle (rad), angular velocity (rad/s).
    * Reward: 1 for every step. An episode is over when the cart is beyond 2.4 m or the pole beyond 12°; 500 steps are
      an artificial limit.
    * Parameters: ``cart_mass`` (kg), ``pole_mass`` (kg), ``length`` (m, half of the pole, as Gymnasium counts),
      ``friction`` of the cart on its track (N, against the direction of motion), ``damping`` of the hinge (N m s),
      ``gain`` of the motor, ``delay`` (steps of 0.02 s).

    Velocities are cut at ±50 so that the observation space is bounded; nominal episodes stay far within.

    Args and errors: as :class:`DomainVector`; ``start`` is of position, velocity, angle and angular velocity.
    """

    GRAVITY, FORCE, INTERVAL = 9.8, 10.0, 0.02
    POSITION_LIMIT, ANGLE_LIMIT, SPEED_LIMIT = 2.4, 12 * 2 * np.pi / 360, 50.0
    PARAMETERS = {
        "cart_mass": Parameter(1.0, 0.05, 20.0, "kg"),
        "pole_mass": Parameter(0.1, 0.005, 5.0, "kg"),
        "length": Parameter(0.5, 0.05, 5.0, "m"),
        "friction": Parameter(0.0, 0.0, 20.0, "N"),
        "damping": Parameter(0.0, 0.0, 2.0, "N m s"),
        "gain": Parameter(1.0, 0.05, 5.0, ""),
        "delay": Parameter(0.0, 0.0, LONGEST_DELAY, "steps", whole=True),
    }
    START = (-0.05, 0.05)
    DIMENSION = 4
    START_BOUND = np.array([POSITION_LIMIT, SPEED_LIMIT, ANGLE_LIMIT, SPEED_LIMIT])

    def __init__(
        self,
        num_envs: int = 1,
        *,
        ranges: Ranges | None = None,
        start: tuple[ArrayLike, ArrayLike] | None = None,
        time_limit: int | None = 500,
        render_mode: str | None = None,
    ) -> None:
        reach = self.INTERVAL * self.SPEED_LIMIT  # one step beyond the end of the track
        high = self.START_BOUND + np.array([reach, 0.0, reach, 0.0])
        super().__init__(
            num_envs,
            gym.spaces.Box(-high.astype(np.float32), high.astype(np.float32)),
            gym.spaces.Discrete(2),
            ranges=ranges,
            start=start,
            time_limit=time_limit,
            render_mode=render_mode,
        )

    @classmethod
    def accelerations(
        cls, state: NDArray[np.float64], force: NDArray[np.float64], values: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Of cart (m/s²) and pole (rad/s²), ``[N]`` each (book eq. domain-cart).

        Args:
            state: ``[N, 4]``.
            force: N, ``[N]``.
            values: Parameters ``[P, N]``, in the order of ``PARAMETERS``.
        """
        cart_mass, pole_mass, length, friction, damping = values[:5]
        _, velocity, angle, turning = state.T
        sine, cosine, mass = np.sin(angle), np.cos(angle), cart_mass + pole_mass
        push = (force - friction * np.sign(velocity) + pole_mass * length * np.square(turning) * sine) / mass
        torque = damping * turning / (pole_mass * length)
        pole = (cls.GRAVITY * sine - cosine * push - torque) / (
            length * (4.0 / 3.0 - pole_mass * np.square(cosine) / mass)
        )
        return push - pole_mass * length * pole * cosine / mass, pole

    def _transition(self, action: NDArray) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        gain, delay = self._values[5:]
        force = gain * self._arriving(np.where(action == 1, self.FORCE, -self.FORCE), delay)
        cart, pole = self.accelerations(self._state, force, self._values)
        speeds = self._state[:, [1, 3]]
        self._state[:, [0, 2]] += self.INTERVAL * speeds  # Euler: positions with the speeds before the step
        speeds = speeds + self.INTERVAL * np.stack([cart, pole], axis=-1)
        self._state[:, [1, 3]] = np.clip(speeds, -self.SPEED_LIMIT, self.SPEED_LIMIT)
        fallen = (abs(self._state[:, 0]) > self.POSITION_LIMIT) | (abs(self._state[:, 2]) > self.ANGLE_LIMIT)
        return np.ones(self.num_envs), fallen

    def _observe(self) -> NDArray[np.float32]:
        return self._state.astype(np.float32)


class PendulumDomainVector(DomainVector):
    r"""``CA14/PendulumDomain-v0``, batched: swing up a pendulum whose physics differ (book eq. domain-pendulum).

    At the nominal parameters the dynamics and rewards of ``Pendulum-v1``, for half its action.

    * Action, ``Box(−1, 1, (1,))``: the share of the largest torque of 2 N m, times ``gain``.
    * Observation ``[3]``, float32: cosine and sine of the angle (0 is upright), angular velocity (rad/s, within ±8).
    * Reward: minus :math:`\theta^2+0.1\,\dot\theta^2+0.001\,u^2` before the step, with the angle in [−π, π) and u the
      torque that was asked for. Nothing ends an episode; 200 steps are an artificial limit.
    * Parameters: ``mass`` (kg), ``length`` (m), ``friction`` (N m, against the direction of motion), ``damping``
      (N m s), ``gain`` of the motor, ``delay`` (steps of 0.05 s).

    Args and errors: as :class:`DomainVector`; ``start`` is of angle and angular velocity.
    """

    GRAVITY, TORQUE, INTERVAL, SPEED_LIMIT = 10.0, 2.0, 0.05, 8.0
    PARAMETERS = {
        "mass": Parameter(1.0, 0.05, 20.0, "kg"),
        "length": Parameter(1.0, 0.1, 5.0, "m"),
        "friction": Parameter(0.0, 0.0, 2.0, "N m"),
        "damping": Parameter(0.0, 0.0, 2.0, "N m s"),
        "gain": Parameter(1.0, 0.05, 5.0, ""),
        "delay": Parameter(0.0, 0.0, LONGEST_DELAY, "steps", whole=True),
    }
    START = (np.array([-np.pi, -1.0]), np.array([np.pi, 1.0]))
    DIMENSION = 2
    START_BOUND = np.array([np.pi, SPEED_LIMIT])

    def __init__(
        self,
        num_envs: int = 1,
        *,
        ranges: Ranges | None = None,
        start: tuple[ArrayLike, ArrayLike] | None = None,
        time_limit: int | None = 200,
        render_mode: str | None = None,
    ) -> None:
        high = np.array([1.0, 1.0, self.SPEED_LIMIT], dtype=np.float32)
        super().__init__(
            num_envs,
            gym.spaces.Box(-high, high),
            gym.spaces.Box(-1.0, 1.0, (1,), dtype=np.float32),
            ranges=ranges,
            start=start,
            time_limit=time_limit,
            render_mode=render_mode,
        )

    @classmethod
    def acceleration(
        cls, state: NDArray[np.float64], torque: NDArray[np.float64], values: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """In rad/s², ``[N]`` (book eq. domain-pendulum).

        Args:
            state: Angle and angular velocity, ``[N, 2]``.
            torque: N m, ``[N]``.
            values: Parameters ``[P, N]``, in the order of ``PARAMETERS``.
        """
        mass, length, friction, damping = values[:4]
        angle, turning = state.T
        resisting = friction * np.sign(turning) + damping * turning
        return 3.0 * cls.GRAVITY / (2.0 * length) * np.sin(angle) + 3.0 / (mass * length**2) * (torque - resisting)

    def _transition(self, action: NDArray) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        gain, delay = self._values[4:]
        asked = self.TORQUE * action[:, 0]
        angle, turning = self._state.T
        folded = (angle + np.pi) % (2 * np.pi) - np.pi
        reward = -(folded**2 + 0.1 * turning**2 + 0.001 * asked**2)
        torque = gain * self._arriving(asked, delay)
        turning = turning + self.acceleration(self._state, torque, self._values) * self.INTERVAL
        turning = np.clip(turning, -self.SPEED_LIMIT, self.SPEED_LIMIT)
        self._state = np.stack([angle + turning * self.INTERVAL, turning], axis=-1)
        return reward, np.zeros(self.num_envs, dtype=np.bool_)

    def _observe(self) -> NDArray[np.float32]:
        angle, turning = self._state.T
        return np.stack([np.cos(angle), np.sin(angle), turning], axis=-1).astype(np.float32)


class CartPoleDomain(SingleEnvironment):
    """``CA14/CartPoleDomain-v0``; takes the arguments of :class:`CartPoleDomainVector` but ``num_envs``."""

    metadata = {"render_modes": []}

    def __init__(self, **parameters: Any) -> None:
        super().__init__(CartPoleDomainVector(1, **parameters))


class PendulumDomain(SingleEnvironment):
    """``CA14/PendulumDomain-v0``; takes the arguments of :class:`PendulumDomainVector` but ``num_envs``."""

    metadata = {"render_modes": []}

    def __init__(self, **parameters: Any) -> None:
        super().__init__(PendulumDomainVector(1, **parameters))


# MuJoCo


class HopperDomain(gym.Wrapper, gym.utils.RecordConstructorArgs):
    """``Hopper-v5`` with physical parameters that are drawn for every episode.

    They are factors on the model's values: ``mass`` of all bodies (with their inertia), ``friction`` of all geoms
    (sliding), ``damping`` of all joints, ``gain`` of the motors (their gear); and ``delay``, steps of 0.008 s until an
    action arrives. ``info["parameters"]`` is ``[5]`` in this order. ``reset(options={"parameters": {name: number}})``
    fixes parameters of the episode that it begins.

    Args:
        env: Gymnasium's ``HopperEnv``, or another MuJoCo environment with motors.
        ranges: As for :class:`DomainVector`; the nominal factor is 1.

    Raises:
        ValueError: Naming the value, if a parameter is unknown or out of range, or ``env`` is not a MuJoCo environment.
    """

    PARAMETERS = {
        "mass": Parameter(1.0, 0.1, 10.0, "(factor)"),
        "friction": Parameter(1.0, 0.05, 10.0, "(factor)"),
        "damping": Parameter(1.0, 0.0, 10.0, "(factor)"),
        "gain": Parameter(1.0, 0.05, 5.0, "(factor)"),
        "delay": Parameter(0.0, 0.0, LONGEST_DELAY, "steps", whole=True),
    }

    def __init__(self, env: gym.Env, ranges: Ranges | None = None) -> None:
        if not hasattr(env.unwrapped, "model"):
            raise ValueError(f"HopperDomain needs a MuJoCo environment, got {type(env.unwrapped).__name__}")
        gym.utils.RecordConstructorArgs.__init__(self, ranges=ranges)
        gym.Wrapper.__init__(self, env)
        self.ranges = _fixed(ranges, self.PARAMETERS)
        self.names = tuple(self.PARAMETERS)
        model = self.model
        self._nominal = {
            name: getattr(model, name).copy()
            for name in ("body_mass", "body_inertia", "geom_friction", "dof_damping", "actuator_gear")
        }
        self._values = _drawn({}, self.PARAMETERS, 1, np.random.default_rng(0))
        self._waiting: list[NDArray] = []

    num_envs = 1

    @property
    def model(self) -> Any:
        """MuJoCo's model."""
        return self.env.unwrapped.model  # type: ignore[attr-defined]

    @property
    def parameters(self) -> dict[str, NDArray[np.float64]]:
        """Those of the present episode, ``[1]`` each."""
        return {name: row.copy() for name, row in zip(self.names, self._values)}

    def change(self, name: str, values: ArrayLike, where: NDArray[np.intp] | slice = slice(None)) -> None:
        """Set a parameter in the middle of an episode; see :meth:`DomainVector.change`."""
        if name not in self.PARAMETERS:
            raise ValueError(f"unknown parameter {name!r}; there are {', '.join(self.names)}")
        given = np.asarray(values, dtype=np.float64)
        _require_allowed(name, given, self.PARAMETERS[name])
        self._values[self.names.index(name), where] = given
        self._apply()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        # positions and velocities at the start do not depend on the parameters, so the reset may seed the generator
        given = dict(options or {})
        fixed = given.pop("parameters", None) or {}
        observation, info = self.env.reset(seed=seed, options=given or None)
        self._values = _drawn(self.ranges, self.PARAMETERS, 1, self.env.unwrapped.np_random)
        self._waiting = []
        for name, value in fixed.items():
            self.change(name, value)
        self._apply()
        return observation, info | {"parameters": self._values[:, 0].copy()}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._waiting = [*self._waiting[-LONGEST_DELAY:], np.array(action)]
        delay = int(self._values[self.names.index("delay"), 0])
        arriving = self._waiting[-1 - delay] if delay < len(self._waiting) else np.zeros_like(self._waiting[-1])
        observation, reward, terminated, truncated, info = self.env.step(arriving)
        info = info | {"parameters": self._values[:, 0].copy()}
        return observation, float(reward), terminated, truncated, info

    def _apply(self) -> None:
        import mujoco  # type: ignore[import-untyped]

        model, nominal = self.model, self._nominal
        mass, friction, damping, gain = self._values[:4, 0]
        model.body_mass[:] = mass * nominal["body_mass"]
        model.body_inertia[:] = mass * nominal["body_inertia"]
        model.geom_friction[:, 0] = friction * nominal["geom_friction"][:, 0]
        model.dof_damping[:] = damping * nominal["dof_damping"]
        model.actuator_gear[:] = gain * nominal["actuator_gear"]
        mujoco.mj_setConst(model, mujoco.MjData(model))  # what MuJoCo derives from masses; in data of its own


def hopper_domain(ranges: Ranges | None = None, **arguments: Any) -> gym.Env:
    """What stands behind ``CA14/HopperDomain-v0``; truncated after 1,000 steps, an artefact.

    Args:
        ranges: See :class:`HopperDomain`.
        arguments: Keyword arguments of Gymnasium's environment.
    """
    return HopperDomain(gym.make("Hopper-v5", disable_env_checker=True, **arguments).unwrapped, ranges)
