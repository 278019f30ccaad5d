"""CPO's step in two dimensions, and the best of many points of the trust region."""

import math

import numpy as np

from ca14lib.agents.safe.cpo import trust_region_dual

G, B, DELTA = np.array([-1.0, 0.0]), np.array([0.8, 0.6]), 0.5


def step(c: float) -> tuple[int, np.ndarray]:
    dual = trust_region_dual(G @ G, G @ B, B @ B, c, DELTA)
    if dual.case == 0:
        return 0, -math.sqrt(2 * DELTA / (B @ B)) * B
    return dual.case, -(G + dual.cost_multiplier * B) / dual.trust_multiplier


def best_of_many(c: float, angles: int = 20_000) -> np.ndarray:
    """The best feasible point of a grid on the trust region, or the one of least cost if none is feasible."""
    angle = np.linspace(0, 2 * math.pi, angles)
    circle = math.sqrt(2 * DELTA) * np.column_stack([np.cos(angle), np.sin(angle)])
    points = np.concatenate([radius * circle for radius in np.linspace(0, 1, 21)])
    cost = points @ B + c
    if not (cost <= 0).any():
        return points[cost.argmin()]
    return points[np.where(cost <= 0, points @ G, np.inf).argmin()]


if __name__ == "__main__":
    for c in (-1.3, -0.4, 0.4, 1.3):
        case, found = step(c)
        print(f"c = {c}: case {case}, step {found.round(3)}, search {best_of_many(c).round(3)}")
