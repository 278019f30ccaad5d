import numpy as np


def target(decay, epsilon):
    """Mean of the λ-return of the first step that leads to the risky table."""
    p = 1 - epsilon / 2
    played = 8 * p**2 + 2 * p * (1 - p)
    return (1 - decay) * 8 + decay * played


def largest_epsilon(decay):
    """The largest share of uniform actions at which the risky table is worth 7 or more."""
    p = np.roots([6, 2, -(8 - 1 / decay)]).max()  # 8 - λ (8 - 2p - 6p²) = 7
    return min(2 * (1 - p), 1.0)


def simulated(decay, epsilon, episodes=200_000, seed=0):
    """The same from drawn actions."""
    draw = np.random.default_rng(seed)
    best = draw.random((episodes, 2)) < 1 - epsilon / 2
    paid = np.array([[0, 1], [1, 8]])[best[:, 0].astype(int), best[:, 1].astype(int)]
    return ((1 - decay) * 8 + decay * paid).mean()
