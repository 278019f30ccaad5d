"""The least set point that can be held below a temperature, from the steady state of the reactor's first equation."""

import numpy as np

from ca14lib.environments.reactor import reaction_rate


def least_set_point(temperature: float) -> float:
    return float(1 / (1 + reaction_rate(np.array(temperature))))


def unreachable(temperature: float) -> float:
    """Share of the set points, uniform on 0.35 to 0.6 mol/L, that cannot be held."""
    return (least_set_point(temperature) - 0.35) / 0.25


if __name__ == "__main__":
    for margin in (0.0, 1.0, 2.0):
        limit = 355.0 - margin
        print(f"margin {margin} K: {least_set_point(limit):.3f} mol/L, {unreachable(limit):.0%} out of reach")
