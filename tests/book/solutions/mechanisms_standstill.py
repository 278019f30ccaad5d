"""A braking barrier asked only every Δ: without a backup action the car creeps through the wall."""

import numpy as np

from ca14lib.agents.safe.control_barrier import ControlBarrier, sampling_margin

WALL, BRAKE, STEP = 1.0, 2.0, 0.2


def barrier(state: np.ndarray) -> np.ndarray:
    return WALL - state[:, 0] - np.maximum(state[:, 1], 0) ** 2 / (2 * BRAKE)


def gradient(state: np.ndarray) -> np.ndarray:
    return np.column_stack([-np.ones(len(state)), -np.maximum(state[:, 1], 0) / BRAKE])


def furthest(backup: bool, seconds: float = 60.0) -> float:
    """The furthest position of a car that starts at rest on the border of the kept set and always wants full thrust."""
    margin = sampling_margin(STEP, 2 * BRAKE, 1.0)
    control = ControlBarrier(
        lambda state: np.column_stack([state[:, 1], np.zeros(len(state))]),
        lambda state: np.tile([[0.0], [1.0]], (len(state), 1, 1)),
        barrier, gradient, low=-BRAKE, high=BRAKE, margin=margin,
        backup=(lambda state: np.full((len(state), 1), -BRAKE)) if backup else None,
    )  # fmt: skip
    state, reached = np.array([[WALL - margin, 0.0]]), 0.0
    for _ in range(int(seconds / STEP)):
        u = control(state, np.array([[BRAKE]]))[0, 0]
        state = np.array([[state[0, 0] + STEP * state[0, 1] + STEP**2 * u / 2, state[0, 1] + STEP * u]])
        reached = max(reached, float(state[0, 0]))
    return reached


if __name__ == "__main__":
    for backup in (False, True):
        print(f"backup {backup}: the car reaches {furthest(backup):.2f}; the wall is at {WALL}")
