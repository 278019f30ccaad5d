"""Which proportional gains hold the reactor at its unstable steady state, if actions arrive some steps late."""

import numpy as np
from scipy.linalg import expm

from ca14lib.environments import ReactorVector

POINT, STEP = np.array([[0.5, 350.0]]), 0.1  # mol/L and K; min


def linearised() -> tuple[np.ndarray, np.ndarray]:
    """The Jacobian and the influence of the action at the steady state."""
    columns = []
    for change in np.diag([1e-5, 1e-3]):
        rise = ReactorVector.drift(POINT + change) - ReactorVector.drift(POINT - change)
        columns.append(rise[0] / (2 * change.sum()))
    return np.column_stack(columns), ReactorVector.input_gain(POINT)[0]


def spectral_radius(gain: float, delay: int) -> float:
    """Of the loop a = −gain · (T − 350), held for a step and executed some steps late."""
    jacobian, influence = linearised()
    block = np.zeros((3, 3))
    block[:2, :2], block[:2, 2:] = STEP * jacobian, STEP * influence
    exact = expm(block)
    decided = np.array([0.0, -gain])
    size = 2 + delay  # the state, then the actions on their way, the oldest first
    loop = np.zeros((size, size))
    loop[:2, :2] = exact[:2, :2]
    if delay == 0:
        loop[:2, :2] += np.outer(exact[:2, 2], decided)
    else:
        loop[:2, 2] = exact[:2, 2]
        loop[2:-1, 3:] = np.eye(delay - 1)
        loop[-1, :2] = decided
    return float(abs(np.linalg.eigvals(loop)).max())


def stable_gains(delay: int) -> tuple[float, float] | None:
    """The least and the greatest stabilising gain on a grid, per K; None if there is none."""
    gains = np.arange(0.001, 0.6, 0.001)
    stable = [gain for gain in gains if spectral_radius(gain, delay) < 1]
    return (round(stable[0], 3), round(stable[-1], 3)) if stable else None


if __name__ == "__main__":
    for delay in range(4):
        print(f"{delay} steps late: {stable_gains(delay)}")
