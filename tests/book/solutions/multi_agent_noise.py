"""Mean and variance of one agent's gradient sample among n, for four signals that it may learn from."""

import numpy as np


def samples(signal: str, agents: int, episodes: int, seed: int = 0) -> np.ndarray:
    """Samples of the gradient in agent 1's logit; every action is 1 or -1 with equal probability."""
    generator = np.random.default_rng(seed)
    actions = generator.choice([-1.0, 1.0], size=(episodes, agents))
    own, team = actions[:, 0], actions.sum(axis=1)
    drawn = generator.choice([-1.0, 1.0], size=episodes)
    learned_from = {
        "team reward": team,
        "difference from -1": team - (team - own - 1),
        "difference from a draw": team - (team - own + drawn),
        "counterfactual advantage": team - (team - own),  # the mean over the own action is 0
    }[signal]
    return 0.5 * own * learned_from


if __name__ == "__main__":
    for agents in (2, 8, 32):
        for signal in ("team reward", "difference from -1", "difference from a draw", "counterfactual advantage"):
            drawn = samples(signal, agents, 100_000)
            print(f"{agents:2} agents, {signal}: mean {drawn.mean():.2f}, variance {drawn.var():.2f}")
