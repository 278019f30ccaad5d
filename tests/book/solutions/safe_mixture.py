"""Three mixtures of two policies on SafeGrid, exactly."""

import numpy as np

from ca14lib.environments import tabular_model
from ca14lib.solvers import constrained_optimum, policy_costs, policy_return

MODEL = tabular_model("CA14/SafeGrid-v0")
CHEAP, DEAR = (constrained_optimum(MODEL, limit) for limit in (0.1, 0.6))


def judged(policy: np.ndarray) -> tuple[float, float]:
    """Cost and return of an episode."""
    cost = policy_costs(MODEL, policy, 1.0, MODEL.horizon)
    return float(cost[0]), policy_return(MODEL, policy, 1.0, MODEL.horizon)


def coin_before_each_episode() -> tuple[float, float]:
    both = [judged(solution.policy) for solution in (CHEAP, DEAR)]
    return (both[0][0] + both[1][0]) / 2, (both[0][1] + both[1][1]) / 2


def coin_at_every_step() -> np.ndarray:
    return (CHEAP.policy + DEAR.policy) / 2


def policy_of_the_mean_occupancy() -> np.ndarray:
    visits = (CHEAP.occupancy + DEAR.occupancy) / 2
    total = visits.sum(axis=-1, keepdims=True)
    return np.where(total > 0, visits / np.where(total > 0, total, 1), CHEAP.policy)


if __name__ == "__main__":
    print("before the episode", coin_before_each_episode())
    print("at every step", judged(coin_at_every_step()))
    print("occupancies averaged", judged(policy_of_the_mean_occupancy()))
