"""Count the cost of episodes in a batch that resets itself, with and without the cost of the last step."""

import numpy as np

from ca14lib.environments import SafeGridVector
from ca14lib.solvers import constrained_optimum

NUM_ENVS, EPISODES = 64, 2_000


def counted_costs(limit: float, faulty: bool, seed: int = 0) -> np.ndarray:
    """Costs of episodes of the policy that is optimal for a limit, as a program counts them."""
    vector, generator = SafeGridVector(NUM_ENVS), np.random.default_rng(seed)
    policy = constrained_optimum(vector.tabular_model(), [limit]).policy
    observation, _ = vector.reset(seed=seed)
    running, finished, step = np.zeros(NUM_ENVS), [], np.zeros(NUM_ENVS, dtype=int)
    while len(finished) < EPISODES:
        cell = (6 * observation[:, 0] + observation[:, 1]).astype(int)
        edge = policy[step, cell].cumsum(axis=1)
        action = np.minimum((generator.random((NUM_ENVS, 1)) > edge).sum(axis=1), 3)
        observation, _, terminated, truncated, info = vector.step(action)
        ended, cost = terminated | truncated, info["cost"].copy()
        if ended.any() and not faulty:
            cost[ended] = info["final_info"]["cost"][ended]
        running += cost
        finished += running[ended].tolist()
        running[ended], step = 0.0, np.where(ended, 0, step + 1)
    return np.array(finished)


if __name__ == "__main__":
    for limit in (0.3, 0.6):
        right, wrong = (counted_costs(limit, faulty).mean() for faulty in (False, True))
        print(f"optimum for the limit {limit}: costs {right:.3f}, counted {wrong:.3f}")
