"""How near an arm with a dead shoulder comes: the targets' mean distance from a circle about the elbow."""

import numpy as np

from ca14lib.environments.applications.robotics import GOAL_RADIUS, LINK, REACH


def least_mean_distance(samples: int = 400_000, seed: int = 0) -> float:
    """In m, with the shoulder at 0 and targets uniform over their disc."""
    rng = np.random.default_rng(seed)
    radius, angle = GOAL_RADIUS * np.sqrt(rng.uniform(size=samples)), rng.uniform(-np.pi, np.pi, samples)
    from_elbow = np.hypot(radius * np.cos(angle) - LINK, radius * np.sin(angle))
    return float(abs(from_elbow - REACH).mean())
