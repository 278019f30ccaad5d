import numpy as np

ALLOWED = np.array([True, False])


def right(q):
    return np.where(ALLOWED, q, -np.inf).max()


def wrong(q):
    return (q * ALLOWED).max()


def values(greedy, steps=5, sweeps=50):
    """Q-learning on a corridor in which every step costs 1 and only the first action is allowed."""
    q = np.zeros((steps, 2))
    for _ in range(sweeps):
        for step in reversed(range(steps)):
            following = greedy(q[step + 1]) if step + 1 < steps else 0.0
            q[step, 0] = -1 + following
    return q[:, 0]
