"""Two doors, two models: what a common policy, one with memory and one that is told can earn within the limit."""

import numpy as np
from scipy.optimize import linprog

COSTS = np.array([[0.2, 0.8], [0.8, 0.2]])  # of the left and the right door, in either model


def common(limit: float) -> float:
    """Best probability of going through a door at all: each door pays 1, and the cost is limited in both models."""
    return -linprog([-1, -1], A_ub=np.vstack([COSTS, [1, 1]]), b_ub=[limit, limit, 1]).fun


def averaged(limit: float) -> tuple[float, float]:
    """The same with a limit on the mean cost over models, going left where it can; and the larger of the two costs."""
    share = min(limit / COSTS.mean(axis=0)[0], 1.0)
    return share, share * COSTS[:, 0].max()


def told(limit: float) -> float:
    """Who knows the model takes the cheap door."""
    return min(limit / COSTS.min(), 1.0)


if __name__ == "__main__":
    for limit in (0.1, 0.3, 0.5):
        print(limit, round(common(limit), 3), averaged(limit), told(limit))
