"""Evaluate the random behaviour from its own data, reading time limits rightly and wrongly."""

import numpy as np

from ca14lib.environments import behaviour_policy, tabular_model
from ca14lib.solvers import policy_evaluation
from ca14lib.training import collect

GRID = "CA14/GridWorld-v0"


def estimated_start_value(limits_end_the_task: bool, discount: float = 0.99) -> float:
    """Solve V = r + γ (1 − d) V(s′) on the empirical transitions."""
    model = tabular_model(GRID)
    data = collect(GRID, "random", episodes=2_000, seed=0).transitions
    state, following = (
        (5 * cell[:, 0] + cell[:, 1]).long().numpy() for cell in (data.observation, data.next_observation)
    )
    ended = data.terminated | data.truncated if limits_end_the_task else data.terminated
    onward = np.zeros((model.num_states, model.num_states))
    np.add.at(onward, (state, following), ~ended.numpy())
    visits = np.maximum(np.bincount(state, minlength=model.num_states), 1)
    reward = np.bincount(state, data.reward.numpy(), model.num_states)
    return float(np.linalg.solve(np.diag(visits) - discount * onward, reward)[0])


def exact_start_value(discount: float = 0.99) -> float:
    return float(policy_evaluation(tabular_model(GRID), behaviour_policy(GRID, "random"), discount).value[0])


if __name__ == "__main__":
    print(f"exact                    {exact_start_value():7.3f}")
    print(f"limits bootstrapped over {estimated_start_value(False):7.3f}")
    print(f"limits read as ends      {estimated_start_value(True):7.3f}")
