"""Largest costs under a watchdog that reacts and under one that looks ahead, by trying all ways of a small policy."""

import itertools

STEP_COSTS = (0.0, 0.25, 1.0)  # what the policy's step may cost
FALLBACK_COST = 0.5  # of the fallback from anywhere, once


def worst(limit: float, look_ahead: bool, steps: int = 5) -> float:
    """The largest cost of an episode over all that the policy may propose."""
    largest = 0.0
    for proposals in itertools.product(STEP_COSTS, repeat=steps):
        spent = 0.0
        for cost in proposals:
            predicted = spent + cost + FALLBACK_COST if look_ahead else spent
            if predicted > limit + 1e-9:
                spent += FALLBACK_COST
                break
            spent += cost
        largest = max(largest, spent)
    return largest


if __name__ == "__main__":
    print(worst(2.0, look_ahead=False), "of at most", 2.0 + max(STEP_COSTS) + FALLBACK_COST)
    print(worst(2.0, look_ahead=True), worst(2.0 - 1.0 - 0.5, look_ahead=False))
