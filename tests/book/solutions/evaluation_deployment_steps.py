"""Episodes with a false alarm when a threshold holds 5% of the steps, and when it holds 5% of the episodes."""

import numpy as np

from ca14lib.deployment import conformal_threshold, persistent_peak

STEPS = 200


def episodes(count: int, memory: float, seed: int) -> np.ndarray:
    """Standard normal scores ``[count, STEPS]`` with autocorrelation ``memory`` from step to step."""
    noise = np.random.default_rng(seed).normal(size=(count, STEPS))
    scores = noise.copy()
    for step in range(1, STEPS):
        scores[:, step] = memory * scores[:, step - 1] + np.sqrt(1 - memory**2) * noise[:, step]
    return scores


def alarmed(memory: float, per_episode: bool, calibrations: int = 40) -> float:
    """Share of undisturbed episodes with an alarm, over several calibrations of 199 episodes each."""
    found = []
    for seed in range(calibrations):
        calibration, test = episodes(199, memory, seed), episodes(200, memory, 1_000 + seed)
        if per_episode:
            threshold = conformal_threshold([persistent_peak(scores) for scores in calibration], 0.05)
        else:
            threshold = conformal_threshold(calibration.ravel(), 0.05)
        found.append((test > threshold).any(axis=1).mean())
    return float(np.mean(found))


if __name__ == "__main__":
    for memory in (0.0, 0.95):
        print(memory, round(alarmed(memory, False), 3), round(alarmed(memory, True), 3))
