"""Thompson sampling on a line with a treasure at one end: one draw per episode, and one per step."""

import numpy as np

from ca14lib.agents.robust.dynamics_posterior import CandidateModels

LEFT, RIGHT = -1, 1


def episodes_until_found(distance: int, seed: int, *, per_step: bool) -> int:
    """Episodes of ``distance`` steps from the middle until the treasure is reached, at either end with equal chances.

    Args:
        distance: From the middle to either end.
        seed: Fixes where the treasure is and the draws.
        per_step: Draw a new candidate before every step.
    """
    rng = np.random.default_rng(seed)
    treasure = rng.choice([LEFT, RIGHT])
    belief, episode = CandidateModels([0.5, 0.5]), 0  # it is on the left, on the right
    while True:
        episode += 1
        place, candidate = 0, belief.sample(rng)
        for _ in range(distance):
            candidate = belief.sample(rng) if per_step else candidate
            place += (LEFT, RIGHT)[candidate]  # the best policy if the candidate is true
        if place == treasure * distance:
            return episode
        if abs(place) == distance:  # an empty end: no density under the candidate that puts the treasure there
            belief.observe([-np.inf, 0.0] if place < 0 else [0.0, -np.inf])


if __name__ == "__main__":
    for per_step in (False, True):
        found = [episodes_until_found(8, seed, per_step=per_step) for seed in range(200)]
        print("per step" if per_step else "per episode", np.mean(found), np.max(found))
