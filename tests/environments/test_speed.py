"""A guard against slow stepping; the measured speed is in the benchmarks."""

from statistics import median
from time import perf_counter

import gymnasium as gym
import numpy as np


def test_batched_grid_keeps_up_with_gymnasiums_vectorised_cart_pole():
    """Steps a second, 4,096 copies against 1,024, in turns in the same process; a fifth is left for noise."""
    grid = gym.make_vec("CA14/GridWorld-v0", num_envs=4096)
    cart = gym.make_vec("CartPole-v1", num_envs=1024, vectorization_mode="vector_entry_point")
    rng = np.random.default_rng(0)
    speeds: dict[str, list[float]] = {"grid": [], "cart": []}
    for environment in (grid, cart):
        environment.reset(seed=0)
    for _ in range(15):
        for name, environment in (("grid", grid), ("cart", cart)):
            actions = rng.integers(environment.single_action_space.n, size=(20, environment.num_envs))
            start = perf_counter()
            for action in actions:
                environment.step(action)
            speeds[name].append(actions.size / (perf_counter() - start))
    assert median(speeds["grid"]) > 0.8 * median(speeds["cart"]), {k: f"{median(v):,.0f}" for k, v in speeds.items()}
