import numpy as np

from ca14lib.experiments.multi_agent.two_step import additive_fit, monotonic_fit

TABLES = {"sum": [[1, 2], [3, 4]], "and": [[0, 0], [0, 1]], "either": [[0, 1], [1, 0]]}


def errors(name):
    """Squared errors of the best sum and of the best monotonic fit."""
    table = np.array(TABLES[name], dtype=float)
    return [float(np.square(fit(table) - table).sum()) for fit in (additive_fit, monotonic_fit)]


def fit_of_the_best(x):
    """What a sum predicts for the entry x of the risky table."""
    return additive_fit([[0, 1], [1, x]])[1, 1]
