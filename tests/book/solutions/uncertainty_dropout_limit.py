"""Linear regression with dropped inputs and endless data: the weights, and the spread that stays."""

import numpy as np

TRUE_WEIGHTS = np.array([2.0, -1.0, 0.5])


def limit_weights(rate: float) -> np.ndarray:
    """Minimiser of the expected squared error when inputs are independent with variance 1."""
    return (1 - rate) * TRUE_WEIGHTS


def fitted_weights(rate: float, count: int, seed: int = 0) -> np.ndarray:
    """The same from data: dropping inputs adds a penalty on the weights (the mean over all masks, exactly)."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(count, 3))
    target = inputs @ TRUE_WEIGHTS + 0.1 * rng.normal(size=count)
    second_moments = inputs.T @ inputs / count
    penalty = rate / (1 - rate) * np.diag(np.diag(second_moments))
    return np.linalg.solve(second_moments + penalty, inputs.T @ target / count)


def spread(weights: np.ndarray, rate: float, inputs: np.ndarray) -> float:
    """Variance of the prediction over masks."""
    return float(rate / (1 - rate) * np.square(weights * inputs).sum())


if __name__ == "__main__":
    for count in (100, 10_000, 1_000_000):
        print(count, spread(fitted_weights(0.1, count), 0.1, np.ones(3)))
    print("limit", 0.1 * 0.9 * np.square(TRUE_WEIGHTS).sum())
