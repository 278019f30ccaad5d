"""What the mean over finished episodes says of a policy when the counting stops after some steps."""

import numpy as np

from ca14lib.environments import multi_agent_environment


def finished_within(steps: int, copies: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Team returns of uniform play: of all episodes that end within some steps, and of the first one of each copy."""
    game, generator = multi_agent_environment("TargetGrid", copies), np.random.default_rng(seed)
    game.reset(seed=seed)
    running, first, ended = np.zeros(copies), np.full(copies, np.nan), []
    for _ in range(steps):
        _, reward, terminated, truncated, _ = game.step(generator.integers(5, size=(copies, 4)))
        running += reward.sum(axis=1)
        over = terminated | truncated
        first[over & np.isnan(first)] = running[over & np.isnan(first)]
        ended += running[over].tolist()
        running[over] = 0.0
    return np.array(ended), first


if __name__ == "__main__":
    for steps in (50, 100, 200, 1_000):
        ended, first = finished_within(steps, 4_000)
        print(f"{steps} steps: mean over finished {ended.mean():.1f}, over first episodes {np.nanmean(first):.1f}, "
              f"first ones still running {np.isnan(first).mean():.0%}")  # fmt: skip
