"""CVaR chosen anew at every step of SafeCliff, for several tails, beside the static optimum."""

import numpy as np

from ca14lib.agents.robust.risk_choice import RiskChoice
from ca14lib.experiments.robust.distributional import safe_cliff_model, stepwise_policy
from ca14lib.metrics.risk import conditional_value_at_risk
from ca14lib.solvers import cvar_optimum, policy_return_distribution

TAILS = (1.0, 0.5, 0.3, 0.2, 0.1)


def tail_mean(values: np.ndarray, probabilities: np.ndarray, tail: float) -> float:
    return -conditional_value_at_risk(-values, 1 - tail, probabilities)


def comparison() -> dict[float, dict[str, float]]:
    """For each tail: mean of the stepwise policy, its CVaR, the best of all five policies at that tail, the optimum."""
    model = safe_cliff_model()
    laws = {tail: policy_return_distribution(model, stepwise_policy(model, RiskChoice("cvar", tail))) for tail in TAILS}
    return {
        tail: {
            "mean": float(values @ probabilities),
            "cvar": tail_mean(values, probabilities, tail),
            "best of five": max(tail_mean(*law, tail) for law in laws.values()),
            "static optimum": cvar_optimum(model, tail).value,
        }
        for tail, (values, probabilities) in laws.items()
    }


if __name__ == "__main__":
    for tail, row in comparison().items():
        print(tail, {name: round(value, 3) for name, value in row.items()})
