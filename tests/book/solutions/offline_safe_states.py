"""The price of a limit from first states, and from a mean over all states of a log; exact values, no network."""

import numpy as np

from ca14lib.environments.safe_grid import SafeGrid, SafeGridLayout
from ca14lib.experiments.evaluation.offline_safe import safe_grid_model
from ca14lib.training.collect import collect

LAYOUT = SafeGridLayout(4, ((1, 0), (1, 1), (1, 2)), goal=(3, 0), step_reward=-0.5, goal_reward=5.0, horizon=10)
MODEL = safe_grid_model(LAYOUT)


def backward_pass(price: float, temperature: float) -> np.ndarray:
    """Cost values ``[H, S]`` of the softmax policy at a price."""
    received = np.stack([MODEL.expected_reward, MODEL.expected_cost[0]])
    value, costs = np.zeros((2, MODEL.num_states)), []
    for _ in range(MODEL.horizon):
        q = received + np.einsum("san,kn->ksa", MODEL.transition, value)
        score = q[0] - price * q[1]
        weight = np.exp((score - score.max(axis=1, keepdims=True)) / temperature)
        policy = weight / weight.sum(axis=1, keepdims=True)
        value = (policy * q).sum(axis=2) * ~MODEL.terminal
        costs.insert(0, value[1])
    return np.array(costs)


def visits(episodes: int = 300, seed: int = 0) -> np.ndarray:
    """Share of every step and state ``[H, S]`` in a log of uniform actions."""
    data = collect(SafeGrid(layout=LAYOUT, one_hot=True), "random", episodes, seed=seed)
    seen = data.transitions.observation.numpy()
    step = np.rint((1 - seen[:, -1]) * MODEL.horizon).astype(int)
    count = np.zeros((MODEL.horizon, MODEL.num_states))
    np.add.at(count, (step, seen[:, :-1].argmax(axis=1)), 1)
    return count / count.sum()


def cost_found(limit: float, all_states: bool, temperature: float = 0.05, updates: int = 400) -> tuple[float, float]:
    """Price and true cost of an episode after dual ascent by one of the two estimates."""
    weight, price = visits(), 0.0
    for update in range(1, updates + 1):
        value = backward_pass(price, temperature)
        estimate = (weight * value).sum() if all_states else value[0] @ MODEL.initial
        price = max(price + 2.0 * min(1.0, 10 / update) * (estimate - limit), 0.0)
    return price, float(backward_pass(price, temperature)[0] @ MODEL.initial)


if __name__ == "__main__":
    for all_states in (False, True):
        print("all states" if all_states else "first states", cost_found(0.5, all_states))
