"""PPO: its surrogate, its passes, and the optimum of a bandit of either kind."""

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch

import tests.continuous_probes  # noqa: F401 (registers the bandit)
from ca14lib.agents import PPO, PPOConfig
from ca14lib.agents.check import random_rollout
from ca14lib.agents.ppo import clipped_loss
from ca14lib.training import train_on_policy
from tests.agents.reference_on_policy import (
    ACTIONS,
    KINDS,
    OBSERVATIONS,
    arm_probabilities,
    bandit_agent,
    bandit_rollout,
)


def agent_of(kind: str = "discrete", **fields) -> PPO:
    return PPO(OBSERVATIONS, ACTIONS[kind], PPOConfig(**({"hidden_sizes": (8,)} | fields)), seed=0)


def test_at_a_ratio_of_one_the_surrogate_is_the_mean_advantage_and_its_gradient_the_policy_gradient():
    log_prob = torch.randn(50, generator=torch.Generator().manual_seed(0), requires_grad=True)
    advantage = torch.randn(50, generator=torch.Generator().manual_seed(1))
    loss = clipped_loss(log_prob, log_prob.detach(), advantage, 0.2)
    assert loss.item() == pytest.approx(-advantage.mean().item(), abs=1e-6)
    (gradient,) = torch.autograd.grad(loss, log_prob)
    torch.testing.assert_close(gradient, -advantage / 50)


def test_the_surrogate_is_a_lower_bound_of_the_unclipped_one():
    generator = torch.Generator().manual_seed(0)
    new, old, advantage = (torch.randn(200, generator=generator) for _ in range(3))
    for row in range(200):
        one = slice(row, row + 1)
        clipped = -clipped_loss(new[one], old[one], advantage[one], 0.2)
        assert clipped <= (new[one] - old[one]).exp() * advantage[one] + 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_an_update_logs_the_divergence_from_the_policy_that_acted(kind):
    agent = agent_of(kind, epochs=1, minibatches=1)
    rollout = random_rollout(OBSERVATIONS, ACTIONS[kind])
    parameters = agent.policy(rollout.flat("observation"))
    log_prob = agent.policy.log_prob(parameters, agent._unit(rollout.flat("action"))).detach()
    honest = replace(rollout, log_prob=log_prob.reshape(8, 4))
    assert agent.update(honest)["kl"].item() == pytest.approx(0.0, abs=1e-6)
    assert agent.update(honest)["kl"].item() > 0.0


def test_the_scale_of_rewards_matters_only_without_standardising():
    rollout = random_rollout(OBSERVATIONS, ACTIONS["discrete"])
    for standardise in (True, False):
        policies = []
        for scale in (1.0, 50.0):
            # critics that stay at 0, so that advantages scale with the rewards
            agent = agent_of(standardise=standardise, max_gradient_norm=1e9, epochs=1, minibatches=1, learning_rate=0.1)
            with torch.no_grad():
                for parameter in agent.critics.parameters():
                    parameter.zero_()
            loss = agent.update(replace(rollout, reward=scale * rollout.reward))["policy_loss"]
            policies.append(loss.item())
        assert (policies[0] == pytest.approx(policies[1], rel=1e-3)) == standardise


def test_the_norm_of_the_gradient_is_limited():
    """With plain gradient steps a policy moves by at most rate · norm in each."""
    agent = agent_of(epochs=1, minibatches=1, standardise=False, max_gradient_norm=0.1, learning_rate=1.0)
    agent.optimizers["policy"] = agent.policy_optimizer = torch.optim.SGD(agent.policy.parameters(), lr=1.0)
    before = torch.nn.utils.parameters_to_vector(agent.policy.parameters()).detach()
    rollout = random_rollout(OBSERVATIONS, ACTIONS["discrete"])
    agent.update(replace(rollout, reward=1_000 * rollout.reward))
    moved = (torch.nn.utils.parameters_to_vector(agent.policy.parameters()) - before).norm().item()
    assert moved == pytest.approx(0.1, rel=1e-3)


def test_an_entropy_bonus_keeps_a_policy_from_making_up_its_mind():
    spread = []
    for weight in (0.0, 0.5):
        agent = bandit_agent(PPO, learning_rate=0.02, entropy_weight=weight)
        for _ in range(10):
            agent.update(bandit_rollout(agent, lambda action: action.float(), size=200))
        probability = arm_probabilities(agent)
        spread.append(-(probability * np.log(probability)).sum())
    assert spread[1] > 2 * spread[0]


def test_forbidden_actions_are_neither_learned_nor_unlearned():
    """Rewards of actions behind the mask cannot come up: the other arms' probabilities keep their order."""
    agent = bandit_agent(PPO, arms=3, learning_rate=0.02)
    allowed = torch.tensor([True, False, True]).expand(1, 200, 3)
    for _ in range(8):
        action, log_prob = agent.sample(np.zeros(200, np.int64), allowed[0].numpy())
        rollout = bandit_rollout(agent, lambda action: action.float(), size=200)
        rollout = replace(
            rollout, action=action[None], log_prob=log_prob[None].double(), action_mask=allowed,
            reward=(action == 2).double()[None],
        )  # fmt: skip
        agent.update(rollout)
    masked = agent.probabilities(np.zeros(1, np.int64), mask=allowed[0, :1].numpy())[0]
    assert masked[2] > 0.9
    assert masked[1] == 0.0


@pytest.mark.learning
def test_ppo_finds_the_best_action_of_a_continuous_bandit():
    """Reward 1 − (a − 0.8)², best at 0.8."""
    environment = gym.make("CourseTest/Bandit-v0")
    config = PPOConfig(hidden_sizes=(16,), learning_rate=0.01, epochs=4, minibatches=2)
    agent = PPO(environment.observation_space, environment.action_space, config, seed=0)
    train_on_policy(agent, "CourseTest/Bandit-v0", 8_000, num_envs=4, rollout_steps=50, progress=False)
    found = agent.act(np.ones((1, 1), np.float32), deterministic=True).item()
    assert found == pytest.approx(0.8, abs=0.1)
