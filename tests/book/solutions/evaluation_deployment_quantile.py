"""How often a new score exceeds an order statistic of n, and how much that varies with the calibration."""

import math

from scipy import stats


def plain_rate(count: int, rate: float) -> float:
    rank = math.ceil(count * (1 - rate) - 1e-9)
    return (count + 1 - rank) / (count + 1)


def rank_of(count: int, rate: float) -> int:
    return math.ceil((count + 1) * (1 - rate) - 1e-9)


def probability_of_more(count: int, rate: float, bound: float) -> float:
    rank = rank_of(count, rate)
    return float(stats.beta(count + 1 - rank, rank).sf(bound))


if __name__ == "__main__":
    print([round(plain_rate(count, 0.05), 3) for count in (19, 30, 99)])
    print(round(probability_of_more(99, 0.05, 0.08), 2))
