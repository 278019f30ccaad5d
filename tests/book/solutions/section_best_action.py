"""What is left of a stochastic optimum when only its likeliest action is taken."""

import numpy as np

from ca14lib.environments import tabular_model
from ca14lib.solvers import constrained_optimum, policy_costs, policy_return

MODEL = tabular_model("CA14/SafeGrid-v0")


def judged(policy: np.ndarray) -> tuple[float, float]:
    """Cost and return of an episode, exact."""
    return float(policy_costs(MODEL, policy)[0]), policy_return(MODEL, policy)


def likeliest(policy: np.ndarray) -> np.ndarray:
    """The same policy with the whole probability on its likeliest action."""
    return np.eye(policy.shape[-1])[policy.argmax(axis=-1)]


if __name__ == "__main__":
    for limit in (0.2, 0.3, 0.4, 0.5, 0.6):
        policy = constrained_optimum(MODEL, [limit]).policy
        print(limit, "cost and return as drawn", judged(policy), "likeliest action", judged(likeliest(policy)))
