"""Gradient descent on conditional value at risk with the right weights and with those that lack the quantile.

With probability p the policy takes the bet, which costs 6 with probability 0.3, else nothing; otherwise it pays 5.
"""

import numpy as np

from ca14lib.metrics import conditional_value_at_risk, risk_influence, value_at_risk

LOSSES = np.array([0.0, 5.0, 6.0])
ALPHA = 0.8


def probabilities(p: float) -> np.ndarray:
    return np.array([0.7 * p, 1 - p, 0.3 * p])


def right(p: float) -> np.ndarray:
    return risk_influence(LOSSES, "conditional_value_at_risk", ALPHA, probabilities(p))


def wrong(p: float) -> np.ndarray:
    tail = value_at_risk(LOSSES, ALPHA, probabilities(p)) <= LOSSES
    return tail * LOSSES / (tail @ probabilities(p))


def descend(weights, steps: int = 4_000, rate: float = 0.05) -> float:
    """The p at which descent on the logit ends, from one half, with exact expectations."""
    logit = 0.0
    for _ in range(steps):
        p = 1 / (1 + np.exp(-logit))
        score = np.array([1 - p, -p, 1 - p])  # derivative of the log-probability of the choice by the logit
        logit -= rate * probabilities(p) * score @ weights(p)
    return float(1 / (1 + np.exp(-logit)))


def risk(p: float) -> float:
    return conditional_value_at_risk(LOSSES, ALPHA, probabilities(p))


if __name__ == "__main__":
    for weights in (right, wrong):
        p = descend(weights)
        print(f"{weights.__name__}: p = {p:.3f}, risk {risk(0.5):.2f} -> {risk(p):.2f}")
