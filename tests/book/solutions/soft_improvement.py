"""The policy that IQL's weights aim at, exactly, for several inverse temperatures β."""

import numpy as np

from ca14lib.environments import behaviour_policy, tabular_model
from ca14lib.solvers import policy_evaluation, policy_return

GRID = "CA14/GridWorld-v0"


def weighted_policy(inverse_temperature: float, discount: float = 0.99) -> np.ndarray:
    """π_β exp(βA) / Z with the true advantages of the mixed behaviour (τ = 0.5)."""
    model, behaviour = tabular_model(GRID), behaviour_policy(GRID, "mixed")
    values = policy_evaluation(model, behaviour, discount)
    weighted = behaviour * np.exp(inverse_temperature * (values.q - values.value[:, None]))
    return weighted / weighted.sum(axis=1, keepdims=True)


def share_of_the_way(inverse_temperature: float) -> float:
    """From the behaviour's return (0) to the optimum (1), for the sampled policy."""
    model = tabular_model(GRID)
    behaviour = policy_return(model, behaviour_policy(GRID, "mixed"))
    return (policy_return(model, weighted_policy(inverse_temperature)) - behaviour) / (0.3 - behaviour)


if __name__ == "__main__":
    for inverse_temperature in (0.0, 1 / 3, 1.0, 3.0, 10.0):
        print(f"β = {inverse_temperature:6.3f}: {share_of_the_way(inverse_temperature):.2f} of the way")
