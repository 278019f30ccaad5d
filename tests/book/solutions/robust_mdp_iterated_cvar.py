"""The worse half of n coins: of their sum, and of every toss."""

import math

import numpy as np

from ca14lib.metrics.risk import conditional_value_at_risk


def tail_mean(values: np.ndarray, chances: np.ndarray, alpha: float = 0.5) -> float:
    """Mean of the worst share 1 − α: the inner problem of the set q ≤ p / (1 − α)."""
    return 0.0 - conditional_value_at_risk(-values, alpha, chances)


def of_the_sum(coins: int) -> float:
    chances = np.array([math.comb(coins, heads) for heads in range(coins + 1)]) / 2.0**coins
    return tail_mean(np.arange(coins + 1.0), chances)


def of_every_toss(coins: int) -> float:
    value = 0.0  # of the tosses that are left; the same after heads and tails
    for _ in range(coins):
        value = tail_mean(np.array([0.0, 1.0]) + value, np.array([0.5, 0.5]))
    return value


if __name__ == "__main__":
    for coins in (1, 2, 10, 100, 1000):
        print(coins, of_the_sum(coins) / coins, of_every_toss(coins) / coins)
