"""How far under the mean: the same caution in the units of four methods, for normal outcomes."""

import numpy as np
from scipy.stats import norm

from ca14lib.metrics.risk import conditional_value_at_risk, entropic_risk
from ca14lib.solvers.robust import worst_case_kl


def deviations(share: float) -> float:
    """By how many standard deviations the mean of the worst share lies under the mean."""
    return float(norm.pdf(norm.ppf(share)) / share)


def equal_caution(share: float) -> dict[str, float]:
    """Radius in nats, aversion and pessimism that lie as far under the mean, for deviation 1."""
    below = deviations(share)
    return {"KL radius": below**2 / 2, "entropic aversion": 2 * below, "pessimism": below}


def on_a_grid(share: float, points: int = 4_001) -> dict[str, float]:
    """The same four distances, from the library's functions on a fine grid of outcomes."""
    outcomes = np.linspace(-12, 12, points)
    weights = norm.pdf(outcomes) / norm.pdf(outcomes).sum()
    equal = equal_caution(share)
    worst = worst_case_kl(weights, outcomes, equal["KL radius"])
    return {
        "tail": conditional_value_at_risk(-outcomes, 1 - share, weights),
        "KL radius": float(-(worst @ outcomes)),
        "entropic aversion": entropic_risk(-outcomes, equal["entropic aversion"], weights),
    }


def over_steps(share: float, steps: int) -> tuple[float, float]:
    """How far a sum of independent steps falls: with one budget for all of them, and with one for each."""
    return deviations(share) * np.sqrt(steps), deviations(share) * steps


if __name__ == "__main__":
    for share in (0.5, 0.1, 0.01):
        print(share, deviations(share), equal_caution(share), on_a_grid(share))
    print(over_steps(0.1, 100))
