"""The gradient of a tail mean of one softmax choice, by the formula and by differences."""

import numpy as np

from ca14lib.metrics import conditional_value_at_risk

RETURNS = np.array([-4.0, -1.0, 0.0, 2.0])


def probabilities(logits: np.ndarray) -> np.ndarray:
    weight = np.exp(logits - logits.max())
    return weight / weight.sum()


def tail_mean(logits: np.ndarray, tail: float) -> float:
    return -conditional_value_at_risk(-RETURNS, 1 - tail, probabilities(logits))


def gradient(logits: np.ndarray, tail: float, border: float) -> np.ndarray:
    """With utilities of the tail that ends at ``border``."""
    p = probabilities(logits)
    utility = np.minimum(RETURNS - border, 0) / tail
    return p * (utility - p @ utility)


def difference(logits: np.ndarray, tail: float, direction: np.ndarray, step: float) -> float:
    return (tail_mean(logits + step * direction, tail) - tail_mean(logits, tail)) / step


if __name__ == "__main__":
    equal = np.zeros(4)
    print("tail mean", tail_mean(equal, 0.4))
    print("formula", gradient(equal, 0.4, -1.0).round(3))
    print("differences", [round(difference(equal, 0.4, np.eye(4)[i], 1e-6), 3) for i in range(4)])
    direction = np.array([0.0, -1.0, 0.0, 0.0])
    ends = [gradient(equal, 0.5, border) @ direction for border in (-1.0, 0.0)]
    sides = [difference(equal, 0.5, direction, step) for step in (1e-6, -1e-6)]
    print("two borders", np.round(ends, 3), "two sides", np.round(sides, 3))
