"""Concentrability of two optimal policies under the three behaviours of the gridworld."""

import numpy as np

from ca14lib.environments import behaviour_policy, tabular_model
from ca14lib.solvers import occupancy_measure

GRID = "CA14/GridWorld-v0"
UP, RIGHT = 0, 3


def concentrability(policy: np.ndarray, behaviour: np.ndarray, discount: float = 0.99) -> float:
    """The largest ratio of occupancies over the pairs that the policy visits; the factor 1 − γ cancels."""
    model = tabular_model(GRID)
    of_policy, of_data = (occupancy_measure(model, table, discount) for table in (policy, behaviour))
    visited = of_policy > 0
    with np.errstate(divide="ignore"):
        return float((of_policy[visited] / of_data[visited]).max())


def up_then_right() -> np.ndarray:
    y = tabular_model(GRID).observation[:, 1]
    return np.eye(4)[np.where(y < 4, UP, RIGHT)]


if __name__ == "__main__":
    for name in ("expert", "mixed", "random"):
        behaviour = behaviour_policy(GRID, name)
        own = concentrability(behaviour_policy(GRID, "expert"), behaviour)
        other = concentrability(up_then_right(), behaviour)
        print(f"{name:6s}: expert's policy {own:8.1f}, up then right {other:8.1f}")
