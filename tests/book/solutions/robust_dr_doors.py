"""Doors, one prize, two tries: what seeing, remembering and reacting are worth, exactly."""

from itertools import product

import numpy as np

COST = 0.1  # of a try


def expected_return(policy: dict[tuple[int, ...], np.ndarray], doors: int, tries: int, redrawn: bool) -> float:
    """Of a policy of the doors tried so far; the prize is drawn once for an episode, or anew for every try."""
    total = 0.0
    places = [(place,) * tries for place in range(doors)] if not redrawn else list(product(range(doors), repeat=tries))
    for prize in places:
        for tried in product(range(doors), repeat=tries):
            reached, value = 1.0, 0.0
            for step, door in enumerate(tried):
                reached *= policy[tried[:step]][door]
                value -= COST
                if door == prize[step]:
                    value += 1
                    reached *= doors ** -(tries - step - 1)  # what follows is not played: count it once
                    break
            total += reached * value / len(places)
    return total


def histories(doors: int, tries: int) -> list[tuple[int, ...]]:
    return [tried for length in range(tries) for tried in product(range(doors), repeat=length)]


def coin(doors: int, tries: int) -> dict[tuple[int, ...], np.ndarray]:
    """Memoryless: every door with the same probability."""
    return {tried: np.full(doors, 1 / doors) for tried in histories(doors, tries)}


def stubborn(doors: int, tries: int) -> dict[tuple[int, ...], np.ndarray]:
    """Memoryless and without a coin: always the first door."""
    return {tried: np.eye(doors)[0] for tried in histories(doors, tries)}


def remembering(doors: int, tries: int) -> dict[tuple[int, ...], np.ndarray]:
    """Never the same door twice."""
    return {
        tried: np.eye(doors)[next(door for door in range(doors) if door not in tried)]
        for tried in histories(doors, tries)
    }


if __name__ == "__main__":
    for redrawn in (False, True):
        print(redrawn, [expected_return(policy(2, 2), 2, 2, redrawn) for policy in (stubborn, coin, remembering)])
    print([expected_return(policy(3, 3), 3, 3, False) for policy in (stubborn, coin, remembering)])
