"""How many of the recorded episodes importance weights leave, as the horizon grows."""

import numpy as np


def effective_share(behaviour: list[float], policy: list[float], horizon: int) -> float:
    """1 / E[w²]: the share of the episodes that counts, where every step is the same choice between actions."""
    second_moment = (np.array(policy) ** 2 / np.array(behaviour)).sum()
    return float(second_moment**-horizon)


def sampled_share(behaviour: list[float], policy: list[float], horizon: int, episodes: int, seed: int) -> float:
    """The effective sample size of simulated weights, as a share of the episodes."""
    generator = np.random.default_rng(seed)
    actions = generator.choice(len(behaviour), size=(episodes, horizon), p=behaviour)
    weight = (np.array(policy) / np.array(behaviour))[actions].prod(axis=1)
    return float(weight.sum() ** 2 / (weight**2).sum() / episodes)


if __name__ == "__main__":
    behaviour, policy = [0.5, 0.5], [0.8, 0.2]
    for horizon in (1, 5, 10, 20, 40):
        exact = effective_share(behaviour, policy, horizon)
        sampled = sampled_share(behaviour, policy, horizon, episodes=10_000, seed=0)
        print(f"{horizon:2d} steps: {exact:9.2%} of the episodes, {sampled:7.2%} in a sample of 10,000")
