"""Evaluate a behaviour from data whose cut episodes name the first state of the next one as the last successor."""

import numpy as np

from ca14lib.environments import behaviour_policy, tabular_model
from ca14lib.solvers import policy_evaluation
from ca14lib.training import collect

GRID = "CA14/GridWorld-v0"


def transitions(seed: int, faulty: bool) -> tuple[np.ndarray, ...]:
    """State, successor, reward and true end of every step of 2,000 random episodes."""
    data = collect(GRID, "random", episodes=2_000, seed=seed).transitions
    state, following = (
        (5 * cell[:, 0] + cell[:, 1]).long().numpy() for cell in (data.observation, data.next_observation)
    )
    last = (data.terminated | data.truncated).numpy()
    if faulty:
        following = np.where(last, state[0], following)  # every episode starts in the same cell
    return state, following, data.reward.numpy(), data.terminated.numpy()


def share_of_wrong_steps(seed: int) -> tuple[float, float]:
    """Steps with a wrong successor, and those among them that a learner bootstraps from."""
    (_, right, _, ended), (_, wrong, _, _) = transitions(seed, False), transitions(seed, True)
    return float((right != wrong).mean()), float(((right != wrong) & ~ended).mean())


def start_value(seed: int, faulty: bool, discount: float = 0.99) -> float:
    """Solve V = r + γ (1 − d) V(s′) on the recorded transitions."""
    states = tabular_model(GRID).num_states
    state, following, reward, ended = transitions(seed, faulty)
    onward = np.zeros((states, states))
    np.add.at(onward, (state, following), ~ended)
    visits = np.maximum(np.bincount(state, minlength=states), 1)
    return float(np.linalg.solve(np.diag(visits) - discount * onward, np.bincount(state, reward, states))[0])


def exact_start_value(discount: float = 0.99) -> float:
    return float(policy_evaluation(tabular_model(GRID), behaviour_policy(GRID, "random"), discount).value[0])


if __name__ == "__main__":
    print(f"exact {exact_start_value():.3f}")
    for seed in range(3):
        wrong, poisoned = share_of_wrong_steps(seed)
        values = [start_value(seed, faulty) for faulty in (False, True)]
        print(f"seed {seed}: right data {values[0]:.3f}, wrong successors {values[1]:.3f}; "
              f"{wrong:.1%} of the steps are wrong, {poisoned:.1%} are bootstrapped from")  # fmt: skip
