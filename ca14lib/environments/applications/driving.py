"""SafeDriving in other traffic: denser, more aggressive, seen through a worse sensor. Book: evaluation/driving."""

import math
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from ca14lib.environments.safe_driving import CONFIGURATION, driving_environment

RANGE_ERROR, SPEED_ERROR = 3.0, 1.0  # m and m/s, standard deviations along the road: the unit of sensor_noise
METRES, METRES_PER_SECOND = 200.0, 80.0  # what highway-env divides positions along the road and speeds by


@dataclass(frozen=True)
class Traffic:
    """How traffic differs from that of ``CA14/SafeDriving-v0``.

    Args:
        density: Factor of the number of other cars and of how close they drive.
        aggressive: Others follow highway-env's aggressive driver model.
        sensor_noise: Errors of others' distances and speeds along the road, in standard deviations of 3 m and 1 m/s.
    """

    density: float = 1.0
    aggressive: bool = False
    sensor_noise: float = 0.0

    def __post_init__(self) -> None:
        if not 0.1 <= self.density <= 3.0:
            raise ValueError(f"density must lie in [0.1, 3], got {self.density}")
        if not (self.sensor_noise >= 0 and math.isfinite(self.sensor_noise)):
            raise ValueError(f"sensor_noise must be at least 0 and finite, got {self.sensor_noise}")


class NoisyRadar(gym.ObservationWrapper, gym.utils.RecordConstructorArgs):
    """Adds normal errors to distances and speeds of the other cars that are present; the own car is known exactly.

    Args:
        env: With observations ``[cars, 5]`` of presence, x, y, vx, vy.
        noise: In units of 3 m and 1 m/s.
    """

    def __init__(self, env: gym.Env, noise: float) -> None:
        gym.utils.RecordConstructorArgs.__init__(self, noise=noise)
        gym.ObservationWrapper.__init__(self, env)
        self.noise = float(noise)

    def observation(self, observation: NDArray) -> NDArray[np.float32]:
        """The observation with errors."""
        seen = np.array(observation, dtype=np.float32)
        errors = self.noise * self.np_random.standard_normal((len(seen) - 1, 2))
        there = seen[1:, :1] > 0.5
        seen[1:, [1, 3]] += np.where(there, errors * (RANGE_ERROR / METRES, SPEED_ERROR / METRES_PER_SECOND), 0.0)
        return seen


def traffic_environment(traffic: Traffic | None = None, *, speed_limit: float = 25.0) -> gym.Env:
    """``CA14/SafeDriving-v0`` in other traffic; reward, costs and actions are the same.

    Args:
        traffic: How it differs; None for not at all.
        speed_limit: m/s from which a step costs 1.
    """
    traffic = Traffic() if traffic is None else traffic
    cars = round(CONFIGURATION["vehicles_count"] * traffic.density)
    config: dict[str, Any] = {"vehicles_count": cars, "vehicles_density": traffic.density}
    if traffic.aggressive:
        config["other_vehicles_type"] = "highway_env.vehicle.behavior.AggressiveVehicle"
    environment = driving_environment(speed_limit=speed_limit, config=config)
    return NoisyRadar(environment, traffic.sensor_noise) if traffic.sensor_noise else environment
