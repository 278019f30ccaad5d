"""The best sum under the frequencies of epsilon-greedy agents, and where refitting it ends on the climbing game."""

import numpy as np

SECOND_STATE = np.array([[0.0, 1.0], [1.0, 8.0]])
CLIMBING = np.array([[11.0, -30.0, 0.0], [-30.0, 7.0, 6.0], [0.0, 0.0, 5.0]])


def best_sum(table: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """The sum of two utilities that is closest to a table when its cells have the weights ``row[a] * column[b]``."""
    return (table @ column)[:, None] + (row @ table)[None, :] - row @ table @ column


def epsilon_greedy(action: int, count: int, epsilon: float) -> np.ndarray:
    return np.full(count, epsilon / count) + (1 - epsilon) * np.eye(count)[action]


def path(start: tuple[int, int], epsilon: float, table: np.ndarray = CLIMBING) -> list[tuple[int, int]]:
    """Greedy joint actions of fit after fit, until one of them comes back."""
    seen = [start]
    while True:
        row, column = (epsilon_greedy(action, 3, epsilon) for action in seen[-1])
        fit = best_sum(table, row, column)
        greedy = tuple(int(index) for index in np.unravel_index(fit.argmax(), fit.shape))
        if greedy in seen:
            return [*seen, greedy]
        seen.append(greedy)


if __name__ == "__main__":
    for epsilon in (1.0, 0.9, 0.8, 0.1):
        weights = epsilon_greedy(1, 2, epsilon)
        fitted = best_sum(SECOND_STATE, weights, weights)[1, 1]
        print("epsilon", epsilon, "fitted value of the best joint action", fitted)
    for start in np.ndindex(3, 3):
        print(" -> ".join("".join("abc"[action] for action in joint) for joint in path(start, 0.1)))
