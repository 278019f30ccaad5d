"""One number, 0.5, read as four limits on the cost of an episode of SafeGrid."""

from ca14lib.environments import tabular_model
from ca14lib.solvers import constrained_optimum, distributional_constrained_plan

MODEL, LIMIT = tabular_model("CA14/SafeGrid-v0"), 0.5


def best_returns() -> dict[str, float]:
    return {
        "mean cost at most 0.5": constrained_optimum(MODEL, [LIMIT]).optimal_return,
        "cost over 0.5 in at most a fifth": distributional_constrained_plan(
            MODEL, LIMIT, exceedance=0.2
        ).expected_return,
        "mean of the worst fifth at most 0.5": distributional_constrained_plan(
            MODEL, LIMIT, confidence=0.8
        ).expected_return,
        "never over 0.5": distributional_constrained_plan(MODEL, LIMIT, exceedance=0.0).expected_return,
    }


if __name__ == "__main__":
    for reading, value in best_returns().items():
        print(f"{reading}: {value:.3f}")
