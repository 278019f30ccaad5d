"""RobustLagrangian: its pure functions against closed forms, what the policy sees, and faults that are noticed."""

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch

import ca14lib.agents.hybrid.robust_lagrangian as module
from ca14lib.agents import check_agent
from ca14lib.agents.hybrid.robust_lagrangian import (
    RobustLagrangian,
    RobustLagrangianConfig,
    model_of,
    per_episode,
    robust_advantage,
    without_model,
    worst_model_weights,
)
from ca14lib.agents.safe.ppo_lagrangian import lagrangian_advantage
from ca14lib.data import Rollout

SPACE = gym.spaces.Box(-10, 10, (4,), np.float32)  # two numbers for the model, two for the policy
QUICK = {"hidden_sizes": (16,), "epochs": 2, "minibatches": 2, "num_models": 2}


def small_agent(**fields) -> RobustLagrangian:
    return RobustLagrangian(SPACE, gym.spaces.Discrete(2), RobustLagrangianConfig(**(QUICK | fields)))


def small_rollout(agent: RobustLagrangian, cost=lambda model, action: action, copies: int = 64) -> Rollout:
    """Two rounds of episodes of one step: model 0 in the even copies, reward 1 for action 1, and its cost."""
    model = torch.arange(copies) % 2
    flags = torch.nn.functional.one_hot(model, 2).float()
    seen = torch.cat([flags, torch.ones(copies, 2)], dim=1).expand(2, copies, 4)
    action, log_prob = (torch.stack(each) for each in zip(*(agent.sample(row.numpy()) for row in seen), strict=True))
    costs = torch.stack([cost(model, each.float()) for each in action]).unsqueeze(-1)
    ended = torch.ones(2, copies, dtype=torch.bool)
    return Rollout(
        observation=seen, action=action, log_prob=log_prob, reward=action.float(), cost=costs, next_observation=seen,
        terminated=ended, truncated=~ended, episode_return=action.float().flatten(),
        episode_cost=costs.flatten(0, 1), episode_length=torch.ones(2 * copies),
    )  # fmt: skip


def test_the_suite_passes():
    check_agent(RobustLagrangian)


def test_costs_are_per_episode_and_per_model():
    """Model 0: two episodes of two steps that cost 1 each; model 1: one of three steps, the first of which costs 5."""
    model = torch.tensor([0, 0, 0, 0, 1, 1, 1])
    cost = torch.tensor([1.0, 1, 1, 1, 5, 0, 0]).unsqueeze(-1)
    ended = torch.tensor([0, 1, 0, 1, 0, 0, 1]).bool()
    total, episodes = per_episode(cost, ended, model, 3)
    assert total[:2, 0].tolist() == [2.0, 5.0]
    assert episodes.tolist() == [2.0, 1.0, 0.0]


def test_weights_move_to_the_worst_model_by_the_exponential_rule():
    weight = worst_model_weights(torch.tensor([0.5, 0.25, 0.25]), torch.tensor([1.0, 3.0, 1.0]), 0.5)
    expected = torch.tensor([0.5, 0.25 * np.exp(-1.0), 0.25])
    torch.testing.assert_close(weight, (expected / expected.sum()).float())
    even = torch.full((3,), 1 / 3)
    torch.testing.assert_close(worst_model_weights(even, torch.tensor([1.0, 9.0, -4.0]), 0.0), even)


def test_the_mean_over_steps_weighs_models_by_their_weights_and_costs_by_their_multipliers():
    """Slopes of the surrogate: with equally many steps, w_m for reward and λ_m for cost, over 1 + Σλ."""
    model = torch.tensor([0, 0, 1, 1])
    advantage, cost = torch.tensor([1.0, -1, 2, -2]), torch.tensor([[3.0], [-3], [1], [-1]])
    weight, multiplier = torch.tensor([0.8, 0.2]), torch.tensor([[0.5], [2.0]])
    mixed = robust_advantage(advantage, cost, model, weight, multiplier)
    expected = 2 * torch.tensor([0.8 * 1 - 0.5 * 3, -(0.8 * 1 - 0.5 * 3), 0.2 * 2 - 2 * 1, -(0.2 * 2 - 2 * 1)]) / 3.5
    torch.testing.assert_close(mixed, expected)
    shifted = robust_advantage(advantage + 7 * model, cost - 5 * model.unsqueeze(-1), model, weight, multiplier)
    torch.testing.assert_close(shifted, expected)


def test_with_one_model_the_advantage_is_that_of_the_lagrangian():
    draws = torch.Generator().manual_seed(0)
    advantage, cost = torch.randn(20, generator=draws), torch.rand(20, 2, generator=draws)
    price = torch.tensor([[0.7, 2.0]])
    mixed = robust_advantage(advantage, cost, torch.zeros(20, dtype=torch.int64), torch.ones(1), price)
    torch.testing.assert_close(mixed, lagrangian_advantage(advantage, cost, price[0]))


def test_the_policy_does_not_see_the_model_and_the_critics_do():
    agent, draws = small_agent(), np.random.default_rng(0)
    seen = draws.normal(size=(10, 4)).astype(np.float32)
    other = seen.copy()
    other[:, :2] = draws.normal(size=(10, 2))
    np.testing.assert_array_equal(agent.probabilities(seen), agent.probabilities(other))
    first, second = (agent._values(torch.as_tensor(each)) for each in (seen, other))
    assert not torch.allclose(first, second)
    assert model_of(torch.tensor([[0.0, 1, 5, 5], [1, 0, 9, 9]]), 2).tolist() == [1, 0]
    torch.testing.assert_close(without_model(torch.arange(4.0)[None], 2), torch.tensor([[0.0, 0, 2, 3]]))


