"""SafeCliff: which way is best for the mean over winds, for the worst wind, and for the tail in one wind."""

from functools import cache

import numpy as np

from ca14lib.environments import SafeCliffVector, TabularModel
from ca14lib.metrics.risk import conditional_value_at_risk
from ca14lib.solvers import policy_return
from ca14lib.solvers.cvar import policy_return_distribution

WAYS = {name: policy for name, policy in SafeCliffVector(1).behaviours().items() if name != "random"}


@cache
def model(wind: float) -> TabularModel:
    return SafeCliffVector(1, wind=wind).tabular_model()


def mean_over_winds(way: str, strongest: float, points: int = 40) -> float:
    """Mean return if the wind of an episode is drawn uniformly from 0 to the strongest."""
    winds = (np.arange(points) + 0.5) / points * strongest
    return float(np.mean([policy_return(model(float(wind)), WAYS[way]) for wind in winds]))


def worst_wind(way: str, strongest: float) -> float:
    """Least return over the winds; both returns fall with the wind, so it is that in the strongest."""
    return policy_return(model(strongest), WAYS[way])


def tail(way: str, winds: tuple[float, ...], share: float) -> float:
    """Mean of the worst share of episodes, each with one of the winds, all equally likely."""
    returns, weights = (
        np.concatenate(parts) for parts in zip(*(policy_return_distribution(model(wind), WAYS[way]) for wind in winds))
    )
    return -conditional_value_at_risk(-returns, 1 - share, weights / len(winds))


if __name__ == "__main__":
    for way in WAYS:
        print(way, mean_over_winds(way, 0.2), worst_wind(way, 0.2), tail(way, (0.05,), 0.3), tail(way, (0.05,), 0.5))
        print("two winds", tail(way, (0.0, 0.2), 0.5), tail(way, (0.1,), 0.5))
    for strongest in (0.22, 0.23, 0.24):
        print(strongest, {way: round(mean_over_winds(way, strongest), 2) for way in WAYS})
