"""An expectile over outcomes mistakes luck for skill; an expectile over actions does not."""

import numpy as np
from scipy.optimize import brentq


def expectile(values: np.ndarray, probability: np.ndarray, level: float) -> float:
    """The zero of the first-order condition."""

    def condition(m: float) -> float:
        return level * probability @ np.maximum(values - m, 0) - (1 - level) * probability @ np.maximum(m - values, 0)

    return brentq(condition, values.min(), values.max(), xtol=1e-12)


# a safe action pays 0.5; a gamble pays 1 with probability 0.2, else 0; the data take either half the time
SAFE, WIN, CHANCE = 0.5, 1.0, 0.2


def value_over_actions(level: float) -> float:
    """IQL: average over the outcomes of each action, then the expectile over actions."""
    return expectile(np.array([SAFE, CHANCE * WIN]), np.array([0.5, 0.5]), level)


def value_over_outcomes(level: float) -> float:
    """One network fitted to r + γ V(s′) by the expectile loss: actions and outcomes are mixed."""
    outcomes, probability = np.array([SAFE, WIN, 0.0]), np.array([0.5, 0.5 * CHANCE, 0.5 * (1 - CHANCE)])
    return expectile(outcomes, probability, level)


if __name__ == "__main__":
    for level in (0.7, 0.9, 0.99):
        actions, outcomes = value_over_actions(level), value_over_outcomes(level)
        print(f"τ = {level:4.2f}: over actions {actions:.3f}, over outcomes {outcomes:.3f}")
