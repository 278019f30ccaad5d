"""How large a constant may be added to every reward of the gridworld before its best policy never arrives."""

from dataclasses import replace

from ca14lib.environments import tabular_model
from ca14lib.solvers import policy_return, value_iteration

GRID, DISCOUNT, STEPS = "CA14/GridWorld-v0", 0.99, 50


def true_return_after_shift(shift: float) -> float:
    """Within 50 steps and with the true rewards: the policy that is best after a constant is added to each of them."""
    model = tabular_model(GRID)
    misled = value_iteration(replace(model, reward=model.expected_reward + shift), DISCOUNT).policy
    return policy_return(model, misled, horizon=STEPS)


def threshold(step: float = -0.1, goal: float = 1.0) -> float:
    """The shift at which a step for ever pays as much as arriving."""
    return ((1 - DISCOUNT) * goal - step) / DISCOUNT


if __name__ == "__main__":
    print(f"threshold {threshold():.4f}")
    for shift in (-0.5, 0.0, 0.1, 0.11, 0.112, 0.2):
        print(f"shift {shift:6.3f}: true return {true_return_after_shift(shift):5.2f}")
