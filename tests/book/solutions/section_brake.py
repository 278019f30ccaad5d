"""An emergency brake for CA14/SafeDriving-v0, as a shield for train_on_policy."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

METRES, METRES_PER_SECOND = np.array([200.0, 12.0]), 80.0
SLOWER, ACTIONS = 4, 5


def emergency_brake(observation: NDArray, info: dict[str, Any], seconds: float = 3.0) -> NDArray[np.bool_]:
    """Only braking is allowed where the car ahead would be reached within some seconds; mask ``[N, 5]``."""
    along, across = (observation[:, 1:, 1:3] * METRES).transpose(2, 0, 1)
    closing = -observation[:, 1:, 3] * METRES_PER_SECOND
    ahead = (observation[:, 1:, 0] > 0.5) & (along > 0) & (abs(across) < 2)
    reached = np.where(ahead & (closing > 0), (along - 5) / np.maximum(closing, 1e-6), np.inf).min(axis=1)
    mask = np.ones((len(observation), ACTIONS), dtype=bool)
    mask[reached < seconds] = np.arange(ACTIONS) == SLOWER
    return mask
