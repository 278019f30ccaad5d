"""What a noisy channel does to a bit, and what it makes of a sender that wants to be understood."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(101)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


def error(logit: float, deviation: float) -> float:
    """Probability that the noise turns the bit round."""
    return float(norm.cdf(-abs(logit) / deviation))


def arrives(logit: float, deviation: float) -> NDArray:
    """Nodes of the distribution of what arrives, sigmoid(m + σξ)."""
    return 1 / (1 + np.exp(-(logit + deviation * NODES)))


def mean(logit: float, deviation: float) -> float:
    return float(WEIGHTS @ arrives(logit, deviation))


def slope(logit: float, deviation: float) -> float:
    """Mean derivative of what arrives by the logit: what the sender learns with."""
    value = arrives(logit, deviation)
    return float(WEIGHTS @ (value * (1 - value)))


if __name__ == "__main__":
    print("logit for one error in a hundred", 2 * norm.ppf(0.99))
    for m in (0.5, 2.0, 4.65, 10.0):
        print(m, "error", error(m, 2.0), "mean", mean(m, 2.0), "slope", slope(m, 2.0), "without noise", slope(m, 1e-9))
