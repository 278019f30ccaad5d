"""The mean of the largest of k standard normal numbers, by integration and by simulation."""

import numpy as np
from scipy.integrate import quad
from scipy.stats import norm


def mean_maximum(k: int) -> float:
    """m_k: the density of the maximum is k φ(x) Φ(x)^(k − 1)."""
    return quad(lambda x: k * x * norm.pdf(x) * norm.cdf(x) ** (k - 1), -10, 10)[0]


def simulated_maximum(k: int, repetitions: int = 400_000, seed: int = 0) -> float:
    return np.random.default_rng(seed).standard_normal((repetitions, k)).max(axis=1).mean()


if __name__ == "__main__":
    for k in (2, 3, 4, 25):
        exact, simulated = mean_maximum(k), simulated_maximum(k)
        print(f"k = {k:2d}: {exact:.3f} (simulated {simulated:.3f}), bound {np.sqrt(2 * np.log(k)):.3f}")
