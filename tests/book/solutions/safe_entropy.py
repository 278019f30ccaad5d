"""Two actions whose order changes after a while: how long the lost one stays lost, with and without entropy."""

import math
from collections.abc import Callable

STEP = 0.1


def probability_of_second(logit: float) -> float:
    return 1 / (1 + math.exp(logit))


def lost_and_found(weight: Callable[[int], float], switch: int = 1_000, most: int = 100_000) -> tuple[float, int]:
    """Probability of the second action when the order changes, and the steps from then on until it is one half.

    Args:
        weight: Entropy weight at each step.
        switch: Steps for which the first action leads by 1; after them it trails by 1.
        most: Where to give up.
    """
    logit = 0.0
    for step in range(switch):
        logit += STEP * _gradient(logit, 1.0, weight(step))
    lost = probability_of_second(logit)
    for step in range(switch, switch + most):
        if logit <= 0:
            return lost, step - switch
        logit += STEP * _gradient(logit, -1.0, weight(step))
    return lost, most


def _gradient(logit: float, lead: float, weight: float) -> float:
    p = 1 - probability_of_second(logit)
    return p * (1 - p) * (lead - weight * logit)


if __name__ == "__main__":
    for constant in (0.0, 0.05, 0.2):
        print(f"weight {constant}:", lost_and_found(lambda step, constant=constant: constant))
    for switch in (100, 300, 600, 1_000, 2_000, 4_000):
        print(f"decaying, switch at {switch}:", lost_and_found(lambda step: 0.5 * 0.995**step, switch),
              "without:", lost_and_found(lambda step: 0.0, switch))  # fmt: skip
