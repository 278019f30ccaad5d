"""Greedy behaviour cloning as a table: in every state, the most frequent recorded action."""

import numpy as np

from ca14lib.environments import tabular_model
from ca14lib.solvers import policy_return
from ca14lib.training import collect

GRID = "CA14/GridWorld-v0"


def clone_returns(behaviour: str, episodes: int, seed: int) -> tuple[float, float]:
    """Exact 50-step returns of the sampled copy and of its mode."""
    model = tabular_model(GRID)
    counts = collect(GRID, behaviour, episodes, seed).visit_counts(model).astype(float)
    counts[counts.sum(axis=1) == 0] = 1.0  # a state without data: uniform
    sampled = counts / counts.sum(axis=1, keepdims=True)
    mode = np.eye(4)[counts.argmax(axis=1)]
    return policy_return(model, sampled, horizon=50), policy_return(model, mode, horizon=50)


if __name__ == "__main__":
    for behaviour in ("mixed", "random"):
        for seed in range(5):
            sampled, mode = clone_returns(behaviour, 2_000, seed)
            print(f"{behaviour:6s}, seed {seed}: sampled copy {sampled:6.3f}, mode {mode:6.3f}")