def test_each_model_moves_its_own_multiplier_before_the_policy():
    settings = {"cost_limits": (0.5,), "multiplier_learning_rate": 0.1, "initial_multiplier": 0.3}
    agent = small_agent(**settings, weight_learning_rate=0.0)
    logs = agent.update(small_rollout(agent, lambda model, action: model.float()))
    assert agent.multiplier[:, 0].tolist() == pytest.approx([0.25, 0.35])
    assert [logs["multiplier_0_0"].item(), logs["multiplier_1_0"].item()] == pytest.approx([0.25, 0.35])
    assert agent.weight.tolist() == [0.5, 0.5]


def test_a_model_without_an_ended_episode_keeps_its_multiplier():
    agent = small_agent(cost_limits=(0.5,), multiplier_learning_rate=0.1, initial_multiplier=0.3)
    rollout = small_rollout(agent, lambda model, action: torch.ones(len(action)))
    only_first = rollout.terminated & (torch.arange(64) % 2 == 0)
    agent.update(replace(rollout, terminated=only_first))
    assert agent.multiplier[:, 0].tolist() == pytest.approx([0.35, 0.3])
    assert agent.weight.tolist() == [0.5, 0.5]


def taken(**fields) -> float:
    """Probability of the rewarded action, averaged over the last of 100 updates, where it costs 1 in model 1 only."""
    settings = {
        "cost_limits": (0.3,), "learning_rate": 0.01, "multiplier_learning_rate": 0.2, "initial_multiplier": 1.0,
        "entropy_weight": 0.1,
    }  # fmt: skip
    agent = small_agent(**(settings | fields))
    shares = []
    for _ in range(100):
        agent.update(small_rollout(agent, lambda model, action: model * action))
        shares.append(agent.probabilities(np.ones((1, 4), np.float32))[0, 1])
    return float(np.mean(shares[-50:]))


def test_the_worst_model_is_driven_to_the_limit_where_the_mean_would_allow_twice_as_much():
    assert taken() == pytest.approx(0.3, abs=0.12)


def test_settings_that_make_no_sense_are_refused_by_name():
    for fields, message in (
        ({"num_models": 0}, "num_models must be a positive integer, got 0"),
        ({"weight_learning_rate": -1.0}, "weight_learning_rate must be finite and at least 0"),
        ({"cost_limits": ()}, "cost_limits must be at least one limit"),
        ({"initial_multiplier": 5.0, "max_multiplier": 1.0}, r"initial_multiplier must be at most 1\.0, its maximum"),
    ):
        with pytest.raises(ValueError, match=message):
            RobustLagrangianConfig(**fields)
    with pytest.raises(ValueError, match="num_models=5 observations must be a one-dimensional Box of more than 5"):
        small_agent(num_models=5)


# planted faults


def fault_no_hiding(patch):
    """The policy sees the model, which nobody will show it in use."""
    patch.setattr(module, "without_model", lambda inputs, num_models: inputs)


def fault_mean_cost(patch):
    """One multiplier for the mean over models: what domain averaging does."""
    healthy = module.per_episode

    def averaged(*arguments):
        total, episodes = healthy(*arguments)
        return total.mean(dim=0, keepdim=True).expand_as(total), episodes

    patch.setattr(module, "per_episode", averaged)


def fault_per_step(patch):
    """Costs per step in the place of costs per episode."""
    patch.setattr(
        module, "per_episode", lambda signal, ended, model, m: PER_EPISODE(signal, torch.ones_like(ended), model, m)
    )


def fault_best_model(patch):
    """Weights move to the best model."""
    patch.setattr(module, "worst_model_weights", lambda weight, total, rate: WEIGHTS(weight, -total, rate))


def fault_wrong_model(patch):
    """Every step is priced as of model 0."""
    patch.setattr(
        module, "robust_advantage", lambda a, c, model, w, price: ADVANTAGE(a, c, torch.zeros_like(model), w, price)
    )


PER_EPISODE, WEIGHTS, ADVANTAGE = per_episode, worst_model_weights, robust_advantage


def longer_episodes_cost_more():
    total, _ = module.per_episode(torch.ones(4, 1), torch.tensor([0, 1, 0, 1]).bool(), torch.zeros(4).long(), 1)
    assert total.item() == 2.0


def the_worst_model_gains_weight():
    agent = small_agent(weight_learning_rate=0.5)
    rollout = small_rollout(agent)
    reward = (torch.arange(64) % 2).float().expand(2, 64)
    agent.update(replace(rollout, reward=reward))
    assert agent.weight[0] > agent.weight[1]


def what_is_dear_in_one_model_is_avoided_there_only():
    gain, cost = torch.tensor([1.0, -1, 1, -1]), torch.tensor([[1.0], [-1], [1], [-1]])
    mixed = module.robust_advantage(
        gain, cost, torch.tensor([0, 0, 1, 1]), torch.tensor([0.5, 0.5]), torch.tensor([[0.0], [9.0]])
    )
    assert mixed[0] > 0 > mixed[2]


@pytest.mark.parametrize(
    "plant, check",
    [
        (fault_no_hiding, test_the_policy_does_not_see_the_model_and_the_critics_do),
        (fault_mean_cost, test_each_model_moves_its_own_multiplier_before_the_policy),
        (fault_per_step, longer_episodes_cost_more),
        (fault_best_model, the_worst_model_gains_weight),
        (fault_wrong_model, what_is_dear_in_one_model_is_avoided_there_only),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_planted_faults_are_noticed(plant, check, monkeypatch):
    check()
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        check()
