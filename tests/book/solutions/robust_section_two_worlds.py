"""A predictor that is calibrated over two worlds at one level, and in neither of them."""

import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm

from ca14lib.metrics.calibration import coverage_error

STATED, LEVEL = 1.0, 0.9
CALM = 0.5  # true deviation in the calm world


def coverage(deviation: float, level: float = LEVEL) -> float:
    """Share of outcomes with this true deviation in the central interval that was stated."""
    return float(2 * norm.cdf(STATED * norm.ppf((1 + level) / 2) / deviation) - 1)


def rough() -> float:
    """Deviation of the rough world with which both together are covered as stated."""
    return float(brentq(lambda deviation: coverage(CALM) + coverage(deviation) - 2 * LEVEL, 0.5, 5.0))


def errors(cases: int = 20_000, seed: int = 0) -> dict[str, float]:
    """Expected calibration error in each world and over both."""
    generator = np.random.default_rng(seed)
    outcomes = {"calm": CALM * generator.normal(size=cases), "rough": rough() * generator.normal(size=cases)}
    outcomes["both"] = np.concatenate(list(outcomes.values()))
    return {name: coverage_error(0 * y, STATED + 0 * y, y) for name, y in outcomes.items()}


if __name__ == "__main__":
    print(rough(), coverage(CALM), coverage(rough()), errors())
