"""Where pairs of independent learners end on the climbing game, by what they believe of a bad outcome."""

from collections import Counter

import numpy as np

PAYOFF = np.array([[11.0, -30.0, 0.0], [-30.0, 7.0, 6.0], [0.0, 0.0, 5.0]])


def outcomes(slow_rate: float, pairs: int = 1_000, rounds: int = 5_000, seed: int = 0) -> Counter[str]:
    """Greedy joint actions of many pairs. Values rise at the rate 0.1 and fall at the rate ``slow_rate``."""
    generator, rows = np.random.default_rng(seed), np.arange(pairs)
    values = np.zeros((2, pairs, 3))
    for step in range(rounds):
        error = max(0.0, 1 - step / (0.8 * rounds))  # exploration, from 1 to 0
        greedy = values.argmax(axis=2)
        explores = generator.random((2, pairs)) < error
        action = np.where(explores, generator.integers(3, size=(2, pairs)), greedy)
        payoff = PAYOFF[action[0], action[1]]
        for agent in range(2):
            change = payoff - values[agent, rows, action[agent]]
            values[agent, rows, action[agent]] += np.where(change > 0, 0.1, slow_rate) * change
    names = ["".join("abc"[a] for a in joint) for joint in values.argmax(axis=2).T]
    return Counter(names)


if __name__ == "__main__":
    for slow_rate in (0.1, 0.01, 0.0):
        print("values fall at the rate", slow_rate, outcomes(slow_rate).most_common())
