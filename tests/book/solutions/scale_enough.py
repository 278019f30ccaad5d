import numpy as np


def announced(looks, trials=4_000, seed=0):
    """Share of trials in which two equal agents seem to differ at one of the looks."""
    random = np.random.default_rng(seed)
    first, second = random.standard_normal((2, trials, max(looks)))
    differs = np.zeros(trials, dtype=bool)
    for count in looks:
        means = [scores[:, :count].mean(axis=1) for scores in (first, second)]
        errors = [scores[:, :count].std(axis=1, ddof=1) / np.sqrt(count) for scores in (first, second)]
        differs |= np.abs(means[0] - means[1]) > 1.96 * (errors[0] + errors[1])
    return differs.mean()
