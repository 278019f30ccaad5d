"""Two states of which one may be shown as the other, by brute force over policies."""

import numpy as np

from ca14lib.environments import TabularModel
from ca14lib.solvers.robust import optimal_observation_attack

LEFT, RIGHT = 0, 1


def model(first: float) -> TabularModel:
    """Left pays 1 in state 1, right pays 2 in state 2; ``first`` is the probability to start in state 1."""
    transition = np.zeros((3, 2, 3))
    transition[..., 2] = 1.0
    reward = np.zeros((3, 2))
    reward[0, LEFT], reward[1, RIGHT] = 1.0, 2.0
    return TabularModel(transition, reward, terminal=np.arange(3) == 2, initial=np.array([first, 1 - first, 0.0]))


def best_policy(first: float, both_ways: bool = True, steps: int = 21) -> tuple[float, float, float]:
    """Return under attack and probabilities of left in the two states, of the best policy on a grid."""
    shows = np.eye(3, dtype=bool)
    shows[0, 1], shows[1, 0] = True, both_ways
    found = []
    for one in np.linspace(0, 1, steps):
        for two in np.linspace(0, 1, steps):
            policy = np.array([[one, 1 - one], [two, 1 - two], [1.0, 0.0]])
            attack = optimal_observation_attack(model(first), policy, shows, 0.9)
            found.append((attack.attacked_return, one, two))
    return max(found)


if __name__ == "__main__":
    for first in (0.5, 0.6, 0.7):
        print(first, best_policy(first))
    print("lies in state 1 only", best_policy(0.5, both_ways=False))
