"""From which probability of a slip on nobody enters the shared cell while another may still be in it."""

import numpy as np

from ca14lib.environments.applications.junction import junction_model
from ca14lib.experiments.evaluation.driving import joint_table, right_of_way
from ca14lib.solvers import policy_costs, policy_return, value_iteration


def gap(slip: float) -> tuple[float, float]:
    """What the right of way loses against the optimum, and how often the optimum crashes."""
    model = junction_model(slip)
    best = value_iteration(model).policy
    lost = policy_return(model, best) - policy_return(model, joint_table(right_of_way))
    return float(lost), float(policy_costs(model, best)[0])


def threshold() -> float:
    """The least slip, on a grid of thousandths, at which the right of way is optimal."""
    return next(float(slip) for slip in np.arange(0, 0.2, 0.001) if gap(slip)[0] < 1e-9)


if __name__ == "__main__":
    for slip in (0.0, 0.02, 0.1):
        print(f"slip {slip}: loses {gap(slip)[0]:.3f}, the optimum crashes in {gap(slip)[1]:.4f}")
    print(f"optimal from {threshold():.3f} on")
