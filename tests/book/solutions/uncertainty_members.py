"""How much of the disagreement M members show, and how uncertain that is."""

import numpy as np


def spreads(members: int, repetitions: int = 20_000, seed: int = 0) -> np.ndarray:
    """Variance over members, divisor M, of means drawn from a standard normal distribution."""
    means = np.random.default_rng(seed).normal(size=(repetitions, members))
    return means.var(axis=1)


if __name__ == "__main__":
    for members in (1, 2, 5, 20):
        spread = spreads(members)
        print(members, spread.mean().round(2), (spread.std() / max(spread.mean(), 1e-12)).round(2))
