"""Variance of a mean under resampling, under coins, and under coins that are thrown again for every look."""

import numpy as np


def variances(
    numbers: np.ndarray, *, probability: float = 0.5, looks: int = 50, repetitions: int = 4_000
) -> np.ndarray:
    """Variance of a mean in units of variance by count: resampled, kept by coins, average of many looks."""
    rng, n = np.random.default_rng(0), len(numbers)
    resampled = numbers[rng.integers(n, size=(repetitions, n))].mean(axis=1)
    kept = rng.random((repetitions, n)) < probability
    coins = (kept * numbers).sum(axis=1) / kept.sum(axis=1)
    again = coins.reshape(-1, looks).mean(axis=1)
    return np.array([resampled.var(), coins.var(), again.var()]) / (numbers.var() / n)


if __name__ == "__main__":
    print(variances(np.random.default_rng(1).normal(size=200)).round(2))
