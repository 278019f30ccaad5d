"""What averaging deviations in the place of variances does to an interval."""

import numpy as np
from scipy import stats

DEVIATIONS = np.array([0.5, 0.5, 0.5, 0.5, 4.0])  # five members, equal means, one alarmed


def right() -> float:
    return float(np.sqrt(np.square(DEVIATIONS).mean()))


def wrong() -> float:
    return float(DEVIATIONS.mean())


def covered(std: float, level: float = 0.9) -> float:
    """Share of the mixture inside the central interval of a normal distribution with this deviation."""
    reach = std * stats.norm.ppf((1 + level) / 2)
    return float((2 * stats.norm.cdf(reach / DEVIATIONS) - 1).mean())


if __name__ == "__main__":
    print(right(), covered(right()))
    print(wrong(), covered(wrong()))
