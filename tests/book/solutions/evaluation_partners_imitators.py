"""Two who follow: what they earn together, and how little it takes to end the swapping."""

import numpy as np

from ca14lib.solvers.partners import cross_play, imitator

LEVERS, ROUNDS = np.array([1.0, 1.0, 1.0, 0.9]), 5
PAYOFF = np.diag(LEVERS)


def hesitant(stays: float) -> np.ndarray:
    """Opens at random, stays where it matched, and otherwise follows, or stays with this probability."""
    table = imitator(np.full(4, 0.25), ROUNDS)
    for own in range(4):
        for other in range(4):
            row = table[:, 1 + own * 4 + other]
            row *= 1 - stays
            row[:, own] += stays
    return table


if __name__ == "__main__":
    for stays in (0.0, 0.25, 0.5, 0.75, 1.0):
        print(stays, round(cross_play(PAYOFF, hesitant(stays), hesitant(stays)), 3))
