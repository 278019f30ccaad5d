"""What a control engineer would put on the reactor: a cascade of PID controllers and model predictive control.

Book: evaluation/industrial. Both act like agents (``act``, the two spaces) and keep a memory of the running episodes,
which :meth:`ReactorController.reset` empties.
"""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ca14lib.environments.reactor import (
    CONCENTRATION_UNIT,
    CONTROL_INTERVAL,
    EXCHANGE,
    FEED_CONCENTRATION,
    FEED_MEMORY,
    FEED_TEMPERATURE,
    FLOW,
    HEATING,
    NOMINAL_CONCENTRATION,
    NOMINAL_TEMPERATURE,
    VOLUME,
    ReactorVector,
    reaction_rate,
)

Array = NDArray[np.float64]
COLDEST = 335.0  # K, the lowest set point of the temperature
ASSUMED_NOISE = 2.0 * np.diag([0.005**2, 0.5**2])  # (mol/L)² and K², of a difference of two observations
LEARNABLE = (330.0, 358.0)  # K: in a runaway one step is no small step, and a surprise says nothing of the factors
BELIEVABLE = (0.6, 1.6)  # what an estimated factor is cut to
CEILING = 400.0  # K: beyond it a prediction only has to say that the reactor runs away
OVERHEATED_PRICE = 10.0  # of an overheated step when gains are compared: ten steps 0.1 mol/L off the set point


class ReactorController:
    """Base class: a controller of ``CA14/Reactor-v0`` that remembers the episodes it is in.

    Args:
        environment: The batched reactor, whose limits the controller keeps.
    """

    def __init__(self, environment: ReactorVector) -> None:
        self.observation_space = environment.single_observation_space
        self.action_space = environment.single_action_space
        self.temperature_limit = environment.temperature_limit
        self.concentration_limit = environment.concentration_limit

    def reset(self) -> None:
        """Forget: all that follows belongs to new episodes."""
        raise NotImplementedError

    def act(self, observation: ArrayLike, *, deterministic: bool = False) -> NDArray[np.float32]:
        """Actions ``[N, 1]`` for observations ``[N, 5]`` of the same N episodes, called once a step.

        Raises:
            ValueError: If the observations are not ``[N, 5]``, not finite, or of another number of episodes.
        """
        seen = np.asarray(observation, dtype=np.float64)
        if seen.ndim != 2 or seen.shape[1] != 5 or not np.isfinite(seen).all():
            raise ValueError(f"observations must be finite and of shape [N, 5], got {seen.shape}")
        return self._act(seen).astype(np.float32)[:, None]

    def _act(self, seen: Array) -> Array:
        """Actions ``[N]``."""
        raise NotImplementedError


def set_point(observation: ArrayLike) -> Array:
    """The set point in mol/L that observations ``[N, 5]`` show, ``[N]``."""
    return NOMINAL_CONCENTRATION + CONCENTRATION_UNIT * np.asarray(observation, dtype=np.float64)[:, 3]


# A cascade of two PID controllers


@dataclass(frozen=True)
class PIDGains:
    """Gains of the cascade; each may also be an array ``[N]``, one number per episode."""

    outer_gain: Any = 40.0  # K₁, K per mol/L
    outer_time: Any = 1.0  # τ₁, min, of the integral
    inner_gain: Any = 0.25  # K₂, per K
    inner_time: Any = 1.0  # τ₂, min, of the integral
    inner_derivative: Any = 0.0  # τ_d, min
    margin: Any = 1.5  # m, K, between the limit and the highest set point of the temperature

    def __post_init__(self) -> None:
        for each in fields(self):
            value = np.asarray(getattr(self, each.name), dtype=np.float64)
            least = 0.0 if each.name in ("inner_derivative", "margin") else np.nextafter(0.0, 1.0)
            if not (np.isfinite(value) & (value >= least)).all():
                raise ValueError(f"{each.name} must be finite and positive, got {getattr(self, each.name)}")


SEARCHED: dict[str, tuple[float, float]] = {  # of PIDGains, log-uniform
    "outer_gain": (10.0, 200.0),
    "outer_time": (0.3, 5.0),
    "inner_gain": (0.12, 0.45),
    "inner_time": (0.3, 10.0),
    "inner_derivative": (0.005, 0.1),
    "margin": (0.3, 4.0),
}


