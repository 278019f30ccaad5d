"""The worst of several attacks, chosen before the episode, after it, and among noisy means."""

import numpy as np


def evaluated(attacks: int, episodes: int, mean: float = 400.0, deviation: float = 100.0, seed: int = 0) -> np.ndarray:
    """Returns ``[2000, attacks, episodes]`` of 2,000 evaluations of a policy that every attack hurts alike."""
    generator = np.random.default_rng(seed)
    return mean + deviation * generator.normal(size=(2_000, attacks, episodes))


def reports(returns: np.ndarray) -> dict[str, float]:
    """Mean over evaluations of three numbers that are called the worst case."""
    half = returns.shape[2] // 2
    first, second = returns[:, :, :half].mean(axis=2), returns[:, :, half:].mean(axis=2)
    return {
        "worst attack of every episode": float(returns.min(axis=1).mean()),
        "attack with the least mean": float(returns.mean(axis=2).min(axis=1).mean()),
        "chosen on one half, judged on the other": float(
            np.take_along_axis(second, first.argmin(axis=1)[:, None], axis=1).mean()
        ),
    }


if __name__ == "__main__":
    for attacks in (1, 8):
        for episodes in (20, 200):
            print(
                attacks,
                episodes,
                {name: round(value, 1) for name, value in reports(evaluated(attacks, episodes)).items()},
            )
