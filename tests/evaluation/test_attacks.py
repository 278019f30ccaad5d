"""The suite of attacks: what it reports, that no state is touched, and that the certified bound lies under it."""

import gymnasium as gym
import numpy as np
import pytest
import torch

from ca14lib.agents import PPO, PPOConfig
from ca14lib.agents.robust.attacks import Attack
from ca14lib.data import Normalizer
from ca14lib.environments.pushed_cart_pole import PushedCartPoleVector
from ca14lib.evaluation.attacks import AttackedAgent, AttackSuite, cart_pole_certified_returns, mean_interval

TASK = "CartPole-v1"
FAST = {"episodes": 2, "adversary_steps": 256, "steps": 1, "training_environment": PushedCartPoleVector}


def balancer(sharpness: float = 40.0) -> PPO:
    """PPO's networks with weights that balance the pole for a while: the sign of angle and angular velocity."""
    spaces = PushedCartPoleVector(1).single_observation_space, gym.spaces.Discrete(2)
    normalizer = Normalizer(torch.zeros(4), torch.tensor([2.4, 3.0, 0.21, 3.5]), 0.0)
    agent = PPO(*spaces, PPOConfig(hidden_sizes=(4,)), normalizer=normalizer)
    first, last = agent.policy.network[0], agent.policy.network[-1]
    with torch.no_grad():
        for parameter in (*first.parameters(), *last.parameters()):
            parameter.zero_()
        first.weight[0] = torch.tensor([0.3, 0.5, 1.0, 1.5])
        last.weight[1, 0] = sharpness
    return agent


def test_table_has_a_row_for_every_attack_and_the_worst_last():
    suite = AttackSuite(TASK, 0.3, **FAST)
    table = suite(balancer())
    assert table["attack"].tolist() == [
        "none", "random", "fgsm", "pgd", "critic", "mad", "target 0", "target 1", "learned", "worst",
    ]  # fmt: skip
    assert table["return"].iloc[-1] == table["return"].min()
    assert table["strongest"].iloc[-1] == table["attack"][table["return"].idxmin()]
    assert (table["low"] <= table["return"]).all()
    assert (table["return"] <= table["high"]).all()
    again = AttackSuite(TASK, 0.3, **FAST)(balancer())
    assert again.equals(table)


def test_radius_zero_leaves_the_return():
    table = AttackSuite(TASK, 0.0, episodes=2, steps=1, attacks=("fgsm", "random", "learned"))(balancer())
    assert table["return"].nunique() == 1
    assert "learned" not in table["attack"].tolist()


def test_attacks_move_what_is_seen_and_not_the_state():
    """The same actions under any attack give the same episode."""
    agent = balancer()
    suite = AttackSuite(TASK, 0.3, episodes=4)

    class Constant:
        observation_space, action_space = agent.observation_space, agent.action_space
        seen: list = []

        def act(self, observation, *, deterministic=False):
            self.seen.append(observation)
            return np.ones(len(observation), np.int64)

    constant = Constant()
    clean = suite.returns(constant)
    clean_seen, Constant.seen = Constant.seen, []
    attacked = suite.returns(constant, Attack(agent, "fgsm", 0.3))
    np.testing.assert_array_equal(clean, attacked)
    moved = np.abs(Constant.seen[0] - clean_seen[0]) * agent.normalizer.scale.numpy()
    assert moved.max() == pytest.approx(0.3, rel=1e-4)  # once: twice would be 0.6


def test_a_strong_attack_brings_the_balancer_down():
    agent = balancer()
    suite = AttackSuite(TASK, 0.15, episodes=8)
    clean = suite.returns(agent).mean()
    assert suite.returns(agent, Attack(agent, "fgsm", 0.15)).mean() < 0.6 * clean


def test_attacked_agent_acts_on_what_it_is_shown():
    agent = balancer()
    observation = np.array([[0.0, 0.0, 0.05, 0.1]], np.float32)
    flipped = AttackedAgent(agent, lambda rows: -rows)
    assert agent.act(observation, deterministic=True) != flipped.act(observation, deterministic=True)


@pytest.mark.parametrize("epsilon", [0.0, 0.01, 0.05])
def test_certified_bound_is_never_over_any_attacked_return(epsilon):
    agent = balancer()
    starts = np.random.default_rng(3).uniform(-0.05, 0.05, (2, 4))
    lower = cart_pole_certified_returns(agent, epsilon, starts, cap=64)
    for attack in (None, *(Attack(agent, name, epsilon, steps=2) for name in ("fgsm", "pgd", "target"))):
        vector = PushedCartPoleVector(len(starts))
        vector.reset(seed=0)
        vector.states = starts.copy()
        seen, running, returns = vector._observe(), np.ones(len(starts), bool), np.zeros(len(starts))
        while running.any():
            shown = seen if attack is None else attack(seen)
            seen, reward, terminated, truncated, _ = vector.step(agent.act(shown, deterministic=True))
            returns += running * reward
            running &= ~(terminated | truncated)
        assert (lower <= returns).all()
        if epsilon == 0 and attack is None:
            np.testing.assert_array_equal(lower, returns)


def test_interval_contains_the_mean_and_shrinks_with_the_sample():
    values = np.random.default_rng(0).normal(size=400)
    wide, narrow = mean_interval(values[:40]), mean_interval(values)
    assert wide["low"] < values[:40].mean() < wide["high"]
    assert narrow["high"] - narrow["low"] < 0.6 * (wide["high"] - wide["low"])


def test_bad_input_is_refused():
    cases = {
        "epsilon must be a finite number of at least 0, got -0.1": lambda: AttackSuite(TASK, -0.1),
        "attack must be one of .*, got 'cw'": lambda: AttackSuite(TASK, 0.1, attacks=("cw",)),
        "adversary_steps must be": lambda: AttackSuite(TASK, 0.1, adversary_steps=0),
        "adversaries must be": lambda: AttackSuite(TASK, 0.1, adversaries=0),
        "unknown environment": lambda: AttackSuite("CartPole-v99", 0.1),
        "starts must have shape": lambda: cart_pole_certified_returns(balancer(), 0.1, np.zeros(4)),
    }
    for message, call in cases.items():
        with pytest.raises(ValueError, match=message):
            call()
