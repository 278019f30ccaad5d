"""How surely cooling and speed of reaction are told apart after some steps at rest, with one sensor or with two."""

import numpy as np

from ca14lib.solvers.reactor_control import sensitivity

PRIOR, NOISE = 0.1, np.array([0.005, 0.5]) * np.sqrt(2)  # of the factors; of differences in mol/L and K


def deviations(steps: int, sensors: tuple[int, ...]) -> np.ndarray:
    """Standard deviations of φ and κ at the steady state, with the concentration (0), the temperature (1), or both."""
    influence = sensitivity(np.array([[0.5, 350.0]]), np.zeros(1))[0][list(sensors)]
    information = np.eye(2) / PRIOR**2 + steps * influence.T @ np.diag(NOISE[list(sensors)] ** -2.0) @ influence
    return np.sqrt(np.diag(np.linalg.inv(information)))


if __name__ == "__main__":
    for name, sensors in (("temperature alone", (1,)), ("both", (0, 1))):
        print(f"{name:18s} {deviations(200, sensors).round(3)}")
