"""Coverage and calibration error when every deviation is stated too small or too large by one factor."""

import numpy as np
from scipy import stats

LEVELS = np.arange(1, 20) / 20


def covered(factor: float, level: float | np.ndarray) -> np.ndarray:
    return 2 * stats.norm.cdf(factor * stats.norm.ppf((1 + np.asarray(level)) / 2)) - 1


def calibration_error(factor: float) -> float:
    return float(abs(covered(factor, LEVELS) - LEVELS).mean())


if __name__ == "__main__":
    for factor in (0.5, 1.0, 2.0):
        print(factor, covered(factor, 0.9).round(3), round(calibration_error(factor), 3))
