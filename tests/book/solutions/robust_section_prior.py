"""A sure arm and an unknown one: posterior sampling with a right, a wrong and a vague prior, and optimism by counts."""

import numpy as np

SURE, ROUNDS = 0.5, 2_000


def thompson(truth: float, prior: tuple[float, float], runs: int = 500, seed: int = 0) -> float:
    """Mean regret of sampling the unknown arm's mean from its Beta posterior."""
    generator, (wins, losses) = np.random.default_rng(seed), (np.full(runs, count, dtype=float) for count in prior)
    regret = np.zeros(runs)
    for _ in range(ROUNDS):
        pulled = generator.beta(wins, losses) > SURE
        won = generator.random(runs) < truth
        wins, losses = wins + (pulled & won), losses + (pulled & ~won)
        regret += max(truth, SURE) - np.where(pulled, truth, SURE)
    return float(regret.mean())


def optimism(truth: float, runs: int = 500, seed: int = 0) -> float:
    """Mean regret of the average plus the width of Hoeffding's interval; it has no prior."""
    generator, wins, count = np.random.default_rng(seed), np.zeros(runs), np.zeros(runs)
    regret = np.zeros(runs)
    for _ in range(ROUNDS):
        tried = np.maximum(count, 1)
        pulled = (count == 0) | (wins / tried + np.sqrt(np.log(ROUNDS) / (2 * tried)) > SURE)
        won = generator.random(runs) < truth
        wins, count = wins + (pulled & won), count + pulled
        regret += max(truth, SURE) - np.where(pulled, truth, SURE)
    return float(regret.mean())


PRIORS = {"vague": (1.0, 1.0), "hopeful": (20.0, 2.0), "hopeless": (2.0, 20.0)}

if __name__ == "__main__":
    for truth in (0.7, 0.3):
        print(truth, {name: round(thompson(truth, prior), 1) for name, prior in PRIORS.items()}, optimism(truth))
