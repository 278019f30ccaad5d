"""A cart with momentum in front of a wall: what a shield that looks one step ahead lets happen."""

import numpy as np

from ca14lib.agents.safe.shield import leaving_probability, safe_sets, violating_transitions
from ca14lib.environments import TabularModel

POSITIONS, SPEEDS = 12, 5  # the wall is position 11
ACCELERATION = np.array([-1, 0, 1])


def cart() -> tuple[TabularModel, np.ndarray]:
    """States (position, speed); an action changes the speed by −1, 0 or 1, then the cart moves by its speed."""
    position, speed = np.divmod(np.arange(POSITIONS * SPEEDS), SPEEDS)
    new_speed = np.clip(speed[:, None] + ACCELERATION, 0, SPEEDS - 1)
    new_position = np.minimum(position[:, None] + new_speed, POSITIONS - 1)
    successor = new_position * SPEEDS + new_speed
    transition = np.eye(POSITIONS * SPEEDS)[successor]
    return TabularModel(transition, np.zeros(successor.shape)), position == POSITIONS - 1


def allowed(look_ahead: bool) -> tuple[np.ndarray, np.ndarray]:
    """The mask ``[S, A]`` and the states ``[S]`` that its shield holds for safe."""
    model, wall = cart()
    violation = violating_transitions(model, unsafe=wall)
    safe = safe_sets(model, violation) if look_ahead else np.ones(model.num_states, dtype=bool)
    fine = leaving_probability(model, violation, safe) == 0
    return fine, fine.any(axis=1)


def crashes(look_ahead: bool, runs: int = 1_000, steps: int = 30) -> int:
    """Runs from rest at position 0 that hit the wall, drawing from what is allowed, or from all if nothing is."""
    model, wall = cart()
    mask, _ = allowed(look_ahead)
    mask = mask | ~mask.any(axis=1, keepdims=True)
    rng, state, hit = np.random.default_rng(0), np.zeros(runs, int), np.zeros(runs, bool)
    for _ in range(steps):
        action = (rng.random((runs, 3)) * mask[state]).argmax(axis=1)
        state = model.transition[state, action].argmax(axis=1)
        hit |= wall[state]
    return int(hit.sum())


if __name__ == "__main__":
    for look_ahead in (False, True):
        _, safe = allowed(look_ahead)
        fastest = safe.reshape(POSITIONS, SPEEDS)[:-1].sum(axis=1) - 1
        print(f"look ahead {look_ahead}: greatest speed by position {fastest}, {crashes(look_ahead)} of 1000 crash")
