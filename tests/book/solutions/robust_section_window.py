"""How many months of data a portfolio needs, and what caution about its estimates does to it."""

import numpy as np


def months_needed(assets: int, best: float, naive: float) -> float:
    """Until estimated weights have the utility of naive ones, by monthly ratios of mean to deviation."""
    return assets / (best**2 - naive**2)


def utility(months: int, mean: float, radius: float, aversion: float = 1.0, seed: int = 0) -> float:
    """Expected utility of one asset of variance 1, with its mean estimated and then lowered in size by the radius."""
    estimate = mean + np.random.default_rng(seed).normal(size=200_000) / np.sqrt(months)
    weight = np.sign(estimate) * np.maximum(abs(estimate) - radius, 0) / aversion
    return float((weight * mean - aversion / 2 * weight**2).mean())


if __name__ == "__main__":
    print(months_needed(25, 0.15, 0.12), months_needed(50, 0.15, 0.12))
    for mean in (0.1, 0.0):
        print(mean, [round(1_000 * utility(60, mean, radius / np.sqrt(60)), 2) for radius in (0, 0.5, 1, 2)])
