"""A coin or a sure half: values of the true, a sampled and the mean bias."""

import numpy as np


def values(prior: tuple[float, float], tosses: int = 3, repetitions: int = 200_000, seed: int = 0) -> np.ndarray:
    """Mean of max(bias, 1/2) for the true bias, one from the posterior of a uniform prior, and the posterior mean.

    Args:
        prior: Parameters of the Beta distribution from which the truth is drawn.
        tosses: Of the coin before the belief is asked.
        repetitions: Truths.
        seed: Fixes the draws.
    """
    rng = np.random.default_rng(seed)
    truth = rng.beta(*prior, size=repetitions)
    heads = rng.binomial(tosses, truth)
    sampled = rng.beta(1 + heads, 1 + tosses - heads)
    mean = (1 + heads) / (2 + tosses)
    return np.array([np.maximum(bias, 0.5).mean() for bias in (truth, sampled, mean)])


if __name__ == "__main__":
    print("right prior", values((1, 1)).round(3))
    print("wrong prior", values((5, 1)).round(3))
