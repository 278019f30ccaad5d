"""What a policy over two actions costs, and what the program of its best action costs."""

import numpy as np


def mixed(limit: float) -> np.ndarray:
    """The best policy whose mean cost is within the limit; action 1 earns 1 and costs 1."""
    share = min(limit, 1.0)
    return np.array([1 - share, share])


def cost_of_program(limit: float) -> float:
    return float(mixed(limit).argmax())


if __name__ == "__main__":
    for limit in (0.4, 0.6, 1.0):
        print(limit, mixed(limit)[1], cost_of_program(limit), cost_of_program(limit) <= limit)
