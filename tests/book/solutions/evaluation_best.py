import numpy as np


def best_of(checkpoints, episodes, deviation=20.0, truth=100.0, repetitions=20_000, seed=0):
    """Mean of the best evaluation of an agent that no longer changes."""
    random = np.random.default_rng(seed)
    evaluations = truth + deviation / np.sqrt(episodes) * random.standard_normal((repetitions, checkpoints))
    return evaluations.max(axis=1).mean()
