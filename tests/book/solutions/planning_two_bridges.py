"""A bridge that holds or breaks, and five ways to plan without knowing which."""

import numpy as np

from ca14lib.environments import TabularModel
from ca14lib.solvers import bayesian_constrained_plan, certainty_equivalent_plan, robust_constrained_plan

TEST, CROSS = 0, 1  # in state 0; in states 1 and 2 action 0 is to stay


def bridge(holds: bool) -> TabularModel:
    transition, reward, cost = np.zeros((4, 2, 4)), np.zeros((4, 2)), np.zeros((1, 4, 2))
    transition[0, TEST, 1 if holds else 2] = transition[0, CROSS, 3] = transition[1:, :, 3] = 1.0
    reward[:3, CROSS], cost[0, :3, CROSS], cost[0, 0, TEST] = 1.0, float(not holds), 0.1
    return TabularModel(transition, reward, cost=cost, terminal=np.arange(4) == 3, horizon=2)


CANDIDATES = [bridge(True), bridge(False)]


def plans(limit: float) -> dict[str, object]:
    return {
        "mean cost": bayesian_constrained_plan(CANDIDATES, limit),
        "weight ½": bayesian_constrained_plan(CANDIDATES, limit, confidence=0.5),
        "weight 1": bayesian_constrained_plan(CANDIDATES, limit, confidence=1.0),
        "worst case": robust_constrained_plan(CANDIDATES, limit),
        "mean model": certainty_equivalent_plan(CANDIDATES, limit),
    }


if __name__ == "__main__":
    for name, plan in plans(0.3).items():
        print(f"{name:10s}: returns {plan.returns.round(3)}, costs {plan.costs[:, 0].round(3)}")
