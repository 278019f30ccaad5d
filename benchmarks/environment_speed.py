"""Environment steps a second on one core, beside Gymnasium's own vectorised CartPole in the same run.

    python -m benchmarks.environment_speed

Steps include automatic resets; actions are drawn beforehand. Rounds of all environments alternate; the figure is the
median round.
"""

import statistics
import time

import gymnasium as gym
import numpy as np
import pandas as pd

import ca14lib  # noqa: F401  (registers the ids)
from ca14lib.experiments import write_results

COURSE = (
    "CA14/GridWorld-v0",
    "CA14/RiverSwim-v0",
    "CA14/ICUSepsis-v0",
    "CA14/UncertainGrid-v0",
    "CA14/CartPoleDomain-v0",
)
CASES = [*((environment_id, 4_096) for environment_id in COURSE), ("CartPole-v1", 1_024)]
STEPS, ROUNDS = 200, 15


def main() -> None:
    environments, actions = [], []
    for environment_id, copies in CASES:
        environment = gym.make_vec(environment_id, num_envs=copies, vectorization_mode="vector_entry_point")
        environment.reset(seed=0)
        choices = int(environment.single_action_space.n)
        environments.append(environment)
        actions.append(np.random.default_rng(0).integers(choices, size=(STEPS, copies)))
    rates: list[list[float]] = [[] for _ in CASES]
    for _ in range(ROUNDS):
        for rate, environment, plan in zip(rates, environments, actions, strict=True):
            start = time.perf_counter()
            for action in plan:
                environment.step(action)
            rate.append(plan.size / (time.perf_counter() - start))
    rows = [
        {"environment": environment_id, "num_envs": copies, "steps_per_second": statistics.median(rate)}
        for (environment_id, copies), rate in zip(CASES, rates, strict=True)
    ]
    table = pd.DataFrame(rows)
    print(table.to_string(index=False, float_format="%.3g"))
    names = ("grid_world", "river_swim", "icu_sepsis", "uncertain_grid", "domains")
    modules = [f"ca14lib.environments.{name}" for name in names]
    write_results("environment_speed", table, command="python -m benchmarks.environment_speed", modules=modules)


if __name__ == "__main__":
    main()
