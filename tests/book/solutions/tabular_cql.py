"""The fixed point of CQL as a table, on the random behaviour of the gridworld."""

import numpy as np
from scipy.special import softmax

from ca14lib.environments import tabular_model
from ca14lib.solvers import policy_return
from ca14lib.training import collect

GRID = "CA14/GridWorld-v0"


def counted_frequencies(episodes: int, seed: int) -> np.ndarray:
    model = tabular_model(GRID)
    counts = collect(GRID, "random", episodes, seed).visit_counts(model) + model.terminal[:, None]
    return counts / counts.sum(axis=1, keepdims=True)


def fixed_point(frequencies: np.ndarray, weight: float, discount: float = 0.99, sweeps: int = 600) -> np.ndarray:
    """Backups Q̄, each followed by Newton steps on the convex loss of every state."""
    model = tabular_model(GRID)
    q = np.zeros_like(frequencies)
    diagonal = np.eye(q.shape[1])
    for _ in range(sweeps):
        backup = model.reward + discount * model.transition @ np.where(model.terminal, 0.0, q.max(axis=1))
        for _ in range(3):
            p = softmax(q, axis=1)
            gradient = frequencies * (q - backup) + weight * (p - frequencies)
            curvature = (frequencies + weight * p)[..., None] * diagonal - weight * p[:, :, None] * p[:, None]
            q = q - np.linalg.solve(curvature, gradient[..., None])[..., 0]
    return q


def greedy_return(q: np.ndarray) -> float:
    return policy_return(tabular_model(GRID), np.eye(4)[q.argmax(axis=1)], horizon=50)


if __name__ == "__main__":
    uniform, counted = np.full((25, 4), 0.25), counted_frequencies(8_000, seed=0)
    for weight in (0.0, 0.1, 1.0, 2.0, 5.0, 20.0):
        q = fixed_point(uniform, weight)
        returns = greedy_return(q), greedy_return(fixed_point(counted, weight))
        print(f"α = {weight:4.1f}: best value at the start {q[0].max():6.3f}, gap to the worst {np.ptp(q[0]):.3f}")
        print(f"          return {returns[0]:5.2f} with exact frequencies, {returns[1]:5.2f} with counted ones")
