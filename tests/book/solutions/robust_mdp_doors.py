"""n doors, one prize, and two kinds of nature."""

import numpy as np

from ca14lib.environments import TabularModel
from ca14lib.solvers import RobustPlan, robust_constrained_plan
from ca14lib.solvers.robust import RobustSolution, robust_value_iteration


def candidates(doors: int, stay: float) -> list[TabularModel]:
    """In candidate i the prize is behind door i; the last action is not to open any."""
    transition = np.zeros((2, doors + 1, 2))
    transition[..., 1] = 1.0
    return [
        TabularModel(
            transition,
            np.array([[*np.eye(doors)[prize], stay], np.zeros(doors + 1)]),
            cost=np.zeros((1, 2, doors + 1)),
            terminal=np.array([False, True]),
        )
        for prize in range(doors)
    ]


def free(doors: int, stay: float) -> RobustSolution:
    """Nature may move the prize for every door that is thought of."""
    return robust_value_iteration(candidates(doors, stay), ball="finite", horizon=1)


def committed(doors: int, stay: float) -> RobustPlan:
    """Nature has put the prize somewhere."""
    return robust_constrained_plan(candidates(doors, stay), np.inf, horizon=1)


if __name__ == "__main__":
    for doors, stay in ((2, -0.1), (2, 0.2), (2, 0.7), (3, 0.0), (5, 0.0)):
        print(doors, stay, free(doors, stay).robust_return, committed(doors, stay).guaranteed_return)
