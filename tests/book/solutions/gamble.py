"""Weighted cloning credits a gamble with its luck: exact weights, and the minimum of the loss on simulated data."""

import math

import numpy as np

SAFE = 0.5  # what the safe action pays; the gamble pays 1 or 0


def threshold(inverse_temperature: float) -> float:
    """The chance of winning from which on the gamble is imitated more than the safe action."""
    return 1 / (math.exp(inverse_temperature / 2) + 1)


def probability_of_gambling(chance: float, inverse_temperature: float, largest_weight: float = math.inf) -> float:
    """The gamble's share of the mean weights."""
    value = (SAFE + chance) / 2

    def weight(outcome: float) -> float:
        return min(math.exp(inverse_temperature * (outcome - value)), largest_weight)

    safe, gamble = weight(SAFE), chance * weight(1.0) + (1 - chance) * weight(0.0)
    return gamble / (safe + gamble)


def fitted_probability(chance: float, inverse_temperature: float, largest_weight: float, seed: int) -> float:
    """The same from 200,000 recorded steps: the weighted likelihood is largest at the share of the weights."""
    generator = np.random.default_rng(seed)
    gambled = generator.random(200_000) < 0.5
    outcome = np.where(gambled, generator.random(200_000) < chance, SAFE)
    weight = np.exp(inverse_temperature * (outcome - outcome.mean())).clip(max=largest_weight)
    return float(weight[gambled].sum() / weight.sum())


def clipped_threshold(inverse_temperature: float, largest_weight: float) -> float:
    """By bisection, the threshold when weights are clipped."""
    low, high = 0.0, 1.0
    while high - low > 1e-9:
        middle = (low + high) / 2
        wins = probability_of_gambling(middle, inverse_temperature, largest_weight) > 0.5
        low, high = (low, middle) if wins else (middle, high)
    return high


if __name__ == "__main__":
    for inverse_temperature in (1.0, 3.0, 10.0):
        free, clipped = threshold(inverse_temperature), clipped_threshold(inverse_temperature, 20.0)
        print(f"β = {inverse_temperature:4.1f}: the gamble wins from p = {free:.3f} on, clipped from {clipped:.3f} on")
    print(f"simulated at p = 0.3, β = 3: {fitted_probability(0.3, 3.0, math.inf, seed=0):.3f}")
    print(f"exact:                       {probability_of_gambling(0.3, 3.0):.3f}")
