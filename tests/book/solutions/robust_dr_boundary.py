"""Automatic domain randomisation with a noisy judge: where a boundary goes, and how much it moves about."""

import numpy as np

from ca14lib.environments.domains import AdaptiveRanges

STEP = 0.02


def boundaries(buffer_size: int, low: float, noise: float = 0.3, episodes: int = 40_000, seed: int = 0) -> np.ndarray:
    """The upper end after every episode, for a performance that falls as 1 - x and is seen with noise."""
    generator = np.random.default_rng(seed)
    ranges = AdaptiveRanges(
        {"x": (0.0, 0.0)}, {"x": (0.0, 1.0)}, {"x": STEP},
        low_threshold=low, high_threshold=0.7, buffer_size=buffer_size,
    )  # fmt: skip
    path = np.empty(episodes)
    for episode in range(episodes):
        ranges.record("x", "high", 1 - ranges["x"][1] + noise * generator.normal())
        path[episode] = ranges["x"][1]
    return path


if __name__ == "__main__":
    for buffer_size, low in ((1, 0.5), (10, 0.5), (100, 0.5), (10, 0.69), (100, 0.69)):
        late = boundaries(buffer_size, low)[20_000:]
        print(buffer_size, low, late.mean().round(3), late.std().round(3), late.max())
