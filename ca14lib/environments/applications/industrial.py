"""The reactor as it is delivered: another cooling, another reaction, sensors that err, late actions.

Book: evaluation/industrial. The nominal equations of :class:`ReactorVector` are what a controller is designed with;
:class:`DeployedReactorVector` is the plant that it is switched on at.
"""

import math
from collections import deque
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ca14lib.environments.batched import SingleEnvironment, require_integer
from ca14lib.environments.reactor import (
    ACTIVATION,
    CONCENTRATION_UNIT,
    EXCHANGE,
    FEED_CONCENTRATION,
    FEED_TEMPERATURE,
    FLOW,
    HEATING,
    RATE_FACTOR,
    TEMPERATURE_UNIT,
    VOLUME,
    ReactorVector,
)

SENSOR_NOISE = (0.005, 0.5)  # mol/L and K, standard deviations of a plain instrument: the unit of sensor_noise


@dataclass(frozen=True)
class Deployment:
    """How a plant differs from its model.

    Args:
        cooling: Factor φ of the heat that the jacket exchanges; a fouled one has less than 1.
        activation: Factor ψ of the activation energy; 0.99 makes the reaction at 350 K 1.28 times as fast.
        sensor_noise: Errors of the two sensors, in standard deviations of 0.005 mol/L and 0.5 K; new in every step.
        delay: Steps from an observation to the execution of the action that was decided on it.

    Raises:
        ValueError: If a number is out of range.
    """

    cooling: float = 1.0
    activation: float = 1.0
    sensor_noise: float = 0.0
    delay: int = 0

    def __post_init__(self) -> None:
        for name, low, high in (("cooling", 0.5, 1.5), ("activation", 0.95, 1.05)):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} must lie in [{low}, {high}], got {value}")
        if not (self.sensor_noise >= 0 and math.isfinite(self.sensor_noise)):
            raise ValueError(f"sensor_noise must be at least 0 and finite, got {self.sensor_noise}")
        require_integer("delay", self.delay, 0)


@lru_cache(maxsize=64)
def _process(cooling: float, activation: float) -> type[ReactorVector]:
    """The reactor's equations with other constants; what the jacket brings comes in with the feed."""

    class Process(ReactorVector):
        @staticmethod
        def _rates(
            concentration: NDArray[np.float64], temperature: NDArray[np.float64], warmth: NDArray[np.float64]
        ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
            reacting = RATE_FACTOR * np.exp(-activation * ACTIVATION / temperature) * concentration
            return (
                FLOW / VOLUME * (FEED_CONCENTRATION - concentration) - reacting,
                warmth - (FLOW / VOLUME + cooling * EXCHANGE) * temperature + HEATING * reacting,
            )

    return Process


def plant_state(
    state: NDArray[np.float64],
    action: NDArray[np.float64],
    feed: NDArray[np.float64] | float,
    deployment: Deployment,
    minutes: float = 0.1,
) -> NDArray[np.float64]:
    r"""The state ``[N, 2]`` of the real plant after some minutes (book eq. industrial-plant).

    .. math::

        \dot x_1 = \tfrac qV(c_f-x_1)-k_\psi(x_2)\,x_1,\qquad
        \dot x_2 = \tfrac qV(T_f-x_2)+\tfrac{-\Delta H}{\rho C}k_\psi(x_2)\,x_1
                   +\varphi\,\tfrac{UA}{V\rho C}(T_c-x_2),\qquad k_\psi(T)=k_0e^{-\psi E/RT}.

    Args:
        state: Concentration (mol/L) and temperature (K), ``[N, 2]``.
        action: In [−1, 1], held, ``[N, 1]``.
        feed: Feed temperature in K, ``[N]`` or one number.
        deployment: φ and ψ.
        minutes: For how long.
    """
    jacket = (deployment.cooling - 1) * EXCHANGE * ReactorVector.coolant_temperature(action)[:, 0]
    process = _process(float(deployment.cooling), float(deployment.activation))
    return process.integrate(state, action, np.asarray(feed, dtype=np.float64) + jacket, minutes)


class DeployedReactorVector(ReactorVector):
    """``CA14/Reactor-v0`` as it is delivered, batched: spaces, reward, costs and set points are the same.

    Rewards and costs are those of the true state; what is observed has the sensors' errors, and what is executed is
    late. The feed temperature and the set point are observed without error. Before the first action arrives, 0 is
    executed.

    Args:
        num_envs: Number of copies.
        deployment: How the plant differs from the model; None for not at all.
        parameters: Arguments of :class:`ReactorVector`.
    """

    def __init__(self, num_envs: int = 1, *, deployment: Deployment | None = None, **parameters: Any) -> None:
        super().__init__(num_envs, **parameters)
        self.deployment = Deployment() if deployment is None else deployment
        self._pending: deque[NDArray[np.float64]] = deque(np.zeros((num_envs, 1)) for _ in range(self.deployment.delay))

    def spawn(self, num_envs: int) -> "DeployedReactorVector":
        return type(self)(
            num_envs,
            deployment=self.deployment,
            temperature_limit=self.temperature_limit,
            concentration_limit=self.concentration_limit,
            set_point_steps=self.set_point_steps,
            time_limit=self.time_limit,
        )

    @property
    def true_state(self) -> NDArray[np.float64]:
        """Concentration (mol/L) and temperature (K) of every copy, without the sensors' errors, ``[N, 2]``."""
        return self._x.copy()

    def _place(self, where: NDArray[np.intp] | slice, states: NDArray[np.float64]) -> None:
        super()._place(where, states)
        for action in getattr(self, "_pending", ()):
            action[where] = 0.0

    def _transition(self, action: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        self._pending.append(np.array(action))
        return super()._transition(self._pending.popleft())

    def integrate(  # type: ignore[override]
        self,
        state: NDArray[np.float64],
        action: NDArray[np.float64],
        feed: NDArray[np.float64] | float = FEED_TEMPERATURE,
        minutes: float = 0.1,
    ) -> NDArray[np.float64]:
        """The state of the real plant; :meth:`ReactorVector.integrate` is the model's."""
        return plant_state(state, action, feed, self.deployment, minutes)

    def _observe(self) -> NDArray[np.float32]:
        seen = super()._observe()
        if self.deployment.sensor_noise:
            size = np.array(SENSOR_NOISE) / (CONCENTRATION_UNIT, TEMPERATURE_UNIT)
            error = self.deployment.sensor_noise * size * self.np_random.standard_normal((self.num_envs, 2))
            seen[:, 0] += error[:, 0].astype(np.float32)
            seen[:, 2] -= error[:, 0].astype(np.float32)
            seen[:, 1] += error[:, 1].astype(np.float32)
            space = self.single_observation_space
            seen = np.clip(seen, space.low, space.high)  # type: ignore[attr-defined]
        return seen


class DeployedReactor(SingleEnvironment):
    """The single view of :class:`DeployedReactorVector`; takes its arguments but ``num_envs``."""

    metadata = {"render_modes": []}

    def __init__(self, **parameters: Any) -> None:
        super().__init__(DeployedReactorVector(1, **parameters))
