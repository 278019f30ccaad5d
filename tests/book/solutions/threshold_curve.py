"""The best return among actions that pass BCQ's threshold, without any sampling error."""

from dataclasses import replace
from functools import cache

import numpy as np

from ca14lib.environments import behaviour_policy, tabular_model
from ca14lib.solvers import occupancy_measure, policy_return, value_iteration

THRESHOLDS = (0.0, 0.01, 0.03, 0.1, 0.3, 0.5, 0.9)


@cache
def problem(environment: str, behaviour: str) -> tuple:
    """Model, behaviour, its return and the optimum."""
    model, policy = tabular_model(environment), behaviour_policy(environment, behaviour)
    horizon = 50 if "Grid" in environment else None
    return model, policy, policy_return(model, policy, horizon=horizon), value_iteration(model).optimal_return


def supported(policy: np.ndarray, threshold: float) -> np.ndarray:
    """Relative probability beyond the threshold; recorded at all, for a threshold of 0."""
    return policy / policy.max(axis=1, keepdims=True) > threshold


def best_inside(environment: str, behaviour: str, threshold: float) -> float:
    """The best return of a policy that takes supported actions only."""
    model, policy, *_ = problem(environment, behaviour)
    return value_iteration(replace(model, action_mask=supported(policy, threshold))).optimal_return


def gap_closed(threshold: float) -> float:
    """The same for the clinicians: 0 is their return, 1 the optimum."""
    *_, clinicians, best = problem("CA14/ICUSepsis-v0", "clinician")
    return (best_inside("CA14/ICUSepsis-v0", "clinician", threshold) - clinicians) / (best - clinicians)


def actions_left(threshold: float) -> float:
    """Mean number of supported actions over the clinicians' steps."""
    model, policy, *_ = problem("CA14/ICUSepsis-v0", "clinician")
    visits = occupancy_measure(model, policy).sum(axis=1)
    return float(visits @ supported(policy, threshold).sum(axis=1) / visits.sum())


if __name__ == "__main__":
    for behaviour in ("mixed", "random"):
        returns = [best_inside("CA14/GridWorld-v0", behaviour, threshold) for threshold in THRESHOLDS]
        print(f"gridworld, {behaviour}: {np.round(returns, 6)}")
    for threshold in THRESHOLDS:
        print(f"ζ = {threshold:4.2f}: {actions_left(threshold):5.2f} actions, gap closed {gap_closed(threshold):.2f}")
