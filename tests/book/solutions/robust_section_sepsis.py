"""Intensive care: what a radius around the estimated model leaves of the optimum, and of the clinicians' policy."""

import numpy as np

from ca14lib.environments import TabularModel
from ca14lib.environments.icu_sepsis import ICUSepsisVector
from ca14lib.solvers import policy_return, value_iteration
from ca14lib.solvers.robust import robust_policy_evaluation

DISCOUNT = 0.99


def survival(radius: float) -> dict[str, tuple[float, float]]:
    """Discounted survival in the estimated model and in the worst of the L1 ball, of two policies."""
    environment = ICUSepsisVector(1)
    model = environment.tabular_model()
    policies = {
        "optimum": value_iteration(model, DISCOUNT).policy,
        "clinicians": environment.behaviours()["clinician"],
    }
    return {
        name: (
            policy_return(model, policy, DISCOUNT),
            robust_policy_evaluation(model, policy, radius, discount=DISCOUNT, support="nominal").robust_return,
        )
        for name, policy in policies.items()
    }


def typical_successors(model: TabularModel) -> int:
    """Median over the pairs of state and action."""
    return int(np.median((model.transition > 0).sum(axis=-1)[~model.terminal]))


def transitions_needed(radius: float, successors: int, error: float = 0.05) -> float:
    """Of one pair, until the ball around their frequencies holds the truth with probability 1 - error."""
    return 2 * (successors * np.log(2) - np.log(error)) / radius**2


if __name__ == "__main__":
    print(survival(0.02))
    successors = typical_successors(ICUSepsisVector(1).tabular_model())
    print(successors, [round(transitions_needed(radius, successors)) for radius in (0.02, 0.1, 1.0)])
