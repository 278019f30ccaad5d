"""What an arm scores that does nothing, if the 0 of the scale is the random policy."""

import numpy as np

from ca14lib.environments.applications.robotics import ReacherDomainVector


def mean_return(draw, copies: int = 2_000, seed: int = 0) -> float:
    """Of an episode with actions that ``draw`` gives for a shape."""
    arms, total = ReacherDomainVector(copies, time_limit=None), 0.0
    arms.reset(seed=seed)
    for _ in range(50):
        _, reward, *_ = arms.step(draw((copies, 2)).astype(np.float32))
        total += float(reward.mean())
    return total


def share_of_rest(best: float = -3.3) -> float:
    rng = np.random.default_rng(1)
    random = mean_return(lambda shape: rng.uniform(-1, 1, shape))
    return (mean_return(np.zeros) - random) / (best - random)
