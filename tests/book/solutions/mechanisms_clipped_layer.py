"""One violated constraint and one bound: the closed form, clipped afterwards, and the exact programme."""

import numpy as np

from ca14lib.agents.safe.projection import nearest_action
from ca14lib.agents.safe.safety_layer import safety_layer

WANTED, GRADIENT, LIMIT = np.array([[0.2, 0.9]]), np.array([[1.0, -2.0]]), -2.2  # a₁ − 2a₂ ≤ −2.2, both in [−1, 1]


def clipped() -> np.ndarray:
    return np.clip(safety_layer(WANTED, GRADIENT, np.zeros(1), LIMIT), -1, 1)[0]


def exact() -> np.ndarray:
    return nearest_action(WANTED, GRADIENT[:, None], np.array([[LIMIT]]), low=-1, high=1).action[0]


def cost(action: np.ndarray) -> float:
    return float(GRADIENT[0] @ action)


if __name__ == "__main__":
    before = safety_layer(WANTED, GRADIENT, np.zeros(1), LIMIT)[0]
    for name, action in (("closed form", before), ("clipped", clipped()), ("exact", exact())):
        print(f"{name:12s} {action.round(3)}, cost {cost(action):.3f}, moved {np.linalg.norm(action - WANTED):.3f}")
