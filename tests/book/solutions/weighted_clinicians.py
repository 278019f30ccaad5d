"""The policy that AWR aims at with the clinicians' exact advantages, for several inverse temperatures."""

from functools import cache

import numpy as np

from ca14lib.environments import behaviour_policy, tabular_model
from ca14lib.solvers import occupancy_measure, policy_evaluation, policy_return, value_iteration

SEPSIS = "CA14/ICUSepsis-v0"


@cache
def clinicians() -> tuple:
    """Model, behaviour, values and action values."""
    model, behaviour = tabular_model(SEPSIS), behaviour_policy(SEPSIS, "clinician")
    values = policy_evaluation(model, behaviour)
    return model, behaviour, values.value, values.q


@cache
def marks() -> tuple[float, float]:
    """The clinicians' return and the optimum."""
    model, behaviour, *_ = clinicians()
    return policy_return(model, behaviour), value_iteration(model).optimal_return


def deviations() -> tuple[float, float]:
    """Standard deviation of recorded returns around V, and of exact advantages, over the clinicians' steps."""
    model, behaviour, value, q = clinicians()
    visits = occupancy_measure(model, behaviour)
    share = visits / visits.sum()
    of_states = share.sum(axis=1)
    luck = np.sqrt(of_states @ (value * (1 - value)))  # a stay's return is a coin with probability V
    return float(luck), float(np.sqrt((share * (q - value[:, None]) ** 2).sum()))


def gaps_closed(inverse_temperature: float) -> tuple[float, float]:
    """Gap closed by the weighted policy when it is sampled and when its most likely action is taken."""
    model, behaviour, value, q = clinicians()
    exponent = inverse_temperature * (q - value[:, None])
    weighted = behaviour * np.exp(exponent - exponent.max(axis=1, keepdims=True))
    weighted /= weighted.sum(axis=1, keepdims=True)
    greedy = np.eye(weighted.shape[1])[weighted.argmax(axis=1)]
    base, best = marks()
    return tuple((policy_return(model, policy) - base) / (best - base) for policy in (weighted, greedy))


if __name__ == "__main__":
    luck, skill = deviations()
    print(f"deviation of returns {luck:.3f}, of exact advantages {skill:.4f}; β = 1 means {1 / luck:.1f} a unit")
    for inverse_temperature in (1.0, 3.0, 10.0, 30.0, 100.0, 1000.0):
        sampled, greedy = gaps_closed(inverse_temperature)
        print(f"inverse temperature {inverse_temperature:6.0f}: sampled {sampled:5.2f}, greedy {greedy:5.2f}")
