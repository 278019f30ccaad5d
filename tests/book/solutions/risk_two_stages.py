"""A coin, then a choice between a sure loss and a bet: planning once and planning again give different plans."""

from itertools import product

import numpy as np

from ca14lib.metrics import conditional_value_at_risk

FIRST = (0.0, 4.0)  # a fair coin
SECOND = {"sure": np.array([1.0, 1.0]), "bet": np.array([0.0, 1.8])}  # two equally likely outcomes


def risk_of_plan(after_heads: str, after_tails: str) -> float:
    """Conditional value at risk at 0.5 of the total loss."""
    return conditional_value_at_risk(
        np.concatenate([FIRST[0] + SECOND[after_heads], FIRST[1] + SECOND[after_tails]]), 0.5
    )


def choice_when_asked_again() -> str:
    """What the same measure prefers after the coin; what the coin cost is a constant by then."""
    return min(SECOND, key=lambda choice: conditional_value_at_risk(SECOND[choice], 0.5))


if __name__ == "__main__":
    for plan in product(SECOND, SECOND):
        print(plan, risk_of_plan(*plan))
    print("asked again:", choice_when_asked_again())
