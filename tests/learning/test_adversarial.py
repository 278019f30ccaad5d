"""An agent trained under attack keeps balancing where plain PPO falls."""

import numpy as np
import pytest

from ca14lib.agents.robust.attacks import Attack
from ca14lib.environments.pushed_cart_pole import PushedCartPoleVector
from ca14lib.experiments.robust.attacks import EPSILON, trained_agent


def worst_return(agent, epsilon: float) -> float:
    """Mean return under the worst of the two targeted attacks and the margin's."""
    found = []
    for name, target in (("target", 0), ("target", 1), ("fgsm", 0)):
        attack = Attack(agent, name, epsilon, target=target)
        vector = PushedCartPoleVector(20)
        observation, _ = vector.reset(seed=5)
        running, returns = np.ones(20, bool), np.zeros(20)
        while running.any():
            observation, _, terminated, truncated, _ = vector.step(agent.act(attack(observation), deterministic=True))
            returns += running
            running &= ~(terminated | truncated)
        found.append(returns.mean())
    return float(min(found))


@pytest.mark.verify
def test_training_under_attack_keeps_the_return_that_plain_training_loses():
    plain, attacked = (trained_agent(name, 100) for name in ("PPO", "PPO (attacked)"))
    assert worst_return(plain, EPSILON) < 300
    assert worst_return(attacked, EPSILON) >= 450
