"""The CVaR of the cost kept at most at the limit, with the threshold of the dual form free and fixed at the limit."""

from ca14lib.environments import tabular_model
from ca14lib.solvers import distributional_constrained_plan

MODEL = tabular_model("CA14/SafeGrid-v0")


def right(limit: float, confidence: float) -> float:
    return distributional_constrained_plan(MODEL, limit, confidence=confidence).expected_return


def colleague(limit: float) -> float:
    """With v = d the constraint reads E[(C − d)+] ≤ 0: the cost may never exceed the limit."""
    return distributional_constrained_plan(MODEL, limit, exceedance=0.0).expected_return


if __name__ == "__main__":
    print(right(0.5, 0.5), colleague(0.5))
