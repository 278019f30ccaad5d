"""A coin, then a choice: the tail of policies that do not see the coin, and of those that see the budget."""

import itertools

import numpy as np

from ca14lib.metrics import conditional_value_at_risk

TAIL, COIN = 0.6, (0.0, -4.0)


def tail_mean(bet_after: tuple[float, float]) -> float:
    """Mean of the worst 60% if the bet is taken with these probabilities after each outcome of the coin."""
    returns, weights = [], []
    for paid, bet in zip(COIN, bet_after):
        returns += [paid - 1.0, paid, paid - 1.8]
        weights += [0.5 * (1 - bet), 0.25 * bet, 0.25 * bet]
    return -conditional_value_at_risk(-np.array(returns), 1 - TAIL, weights)


def best_without_seeing(grid: int = 101) -> tuple[float, float]:
    """Best probability of the bet, and its tail mean."""
    shares = np.linspace(0, 1, grid)
    values = [tail_mean((share, share)) for share in shares]
    return float(shares[int(np.argmax(values))]), float(max(values))


def best_with_budget() -> tuple[tuple[float, float], float]:
    choices = list(itertools.product((0.0, 1.0), repeat=2))
    values = [tail_mean(choice) for choice in choices]
    return choices[int(np.argmax(values))], float(max(values))


if __name__ == "__main__":
    print("always sure", tail_mean((0, 0)), "always bet", tail_mean((1, 1)))
    print("without seeing", best_without_seeing())
    print("with the budget", best_with_budget())
