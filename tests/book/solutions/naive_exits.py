"""Q-learning in table form on the expert's data: unseen actions are exits that pay their initial value."""

import numpy as np

from ca14lib.environments import tabular_model
from ca14lib.solvers import policy_return
from ca14lib.training import collect

GRID = "CA14/GridWorld-v0"


def learn(initial_value: float, discount: float = 0.99, sweeps: int = 2_000) -> np.ndarray:
    """The limit of full sweeps over the pairs in the data; the others keep their initial value."""
    model = tabular_model(GRID)
    seen = collect(GRID, "expert", episodes=10, seed=0).visit_counts(model) > 0
    q = np.where(model.terminal[:, None], 0.0, np.full((model.num_states, model.num_actions), initial_value))
    for _ in range(sweeps):
        # the dynamics are deterministic, so the empirical model of a seen pair is the true one
        q = np.where(seen, model.reward + discount * model.transition @ q.max(axis=1), q)
    return q


def predicted_and_obtained(initial_value: float) -> tuple[float, float]:
    """Value that the learner expects at the start, and the exact discounted return of its greedy policy."""
    q = learn(initial_value)
    return float(q[0].max()), policy_return(tabular_model(GRID), np.eye(4)[q.argmax(axis=1)], discount=0.99)


def threshold(discount: float = 0.99) -> float:
    """Value of the expert's path at the start: seven steps at −0.1, then 1."""
    return -0.1 * sum(discount**step for step in range(7)) + discount**7


if __name__ == "__main__":
    print(f"value of the path at the start: {threshold():.4f}")
    for initial_value in (-1.0, 0.0, 0.25, 0.26, 1.0):
        predicted, obtained = predicted_and_obtained(initial_value)
        print(f"Q_0 = {initial_value:5.2f}: predicted {predicted:6.3f}, obtained {obtained:7.3f}")
