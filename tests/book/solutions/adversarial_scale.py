"""The worst divergence in a ball and the states that can be flipped, for logits of any scale."""

import numpy as np


def divergence(p: float, q: float) -> float:
    return p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))


def worst_divergence(scale: float, x: float = 0.5, epsilon: float = 0.2) -> float:
    first, *ends = (1 / (1 + np.exp(-scale * point)) for point in (x, x - epsilon, x + epsilon))
    return max(divergence(first, end) for end in ends)


def share_flipped(scale: float, epsilon: float = 0.2) -> float:
    """Of states uniform on [−1, 1]: where the best action differs somewhere in the ball."""
    states = np.linspace(-1, 1, 2_001)
    return float((np.sign(scale * (states - epsilon)) != np.sign(scale * (states + epsilon))).mean())


if __name__ == "__main__":
    for scale in (3.0, 1.0, 0.1, 0.01):
        print(scale, worst_divergence(scale), scale**2 * 0.2**2 / 8, share_flipped(scale))
