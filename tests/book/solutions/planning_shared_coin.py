"""One coin for the whole episode against a fresh coin at every step."""

import numpy as np

from ca14lib.environments import TabularModel
from ca14lib.solvers import certainty_equivalent_plan


def walk(bad: bool, steps: int) -> TabularModel:
    """State = number of bad draws so far; the episode costs 1 if all ``steps`` draws are bad."""
    transition, cost = np.zeros((steps + 1, 1, steps + 1)), np.zeros((1, steps + 1, 1, steps + 1))
    for seen in range(steps + 1):
        transition[seen, 0, min(seen + bad, steps)] = 1.0
    cost[0, steps - 1, 0, steps] = 1.0
    return TabularModel(transition, np.zeros((steps + 1, 1)), cost=cost, horizon=steps)


def promised_and_true(steps: int) -> tuple[float, float]:
    plan = certainty_equivalent_plan([walk(False, steps), walk(True, steps)], 1.0)
    return float(plan.promised_costs[0]), float(plan.expected_costs[0])


if __name__ == "__main__":
    for steps in (1, 2, 5, 10):
        print(steps, *promised_and_true(steps))
