"""The room with the largest estimate: what it promises and what it is worth."""

import numpy as np


def promise_and_worth(shrink: bool, rooms: int = 20, trials: int = 40_000, seed: int = 0) -> tuple[float, float]:
    """Means over trials of the chosen room's estimate and of its true reward."""
    draws = np.random.default_rng(seed)
    true = draws.normal(0.0, 0.5, (trials, rooms))
    estimate = true + draws.normal(0.0, 1.0, true.shape)
    if shrink:
        estimate *= 0.25 / (0.25 + 1.0)
    chosen = estimate.argmax(axis=1)[:, None]
    return tuple(float(np.take_along_axis(table, chosen, axis=1).mean()) for table in (estimate, true))


if __name__ == "__main__":
    print("as they are", promise_and_worth(False), "shrunk", promise_and_worth(True))