def integral_step(integral: Array, error: Array, rate: Any, wanted: Array, low: Any, high: Any) -> Array:
    r"""The integral after one interval, without windup (book eq. industrial-antiwindup).

    Args:
        integral: :math:`I`, ``[N]``, in units of the output.
        error: :math:`e`, ``[N]``.
        rate: :math:`K\Delta/\tau`, what an error of 1 adds in one interval.
        wanted: The output before it is cut, ``[N]``.
        low: Lower bound of the output.
        high: Upper bound.
    Returns:
        :math:`I+K\Delta e/\tau`, and :math:`I` where the output is at a bound and the error pushes further out.
    """
    outwards = ((wanted > high) & (error > 0)) | ((wanted < low) & (error < 0))
    return integral + np.where(outwards, 0.0, np.asarray(rate) * error)


class PIDController(ReactorController):
    r"""Two PID controllers in cascade, the inner set point limited (book eq. industrial-pid).

    The outer one, of the concentration, asks for a temperature; the inner one, of the temperature, asks for a coolant
    temperature. No equation of the reactor is known to them. What keeps the limit is that no temperature within
    ``margin`` of it is ever asked for.

    Args:
        environment: The batched reactor.
        gains: Of the cascade; see :func:`tuned_gains`.
    """

    def __init__(self, environment: ReactorVector, gains: PIDGains | None = None) -> None:
        super().__init__(environment)
        self.gains = PIDGains() if gains is None else gains
        self.reset()

    def reset(self) -> None:
        self._outer: Array | None = None  # integrals, [N]
        self._inner: Array | None = None
        self._before: Array | None = None  # temperatures of the last step

    def _act(self, seen: Array) -> Array:
        gains, (concentration, temperature) = self.gains, ReactorVector.state(seen).T
        if self._outer is None or self._inner is None or self._before is None:
            self._outer, self._inner, self._before = np.zeros(len(seen)), np.zeros(len(seen)), temperature
        if len(self._outer) != len(seen):
            raise ValueError(f"the controller is in {len(self._outer)} episodes, got {len(seen)} observations")
        error, highest = concentration - set_point(seen), self.temperature_limit - gains.margin
        asked = NOMINAL_TEMPERATURE + gains.outer_gain * error + self._outer
        rate = gains.outer_gain * CONTROL_INTERVAL / gains.outer_time
        self._outer = integral_step(self._outer, error, rate, asked, COLDEST, highest)
        missing = np.clip(asked, COLDEST, highest) - temperature
        slope = (temperature - self._before) / CONTROL_INTERVAL
        wanted = gains.inner_gain * (missing - gains.inner_derivative * slope) + self._inner
        rate = gains.inner_gain * CONTROL_INTERVAL / gains.inner_time
        self._inner = integral_step(self._inner, missing, rate, wanted, -1.0, 1.0)
        self._before = temperature
        return np.clip(wanted, -1.0, 1.0)


def episode_sums(
    environment: ReactorVector, controller: ReactorController, seed: int, steps: int
) -> tuple[Array, Array]:
    """Return ``[N]`` and costs ``[N, 2]`` of one episode in every copy, from the start that a seed gives."""
    controller.reset()
    observation, _ = environment.reset(seed=seed)
    returns, costs = np.zeros(environment.num_envs), np.zeros((environment.num_envs, 2))
    for _ in range(steps):
        observation, reward, _, truncated, info = environment.step(controller.act(observation))
        returns += reward
        costs += info["final_info"]["cost"] if truncated.any() else info["cost"]
    return returns, costs


