"""Ten minutes at the bound, then a set point within reach: how long two integrals take to come back."""

import numpy as np

from ca14lib.solvers.reactor_control import integral_step

RATE, GAIN = 0.1, 1.0  # of the integral per step, and of the error


def minutes_beyond(anti_windup: bool) -> int:
    """Steps for which a first-order plant stays more than 0.05 from its new set point."""
    level, integral, far = np.zeros(1), np.zeros(1), 0
    for step in range(400):
        wish = 2.0 if step < 100 else 0.5  # 2 is out of reach: the plant's gain is 1 and the action at most 1
        error = wish - level
        wanted = GAIN * error + integral
        safe, naive = integral_step(integral, error, RATE, wanted, -1.0, 1.0), integral + RATE * error
        integral = safe if anti_windup else naive
        level = level + 0.2 * (np.clip(wanted, -1.0, 1.0) - level)
        far += int(step >= 100 and abs(0.5 - level[0]) > 0.05)
    return far


if __name__ == "__main__":
    print(f"with anti-windup {minutes_beyond(True)} steps, without {minutes_beyond(False)}")
