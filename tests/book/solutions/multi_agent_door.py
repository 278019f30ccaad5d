"""When an agent that averages over old data notices that its partner has stopped pushing."""

import numpy as np

COST = 0.2  # of a push; an open door pays 1
PARTNER = np.maximum(0.9 - 0.8 * np.arange(20_000) / 1000, 0.1)  # its probability of pushing, step by step


def estimate(share_of_old: float) -> float:
    """Mean value of a push over a memory of which a share is from the time when the partner pushed with 0.9."""
    return 0.9 * share_of_old + 0.1 * (1 - share_of_old) - COST


def notices(window: int | None) -> int:
    """First step after which the mean value over the last steps, or over all, is not positive any more."""
    total = np.concatenate([[0.0], PARTNER.cumsum()])
    steps = np.arange(1, len(total))
    start = np.maximum(steps - window, 0) if window else np.zeros_like(steps)
    mean = (total[steps] - total[start]) / (steps - start)
    return int((mean - COST < 1e-12).argmax())


if __name__ == "__main__":
    print("pushing is wrong from step", notices(1))
    for window in (50, 400, None):
        print("a memory of", window or "everything", "notices at step", notices(window))
