"""Short failures, long successes: the episodes that ended in a rollout, and the first of each environment."""

import numpy as np

from ca14lib.metrics import return_conditional_value_at_risk

FAILURE, STEPS = 0.2, 50


def rollout(num_envs: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns of all episodes that ended within the rollout, and of each environment's first."""
    generator = np.random.default_rng(seed)
    ended, first = [], []
    for _ in range(num_envs):
        step, count = 0, 0
        while True:
            fails = generator.random() < FAILURE
            step += 5 if fails else STEPS
            if step > STEPS:
                break
            ended.append(-1.0 if fails else 1.0)
            if count == 0:
                first.append(ended[-1])
            count += 1
    return np.array(ended), np.array(first)


if __name__ == "__main__":
    ended, first = rollout(100_000, seed=0)
    for name, returns in (("all that ended", ended), ("first only", first)):
        tails = [return_conditional_value_at_risk(returns, tail) for tail in (0.2, 0.4)]
        print(f"{name}: failures {np.mean(returns < 0):.3f}, worst 20% {tails[0]:.2f}, worst 40% {tails[1]:.2f}")
