"""A lying adversary on GridWorld: attacks from above, a bound from below, and the exact answer in between."""

import numpy as np

from ca14lib.environments import tabular_model
from ca14lib.solvers import policy_evaluation, policy_return, value_iteration
from ca14lib.solvers.robust import optimal_observation_attack

MODEL = tabular_model("CA14/GridWorld-v0")
STEPS = 50
CELLS = np.stack(np.divmod(np.arange(25), 5), axis=1)
SHOWS = abs(CELLS[:, None] - CELLS).sum(axis=-1) <= 1  # the true cell or one beside it


def exploring(share: float) -> np.ndarray:
    """The optimal policy with a share of uniform actions."""
    return (1 - share) * value_iteration(MODEL).policy + share / MODEL.num_actions


def returned(table: np.ndarray) -> float:
    return policy_return(MODEL, table, horizon=STEPS)


def attacks(policy: np.ndarray) -> dict[str, float]:
    """Returns without an attack and under three of them, then the exact worst case and a certified bound."""
    values = policy_evaluation(MODEL, policy, horizon=STEPS)
    by_value = np.where(SHOWS, values.value[0], np.inf).argmin(axis=1)
    by_action = np.where(SHOWS, values.q[0] @ policy.T, np.inf).argmin(axis=1)
    return {
        "none": returned(policy),
        "random": returned(SHOWS / SHOWS.sum(axis=1, keepdims=True) @ policy),  # a new cell at every step
        "poorest cell": returned(policy[by_value]),
        "critic": returned(policy[by_action]),
        "exact": optimal_observation_attack(MODEL, policy, SHOWS, horizon=STEPS).attacked_return,
        "certified": certified(policy),
    }


def certified(policy: np.ndarray) -> float:
    """The adversary may take any action that has a probability in some cell that it may show."""
    possible = (SHOWS[:, :, None] & (policy[None] > 0)).any(axis=1)
    value = np.zeros(MODEL.num_states)
    for _ in range(STEPS):
        q = np.where(possible, MODEL.expected_reward + MODEL.transition @ value, np.inf)
        value = np.where(MODEL.terminal, 0.0, q.min(axis=1))
    return float(MODEL.initial @ value)


if __name__ == "__main__":
    for share in (0.0, 0.2, 0.4):
        print(share, {name: round(value, 2) for name, value in attacks(exploring(share)).items()})
