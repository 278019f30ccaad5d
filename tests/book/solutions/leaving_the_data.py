"""The policy of largest value plus weighted likelihood, exactly and by gradient ascent on logits."""

import math

import numpy as np
from scipy.optimize import brentq


def optimum(values: np.ndarray, frequencies: np.ndarray, weight: float) -> np.ndarray:
    """The maximiser of Σ π q + w Σ π̂ log π; probability left over goes to the best unrecorded action."""
    recorded = frequencies > 0

    def total(multiplier: float) -> float:
        return float((weight * frequencies[recorded] / (multiplier - values[recorded])).sum())

    largest = values[recorded].max()
    multiplier = brentq(lambda m: total(m) - 1, largest + 1e-9, largest + weight + 1e-6)
    unrecorded = np.where(recorded, -math.inf, values)
    multiplier = max(multiplier, unrecorded.max())
    policy = np.zeros(len(values))
    policy[recorded] = weight * frequencies[recorded] / (multiplier - values[recorded])
    if not recorded.all():
        policy[unrecorded.argmax()] = max(1 - policy.sum(), 0)
    return policy


def ascent(values: np.ndarray, frequencies: np.ndarray, weight: float, steps: int = 200_000) -> np.ndarray:
    """The same by gradient ascent on logits, as a network would."""
    logits = np.zeros(len(values))
    for _ in range(steps):
        policy = np.exp(logits - logits.max())
        policy /= policy.sum()
        logits += 0.05 * (policy * (values - policy @ values) + weight * (frequencies - policy))
    return policy


def weighted(values: np.ndarray, frequencies: np.ndarray, inverse_temperature: float) -> np.ndarray:
    """The other direction of the divergence: π̂ exp(βA) / Z."""
    policy = frequencies * np.exp(inverse_temperature * (values - values.max()))
    return policy / policy.sum()


if __name__ == "__main__":
    frequencies = np.array([0.8, 0.2, 0.0])
    for unseen in (0.0, 1.4, 1 + math.sqrt(0.2), 1.5, 2 * (1 + math.sqrt(0.2)), 10.0):
        values = np.array([0.0, 1.0, unseen])
        exact, found = optimum(values, frequencies, 1.0), ascent(values, frequencies, 1.0, 20_000)
        print(f"q₀ = {unseen:6.3f}: {exact.round(3)}, by ascent {found.round(3)}, weighted cloning "
              f"{weighted(values, frequencies, 1.0).round(3)}")  # fmt: skip
