"""How hard a maximum over n generated actions is, and the expectile that equals it."""

import numpy as np


def expected_target(probability: float, samples: int) -> float:
    """A good action, worth 1, is generated with this probability; all others are worth 0."""
    return 1 - (1 - probability) ** samples


def matching_expectile(probability: float, samples: int) -> float:
    """The level at which the two-point expectile has the same value."""
    target = expected_target(probability, samples)
    odds = target / (1 - target) / (probability / (1 - probability))
    return odds / (1 + odds)


def samples_for_even_odds(probability: float) -> int:
    """How many samples contain the good action at least as often as not."""
    samples = 1
    while expected_target(probability, samples) < 0.5:
        samples += 1
    return samples


def mean_distance(samples: int, spread: float = 0.2, perturbation: float = 0.0, seed: int = 0) -> float:
    """Distance of the chosen action from the best one, 1, for normal actions around 0 and Q = −(a − 1)²."""
    actions = spread * np.random.default_rng(seed).standard_normal((20_000, samples))
    actions = np.clip(actions + np.clip(1 - actions, -perturbation, perturbation), -1, 1)
    return float(np.abs(actions - 1).min(axis=1).mean())


if __name__ == "__main__":
    for samples in (1, 10, 69, 100):
        level = matching_expectile(0.01, samples)
        print(f"n = {samples:3d}, p = 0.01: target {expected_target(0.01, samples):.3f}, expectile level {level:.4f}")
    print(f"even odds for p = 0.01 from n = {samples_for_even_odds(0.01)} on")
    for samples in (1, 10, 100):
        plain, perturbed = mean_distance(samples), mean_distance(samples, perturbation=0.05)
        print(f"n = {samples:3d}: distance {plain:.2f}, perturbed {perturbed:.2f}")
