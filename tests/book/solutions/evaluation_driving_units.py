"""A time gap computed in the observation's units, and in metres and seconds: when does each of them brake?"""

import numpy as np

from ca14lib.experiments.evaluation.driving import METRES, METRES_PER_SECOND, gap_ahead

TIME_GAP, STANDSTILL = 1.5, 8.0


def observation(distance: float, speed: float) -> np.ndarray:
    seen = np.zeros((1, 5, 5))
    seen[0, 0] = (1, 1, 0, speed / METRES_PER_SECOND, 0)
    seen[0, 1] = (1, distance / METRES[0], 0, 0, 0)
    return seen


def brakes_in_metres(seen: np.ndarray) -> bool:
    return bool(gap_ahead(seen)[0][0] < STANDSTILL + TIME_GAP * seen[0, 0, 3] * METRES_PER_SECOND)


def brakes_without_units(seen: np.ndarray) -> bool:
    """The bug: 0.2 of the observation is neither 0.2 m nor 0.2 m/s, and the two have different units."""
    return bool(seen[0, 1, 1] < TIME_GAP * seen[0, 0, 3])


def braking_distance(rule, speed: float) -> float:
    """The largest distance on a grid of metres at which a rule brakes."""
    return max((float(d) for d in range(1, 200) if rule(observation(d, speed))), default=0.0)


if __name__ == "__main__":
    for speed in (20.0, 25.0, 30.0):
        print(f"{speed} m/s: in metres {braking_distance(brakes_in_metres, speed)}, "
              f"without units {braking_distance(brakes_without_units, speed)}")  # fmt: skip
