"""Exact return and cost of the greedy policy at a fixed price."""

from ca14lib.environments.safe_grid import SafeGridLayout
from ca14lib.experiments.evaluation.offline_safe import safe_grid_model
from ca14lib.solvers import lagrangian_optimum

LAYOUT = SafeGridLayout(4, ((1, 0), (1, 1), (1, 2)), goal=(3, 0), step_reward=-0.5, goal_reward=5.0, horizon=10)


def greedy(price: float) -> tuple[float, float]:
    """Return and cost."""
    best = lagrangian_optimum(safe_grid_model(LAYOUT), price)
    return best.expected_return, float(best.costs[0])


if __name__ == "__main__":
    for price in (2.9, 3.1):
        print(price, greedy(price))