def tuned_gains(
    environment: ReactorVector, seed: int, *, candidates: int = 128, episodes: int = 8, rounds: int = 3
) -> PIDGains:
    """Gains by random search on a plant of one's own, all candidates at once.

    The first round draws log-uniformly from ``SEARCHED``; every later one draws around the best so far, within a
    quarter of the logarithmic range, then a sixteenth. What counts is the mean return minus 10 for every step above
    either limit.

    Args:
        environment: A batched reactor to tune on; its size does not matter.
        seed: Fixes candidates and starts; take one that no evaluation uses.
        candidates: Per round.
        episodes: Each of 200 steps, the same starts for all candidates.
        rounds: Of the search.
    Returns:
        The best that any round has met.
    """
    generator = np.random.default_rng([seed, 1])
    low, high = np.log(np.array(list(SEARCHED.values()))).T
    centre, width = (low + high) / 2, (high - low) / 2
    best, best_score = PIDGains(), -np.inf
    for _ in range(rounds):
        points = np.clip(centre + width * generator.uniform(-1, 1, (candidates, len(low))), low, high)
        drawn = dict(zip(SEARCHED, np.exp(points).T, strict=True))
        plant = environment.spawn(candidates * episodes)
        rows = PIDGains(**{name: np.repeat(values, episodes) for name, values in drawn.items()})
        returns, costs = episode_sums(plant, PIDController(plant, rows), seed, 200)
        scores = (returns - OVERHEATED_PRICE * costs.sum(axis=1)).reshape(candidates, episodes).mean(axis=1)
        first = int(scores.argmax())
        if scores[first] > best_score:
            best_score, centre = scores[first], points[first]
            best = PIDGains(**{name: float(values[first]) for name, values in drawn.items()})
        width = width / 4
    return best


# Model predictive control


