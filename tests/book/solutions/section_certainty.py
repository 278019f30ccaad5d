"""What it costs to forbid hazards instead of limiting their mean, on the layouts of SafeGrid."""

from dataclasses import replace

import numpy as np

from ca14lib.environments import SAFE_GRID_LAYOUTS, SafeGridVector
from ca14lib.solvers import constrained_optimum, pareto_front


def without_hazards(layout: str) -> tuple[float, float] | None:
    """Return and cost of the best policy that never enters a hazard, or None if there is no such policy."""
    environment = SafeGridVector(layout=layout)
    model = environment.tabular_model()
    enters = model.transition @ environment.hazard.astype(float) > 0
    safe = ~(environment.hazard | model.terminal)
    while True:  # states with an action that neither enters a hazard nor leads out of them
        allowed = ~enters & (model.transition @ ~(safe | model.terminal) == 0)
        kept = safe & allowed.any(axis=1)
        if (kept == safe).all():
            break
        safe = kept
    if not safe[model.initial > 0].all():
        return None
    mask = np.where(allowed.any(axis=1, keepdims=True), allowed, True)
    best = constrained_optimum(replace(model, action_mask=mask), np.inf)  # of equally good ones the cheapest
    return best.optimal_return, float(best.costs[0])


if __name__ == "__main__":
    for layout in SAFE_GRID_LAYOUTS:
        model = SafeGridVector(layout=layout).tabular_model()
        front, certain = pareto_front(model), without_hazards(layout)
        print(layout, "front from", (front.costs[0], front.returns[0]), "to", (front.costs[-1], front.returns[-1]))
        if certain is not None:
            print(
                "  never a hazard:",
                certain,
                "best at that cost:",
                constrained_optimum(model, certain[1]).optimal_return,
            )
