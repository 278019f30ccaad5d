"""Multiplier and policy near the optimum, linearised: who is updated first, and what damps the swing."""

import numpy as np


def swing(
    updates: int, *, rate: float = 0.1, speed: float = 0.1, proportional: float = 0.0, policy_first: bool = False
) -> np.ndarray:
    """Deviation of the policy from its optimum after every update.

    Every update sees one rollout, whose violation is the deviation of the policy that made it. The policy moves
    against the deviation of the price.

    Args:
        updates: How many.
        rate: Integral gain of the multiplier.
        speed: Of the policy.
        proportional: Proportional gain.
        policy_first: The policy takes its step before the multiplier has seen the rollout.
    """
    deviation, integral, price, history = 1.0, 0.0, 0.0, []
    for _ in range(updates):
        violation = deviation
        if policy_first:
            deviation -= speed * price
        integral += rate * violation
        price = integral + proportional * violation
        if not policy_first:
            deviation -= speed * price
        history.append(deviation)
    return np.array(history)


def amplitude(history: np.ndarray) -> tuple[float, float]:
    """Largest deviation in the first and in the last 100 updates."""
    return float(abs(history[:100]).max()), float(abs(history[-100:]).max())


if __name__ == "__main__":
    print("multiplier first", amplitude(swing(400)))
    print("policy first", amplitude(swing(400, policy_first=True)))
    for gain in (0.2, 0.5, 2.0):
        print(f"proportional {gain}", amplitude(swing(400, proportional=gain)))
