"""A calibration error that leaves out bins with few cases, beside the one that counts them."""

import numpy as np

from ca14lib.metrics.calibration import confidence_curve, expected_calibration_error

# 1,000 answers; the 40 of least confidence are right 4 times
CONFIDENCE = np.repeat([0.97, 0.88, 0.65, 0.55], [700, 260, 20, 20])
CORRECT = np.concatenate([np.arange(count) < right for count, right in ((700, 679), (260, 229), (20, 2), (20, 2))])


def without_small_bins(least: int = 30) -> float:
    curve = confidence_curve(CONFIDENCE, CORRECT)
    kept = curve.cases >= least
    gaps = abs(curve.observed[kept] - curve.stated[kept])
    return float(gaps @ curve.cases[kept] / curve.cases[kept].sum())


if __name__ == "__main__":
    print(without_small_bins(), expected_calibration_error(CONFIDENCE, CORRECT))
