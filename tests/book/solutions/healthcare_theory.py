import numpy as np


def visits_needed(successors: int, error: float, pairs: int, confidence: float = 0.95) -> float:
    """Visits of every pair after which no row is off by more, by a union bound."""
    return 2 / error**2 * (successors * np.log(2) + np.log(pairs / (1 - confidence)))


print([round(visits_needed(successors, 0.1, 17_825), -2) for successors in (716, 85)])
