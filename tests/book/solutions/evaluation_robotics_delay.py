"""Where the computed-torque arm begins to swing: by its phase margin, and on the arm."""

import numpy as np

from ca14lib.environments.applications.robotics import INTERVAL, ComputedTorque, ReacherDomainVector


def longest_delay(frequency: float, ratio: float) -> float:
    """Seconds until the loop (2ζω s + ω²)/s² has lost its phase margin."""
    crossover = frequency * np.sqrt(2 * ratio**2 + np.sqrt(4 * ratio**4 + 1))
    return float(np.arctan(2 * ratio * crossover / frequency) / crossover)


def late_distance(law: ComputedTorque, delay: int) -> float:
    """Mean distance in m in the last of six seconds, over 50 arms at rest with targets a hand's breadth away."""
    arms = ReacherDomainVector(50, ranges={"delay": delay}, time_limit=None)
    rng = np.random.default_rng(0)
    states = np.zeros((50, 6))
    states[:, 1] = 1.0
    states[:, 4:] = rng.uniform(0.04, 0.12, (50, 2))
    observation, _ = arms.reset(seed=0, options={"state": states})
    distances = []
    for step in range(round(6.0 / INTERVAL)):
        observation, *_ = arms.step(law.act(observation))
        if step >= round(5.0 / INTERVAL):
            distances.append(np.linalg.norm(observation[:, 8:], axis=1).mean())
    return float(np.mean(distances))