@dataclass(frozen=True)
class MPCConfig:
    """Configuration of :class:`ModelPredictiveController`."""

    blocks: tuple[int, ...] = (1, 1, 2, 4, 8)  # steps for which each planned reference is held; their sum is H
    step_sizes: tuple[float, ...] = (4.0, 1.5, 0.6, 0.2)  # δ of the passes of the search, K
    gain: float = 0.3  # K, per K, of the loop inside every prediction
    margin: float = 1.0  # m, K below the limit of the temperature
    penalty: float = 10.0  # ρ, per K above that; the distance costs 1 per 0.1 mol/L
    adaptive: bool = False  # estimate φ and κ while it runs, eq. industrial-estimate; False believes the model
    prior: float = 0.1  # standard deviation of φ and κ around 1 at the start
    drift: float = 0.002  # and of their change in a step
    delay: int = 0  # steps that an action is believed to take to be executed

    def __post_init__(self) -> None:
        if not self.blocks or min(self.blocks) < 1:
            raise ValueError(f"blocks must be numbers of steps of at least 1, got {self.blocks}")
        if not self.step_sizes or min(self.step_sizes) <= 0:
            raise ValueError(f"step_sizes must be positive, got {self.step_sizes}")
        if not self.gain > 0:
            raise ValueError(f"gain must be positive, got {self.gain}")
        for name in ("margin", "penalty", "delay", "prior", "drift"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")

    @property
    def horizon(self) -> int:
        """H, steps that a prediction looks ahead."""
        return sum(self.blocks)

    @property
    def rollouts(self) -> int:
        """Predictions per decision: a pass has every block and all of them up and down, the plan, and full cooling."""
        return len(self.step_sizes) * (2 * (len(self.blocks) + 1) + 2)


def predicted_state(state: Array, action: Array, feed: Array, factors: Array | None = None) -> Array:
    r"""One control interval of the model by a single Runge-Kutta step, as shooting needs it: fast, and finite.

    Temperatures are cut at 400 K, where a prediction has only to say that the reactor runs away. Within the limits it
    is within 0.02 K of :meth:`ReactorVector.integrate`.

    Args:
        state: ``[N, 2]``.
        action: ``[N]``.
        feed: Feed temperature in K, ``[N]``.
        factors: Of the heat that the jacket exchanges, :math:`\varphi`, and of the rate constant, :math:`\kappa`,
            ``[N, 2]``; None for 1.
    """
    cooling, speed = (1.0, 1.0) if factors is None else (factors[:, 0], factors[:, 1])
    jacket = cooling * EXCHANGE
    warmth = FLOW / VOLUME * feed + jacket * ReactorVector.coolant_temperature(action)

    def rates(concentration: Array, temperature: Array) -> tuple[Array, Array]:
        temperature = np.minimum(temperature, CEILING)
        reacting = speed * reaction_rate(temperature) * concentration
        return (
            FLOW / VOLUME * (FEED_CONCENTRATION - concentration) - reacting,
            warmth - (FLOW / VOLUME + jacket) * temperature + HEATING * reacting,
        )

    (c, t), step = state.T, CONTROL_INTERVAL
    c1, t1 = rates(c, t)
    c2, t2 = rates(c + step / 2 * c1, t + step / 2 * t1)
    c3, t3 = rates(c + step / 2 * c2, t + step / 2 * t2)
    c4, t4 = rates(c + step * c3, t + step * t3)
    c, t = c + step / 6 * (c1 + 2 * (c2 + c3) + c4), t + step / 6 * (t1 + 2 * (t2 + t3) + t4)
    return np.stack([np.clip(c, 0.0, FEED_CONCENTRATION), np.clip(t, COLDEST - 100, CEILING)], axis=1)


def sensitivity(state: Array, action: Array) -> Array:
    r"""What one unit of :math:`\varphi` and of :math:`\kappa` adds to the next state, to first order, ``[N, 2, 2]``.

    Book eq. industrial-estimate.
    """
    reacting = CONTROL_INTERVAL * reaction_rate(state[:, 1]) * state[:, 0]
    cooling = CONTROL_INTERVAL * EXCHANGE * (ReactorVector.coolant_temperature(action) - state[:, 1])
    return np.stack(
        [np.stack([np.zeros(len(state)), -reacting], axis=1), np.stack([cooling, HEATING * reacting], axis=1)], axis=1
    )


def factor_estimate(
    factors: Array, covariance: Array, influence: Array, surprise: Array, noise: Array, drift: float
) -> tuple[Array, Array]:
    r"""One step of the Kalman filter for factors that drift (book eq. industrial-estimate).

    Args:
        factors: :math:`\theta`, ``[N, 2]``.
        covariance: P, ``[N, 2, 2]``.
        influence: S, ``[N, 2, 2]``, of the factors on what is observed.
        surprise: What was observed minus what was predicted with these factors, ``[N, 2]``.
        noise: R, the covariance of the observations, ``[2, 2]``.
        drift: Standard deviation of a factor's change in a step.
    Returns:
        The factors after the observation, and their covariance before the next one.
    """
    across = covariance @ influence.swapaxes(1, 2)
    gain = across @ np.linalg.inv(influence @ across + noise)
    factors = factors + (gain @ surprise[:, :, None])[:, :, 0]
    covariance = covariance - gain @ influence @ covariance
    return factors, covariance + drift**2 * np.eye(2)


class ModelPredictiveController(ReactorController):
    r"""Nonlinear model predictive control by shooting (book eq. industrial-mpc).

    The reactor is unstable, so a sequence of actions says nothing of where it leads: every prediction runs under a
    proportional loop, and what is planned is the loop's reference over the next H steps, held in blocks. In every step
    a pattern search improves the last plan. Limits are kept by an exact penalty. If ``adaptive``, it
    estimates two factors of its model from the differences between what was predicted and what came (book eq.
    industrial-estimate).

    Args:
        environment: The batched reactor, whose nominal equations are the model.
        config: Horizon, search, margin, and whether it adapts.
    """

    def __init__(self, environment: ReactorVector, config: MPCConfig | None = None) -> None:
        super().__init__(environment)
        self.config = MPCConfig() if config is None else config
        self.reset()

    def reset(self) -> None:
        self._plan: Array | None = None  # [N, blocks]
        self.factors = np.ones((0, 2))  # φ and κ as they are believed to be
        self._covariance = np.zeros((0, 2, 2))
        self._expected: Array | None = None  # [N, 2], what the model says will be seen next
        self._influence = np.zeros((0, 2, 2))  # of the factors on that
        self._sent: list[Array] = []  # the last actions, which may still be on their way

    def _act(self, seen: Array) -> Array:
        state, feed, target = ReactorVector.state(seen), ReactorVector.feed(seen), set_point(seen)
        number, config = len(seen), self.config
        if self._plan is None:
            self._plan = np.full((number, len(config.blocks)), NOMINAL_TEMPERATURE)
            self.factors = np.ones((number, 2))
            self._covariance = np.tile(config.prior**2 * np.eye(2), (number, 1, 1))
            self._sent = [np.zeros(number) for _ in range(config.delay)]
        if len(self._plan) != number:
            raise ValueError(f"the controller is in {len(self._plan)} episodes, got {number} observations")
        if config.adaptive and self._expected is not None:
            self._learn(state - self._expected)
        now = state
        for step, action in enumerate(self._sent):  # what is on its way comes first
            now = predicted_state(now, action, self._feed_ahead(feed, step), self.factors)
        self._plan = self._search(self._shifted(self._plan), now, feed, target)
        action = self._loop(self._plan[:, 0], now)
        self._sent.append(action)
        executed = self._sent.pop(0)
        self._expected = predicted_state(state, executed, feed, self.factors)
        self._influence = sensitivity(state, executed)
        return action

    def _learn(self, surprise: Array) -> None:
        """Correct the factors by what came instead of what was expected, where the first order says anything."""
        assert self._expected is not None
        factors, covariance = factor_estimate(
            self.factors, self._covariance, self._influence, surprise, ASSUMED_NOISE, self.config.drift
        )
        temperatures = np.stack([self._expected[:, 1], self._expected[:, 1] + surprise[:, 1]])
        low, high = LEARNABLE
        usable = np.asarray((temperatures > low) & (temperatures < high)).all(axis=0).reshape(-1)
        self.factors = np.where(usable[:, None], np.clip(factors, *BELIEVABLE), self.factors)
        self._covariance = np.where(usable[:, None, None], covariance, self._covariance)

    def _loop(self, reference: Array, state: Array) -> Array:
        """The action of the loop inside the prediction, ``[N]``."""
        return np.clip(self.config.gain * (reference - state[:, 1]), -1.0, 1.0)

    def _feed_ahead(self, feed: Array, step: int) -> Array:
        """The feed temperature that is expected some steps ahead."""
        return FEED_TEMPERATURE + FEED_MEMORY**step * (feed - FEED_TEMPERATURE)

    def _shifted(self, plan: Array) -> Array:
        """The last plan, one step later: the blocks keep their lengths."""
        held = np.repeat(np.arange(len(self.config.blocks)), self.config.blocks)
        starts = np.cumsum((0, *self.config.blocks[:-1])) + 1
        return plan[:, held[np.minimum(starts, len(held) - 1)]]

    def _search(self, plan: Array, state: Array, feed: Array, target: Array) -> Array:
        """Improve plans ``[N, blocks]``: in each pass the best of the neighbours and two constants."""
        blocks = plan.shape[1]
        directions = np.concatenate([np.zeros((1, blocks)), np.eye(blocks), -np.eye(blocks), np.ones((1, blocks))])
        directions = np.concatenate([directions, -np.ones((1, blocks))])
        reach = 1.0 / self.config.gain  # K: this far away the action is at its bound
        low, high = COLDEST - reach, self.temperature_limit + reach
        cooling = np.full((len(plan), 1, blocks), low)
        for size in self.config.step_sizes:
            candidates = np.clip(plan[:, None] + size * directions, low, high)
            candidates = np.concatenate([candidates, cooling], axis=1)
            costs = self.plan_cost(candidates, state, feed, target)
            plan = candidates[np.arange(len(plan)), costs.argmin(axis=1)]
        return plan

    def plan_cost(self, plans: Array, state: Array, feed: Array, target: Array) -> Array:
        """Predicted cost ``[N, C]`` of plans ``[N, C, blocks]`` (book eq. industrial-mpc)."""
        number, count, _ = plans.shape
        state, factors = np.repeat(state, count, axis=0), np.repeat(self.factors, count, axis=0)
        feed, target = np.repeat(feed, count), np.repeat(target, count)
        total, step = np.zeros(number * count), len(self._sent)
        for block, length in enumerate(self.config.blocks):
            reference = plans[:, :, block].ravel()
            for _ in range(length):
                action = self._loop(reference, state)
                state = predicted_state(state, action, self._feed_ahead(feed, step), factors)
                over = np.maximum(state[:, 1] - self.temperature_limit + self.config.margin, 0.0)
                unreacted = np.maximum(state[:, 0] - self.concentration_limit, 0.0) / CONCENTRATION_UNIT
                distance = np.abs(state[:, 0] - target) / CONCENTRATION_UNIT
                total += distance + self.config.penalty * (over + unreacted)
                step += 1
        return total.reshape(number, count)
