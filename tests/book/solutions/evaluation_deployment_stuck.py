"""A detector of repeated observations, on cart-pole's random walk with a sensor that sticks."""

import numpy as np

from ca14lib.deployment import conformal_threshold, persistent_peak
from ca14lib.experiments.evaluation.deployment import first_alarm, observed_episodes


class Random:
    """Pushes at random."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def act(self, observation, *, deterministic=False):
        return self.rng.integers(2, size=len(observation))


def repetitions(episode: np.ndarray) -> np.ndarray:
    """Steps since the observation last changed, ``[T]``."""
    counts = np.zeros(len(episode))
    for step in range(1, len(episode)):
        counts[step] = counts[step - 1] + 1 if (episode[step] == episode[step - 1]).all() else 0
    return counts


def first_alarms(shift: str, seed: int = 0) -> list[int | None]:
    calibration = observed_episodes(Random(seed), "none", 99, 1, seed)
    threshold = conformal_threshold([persistent_peak(repetitions(each)) for each in calibration], 0.05)
    return [
        first_alarm(repetitions(each), threshold, 1) for each in observed_episodes(Random(seed), shift, 400, 2, seed)
    ]


if __name__ == "__main__":
    print(set(first_alarms("none")), np.mean([alarm == 1 for alarm in first_alarms("stuck sensor")]))
