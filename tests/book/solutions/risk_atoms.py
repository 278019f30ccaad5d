"""Conditional value at risk of four losses beside two conditional means, as the level rises."""

import numpy as np

from ca14lib.metrics import conditional_value_at_risk, value_at_risk

LOSSES = np.array([0.0, 2.0, 5.0, 10.0])
PROBABILITIES = np.array([0.60, 0.25, 0.10, 0.05])


def from_the_quantile_on(alpha: float) -> float:
    tail = value_at_risk(LOSSES, alpha, PROBABILITIES) <= LOSSES
    return float(np.average(LOSSES[tail], weights=PROBABILITIES[tail]))


def beyond_the_quantile(alpha: float) -> float:
    tail = value_at_risk(LOSSES, alpha, PROBABILITIES) < LOSSES
    return float(np.average(LOSSES[tail], weights=PROBABILITIES[tail]))


if __name__ == "__main__":
    for alpha in (0.60, 0.70, 0.80, 0.85, 0.90):
        exact = conditional_value_at_risk(LOSSES, alpha, PROBABILITIES)
        print(f"{alpha:.2f}: {from_the_quantile_on(alpha):.2f} ≤ {exact:.2f} ≤ {beyond_the_quantile(alpha):.2f}")
