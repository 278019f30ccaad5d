"""How far the joint action's ratio moves when each agent's stays within its clip."""

import numpy as np
from numpy.typing import NDArray


def clip_for(agents: NDArray, joint: float = 1.2) -> NDArray:
    """The clip of each agent that keeps the joint ratio at most ``joint``."""
    return joint ** (1 / agents) - 1


def joint_deviation(agents: int, deviation: float, together: bool, draws: int = 100_000) -> float:
    """Deviation of the joint log-ratio of agents that move independently or together."""
    log_ratio = np.random.default_rng(0).normal(0, deviation, (draws, 1 if together else agents))
    return float(np.broadcast_to(log_ratio, (draws, agents)).sum(axis=1).std())


if __name__ == "__main__":
    number = np.array([1, 2, 4, 32])
    print("clips", clip_for(number).round(4))
    print("lowest joint ratios", ((1 - clip_for(number)) ** number).round(3))
    print("deviations", joint_deviation(4, 0.1, together=False), joint_deviation(4, 0.1, together=True))
