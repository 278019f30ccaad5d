"""Quality and coverage of behaviours between the gridworld's expert and uniform actions."""

import numpy as np

from ca14lib.environments import behaviour_policy, tabular_model
from ca14lib.metrics import share_of_range
from ca14lib.solvers import occupancy_measure, policy_return, value_iteration

GRID, DISCOUNT, STEPS = "CA14/GridWorld-v0", 0.99, 50
UP, RIGHT = 0, 3


def mixed_behaviour(noise: float) -> np.ndarray:
    """The expert's action, or with this probability any action."""
    return (1 - noise) * behaviour_policy(GRID, "expert") + noise * behaviour_policy(GRID, "random")


def quality(behaviour: np.ndarray) -> float:
    """Expected return within 50 steps, as a share of the range between uniform actions and the optimum."""
    model = tabular_model(GRID)
    returns = [policy_return(model, table, horizon=STEPS) for table in (behaviour, behaviour_policy(GRID, "random"))]
    return share_of_range(*returns, value_iteration(model).optimal_return)


def coverage(policy: np.ndarray, behaviour: np.ndarray) -> tuple[float, float]:
    """Mean and largest ratio of the policy's occupancy to the data's, over the policy's own visits."""
    model = tabular_model(GRID)
    wanted, held = (occupancy_measure(model, table, DISCOUNT) for table in (policy, behaviour))
    wanted, held = wanted / wanted.sum(), held / held.sum()
    visited = wanted > 0
    with np.errstate(divide="ignore"):
        ratio = wanted[visited] / held[visited]
    return float((wanted[visited] * ratio).sum()), float(ratio.max())


def up_then_right() -> np.ndarray:
    y = tabular_model(GRID).observation[:, 1]
    return np.eye(4)[np.where(y < 4, UP, RIGHT)]


if __name__ == "__main__":
    for noise in (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0):
        behaviour = mixed_behaviour(noise)
        own, other = (coverage(policy, behaviour) for policy in (behaviour_policy(GRID, "expert"), up_then_right()))
        print(f"noise {noise:.1f}: quality {quality(behaviour):.2f}, expert's path {own[0]:9.1f} {own[1]:9.1f}, "
              f"other path {other[0]:12.1f} {other[1]:12.1f}")  # fmt: skip
