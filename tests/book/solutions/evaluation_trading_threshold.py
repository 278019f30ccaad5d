"""What a badly placed threshold costs: the best return in the fitted model under one limit on the tail, for many v."""

import numpy as np

from ca14lib.environments.applications.trading import TradingVector, excess_limit, regime_model
from ca14lib.solvers import InfeasibleError, constrained_optimum, value_iteration

LIMIT, HORIZON = 1.5, 63


def best_return(threshold: float) -> float:
    """Expected log return of a mandate, in percent, if the tail is limited through this threshold."""
    model = regime_model(TradingVector(1, observes="regime", loss_threshold=threshold))
    try:
        return constrained_optimum(model, excess_limit(LIMIT, threshold, HORIZON)).optimal_return
    except InfeasibleError:
        return -np.inf


def unlimited() -> float:
    return value_iteration(regime_model(TradingVector(1, observes="regime"))).optimal_return


if __name__ == "__main__":
    print("no limit", round(unlimited(), 2))
    for threshold in (0.0, 0.4, 0.8, 1.0, 1.2, 1.4, 1.5):
        print(threshold, round(best_return(threshold), 2))
