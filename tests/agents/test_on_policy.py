"""What every on-policy agent is made of: advantages, values, acting, masks, clipping, tables, critics."""

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ca14lib.agents import DQN, PPO, OnPolicyAgent, OnPolicyConfig, PPOConfig
from ca14lib.agents.check import random_batch, random_rollout
from ca14lib.agents.on_policy import generalised_advantage, standardised, value_loss
from ca14lib.agents.safe import PPOLagrangian, PPOLagrangianConfig
from ca14lib.data import Normalizer
from ca14lib.environments import TabularModel
from tests.agents.reference_on_policy import ACTIONS, KINDS, OBSERVATIONS

SMALL = {"hidden_sizes": (8,)}


def agent_of(kind: str = "discrete", seed: int = 0, cls=PPO, **fields) -> OnPolicyAgent:
    return cls(OBSERVATIONS, ACTIONS[kind], cls.config_class(**(SMALL | fields)), seed=seed)


def observations(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-3, 3, (count, 2)).astype(np.float32)


# Advantages


def brute_force(signal, value, next_value, terminated, last, discount, decay):
    """Σ (γλ)^l δ_{t+l} written out, in plain Python."""
    steps, copies, signals = signal.shape
    advantage = torch.zeros_like(signal)
    for n in range(copies):
        for m in range(signals):
            for start in range(steps):
                weight, t = 1.0, start
                while True:
                    following = 0.0 if terminated[t, n] else float(next_value[t, n, m])
                    error = float(signal[t, n, m]) + float(discount[m]) * following - float(value[t, n, m])
                    advantage[start, n, m] += weight * error
                    weight *= float(discount[m] * decay[m])
                    if last[t, n] or t == steps - 1:
                        break
                    t += 1
    return advantage


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 9_999), steps=st.integers(1, 7), copies=st.integers(1, 3), signals=st.integers(1, 3),
    ends=st.sampled_from([0.0, 0.3, 1.0]),
)  # fmt: skip
def test_advantages_are_the_discounted_sums_of_their_errors(seed, steps, copies, signals, ends):
    generator = torch.Generator().manual_seed(seed)
    signal, value, next_value = (
        torch.randn(steps, copies, signals, generator=generator, dtype=torch.float64) for _ in range(3)
    )
    terminated = torch.rand(steps, copies, generator=generator) < ends / 2
    last = terminated | (torch.rand(steps, copies, generator=generator) < ends / 2)
    last[-1] = True
    discount, decay = (torch.rand(signals, generator=generator, dtype=torch.float64) for _ in range(2))
    discount[0] = decay[-1] = 1.0
    arguments = (signal, value, next_value, terminated, last, discount, decay)
    torch.testing.assert_close(generalised_advantage(*arguments), brute_force(*arguments))


def test_without_decay_an_advantage_is_one_error_and_without_discounting_a_whole_return():
    signal = torch.tensor([1.0, 2.0, 3.0]).reshape(3, 1, 1)
    value, nothing = torch.full((3, 1, 1), 0.5), torch.zeros(3, 1, dtype=torch.bool)
    last = torch.tensor([[False], [False], [True]])
    after = torch.tensor([0.5, 0.5, 10.0]).reshape(3, 1, 1)
    one = torch.ones(1)
    errors = generalised_advantage(signal, value, after, nothing, last, 0.9 * one, 0 * one)
    assert errors.flatten().tolist() == pytest.approx([1 + 0.45 - 0.5, 2 + 0.45 - 0.5, 3 + 9 - 0.5])
    returns = generalised_advantage(signal, value, after, nothing, last, one, one)
    assert returns.flatten().tolist() == pytest.approx([16 - 0.5, 15 - 0.5, 13 - 0.5])
    ended = generalised_advantage(signal, value, after, last, last, one, one)
    assert ended.flatten().tolist() == pytest.approx([6 - 0.5, 5 - 0.5, 3 - 0.5])


def test_every_signal_of_an_agent_has_its_own_discount_decay_and_critic():
    fields = {"cost_limits": (1.0, 2.0), "discount": 0.9, "gae_lambda": 0.8, "cost_discount": 0.7}
    agent = agent_of(cls=PPOLagrangian, **fields, cost_gae_lambda=0.6)
    rollout = random_rollout(OBSERVATIONS, ACTIONS["discrete"], 2, seed=3)
    with torch.no_grad():
        value, after = (
            torch.cat([critic(rollout.flat(name)) for critic in agent.critics], dim=-1).reshape(8, 4, 3)
            for name in ("observation", "next_observation")
        )
    signal = torch.cat([rollout.reward.unsqueeze(-1), rollout.cost], dim=-1)
    discount, decay = torch.tensor([0.9, 0.7, 0.7]), torch.tensor([0.8, 0.6, 0.6])
    wanted = brute_force(signal, value, after, rollout.terminated, rollout.last_of_path(), discount, decay)
    advantage, cost_advantage, target = agent._advantages(rollout)
    torch.testing.assert_close(advantage, wanted[..., 0].flatten(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(cost_advantage, wanted[..., 1:].flatten(0, 1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(target, (wanted + value).flatten(0, 1), rtol=1e-4, atol=1e-5)


def test_standardised_advantages_have_mean_zero_and_deviation_one_and_constant_ones_are_zero():
    advantage = torch.randn(100, generator=torch.Generator().manual_seed(0)) * 7 + 3
    scaled = standardised(advantage)
    assert scaled.mean().abs() < 1e-6
    assert scaled.square().mean() == pytest.approx(1.0, abs=1e-5)
    assert (standardised(torch.full((5,), 4.0)) == 0).all()


# Acting


@pytest.mark.parametrize("kind", KINDS)
def test_samples_come_with_their_own_log_probability(kind):
    agent = agent_of(kind, seed=1)
    seen = observations(200)
    action, log_prob = agent.sample(seen)
    parameters = agent.policy(torch.as_tensor(seen))
    torch.testing.assert_close(log_prob, agent.policy.log_prob(parameters, agent._unit(action)).detach())
    density = agent.action_log_prob(seen, action.numpy())
    half = np.log(agent._action_range[1].numpy()).sum() if kind == "continuous" else 0.0
    assert np.allclose(density, log_prob.numpy() - half, atol=1e-5)


def test_drawn_actions_are_stored_unclipped_and_executed_within_their_bounds():
    agent, space = agent_of("continuous", seed=1), ACTIONS["continuous"]
    with torch.no_grad():
        agent.policy.log_std.fill_(1.0)
    action, _ = agent.sample(observations(300))
    beyond = (action.numpy() < space.low) | (action.numpy() > space.high)
    assert beyond.any()
    executed = agent.executed(action)
    assert executed.dtype == np.float32
    assert all(space.contains(one) for one in executed)
    assert (executed[~beyond] == action.numpy()[~beyond]).all()


def test_density_in_environment_units_integrates_to_one():
    agent = PPO(OBSERVATIONS, gym.spaces.Box(-1, 5, (1,)), PPOConfig(**SMALL))
    grid = np.linspace(-30, 34, 20_001, dtype=np.float32)[:, None]
    seen = np.repeat(observations(1), len(grid), axis=0)
    density = np.exp(agent.action_log_prob(seen, grid).astype(float))
    assert np.trapezoid(density, grid[:, 0]) == pytest.approx(1.0, abs=1e-3)


def test_masked_samples_are_allowed_and_carry_the_masked_probability():
    agent, seen = agent_of(seed=1), observations(500)
    mask = np.random.default_rng(0).random((500, 3)) < 0.5
    mask[np.arange(500), np.arange(500) % 3] = True
    action, log_prob = agent.sample(seen, mask)
    rows = np.arange(500)
    assert mask[rows, action.numpy()].all()
    assert np.allclose(np.exp(log_prob.numpy()), agent.probabilities(seen, mask=mask)[rows, action.numpy()], atol=1e-6)
    alone = mask.sum(axis=1) == 1
    assert np.allclose(log_prob.numpy()[alone], 0.0, atol=1e-6)
    assert (agent.act(seen, mask=mask, deterministic=True) == agent.probabilities(seen, mask=mask).argmax(axis=1)).all()


def test_continuous_actions_have_no_masks_and_no_probabilities():
    agent, seen = agent_of("continuous"), observations(4)
    for call in (
        lambda: agent.sample(seen, np.ones((4, 2), bool)),
        lambda: agent.act(seen, mask=np.ones((4, 2), bool)),
    ):
        with pytest.raises(ValueError, match="takes no mask"):
            call()
    with pytest.raises(ValueError, match="only discrete actions have probabilities"):
        agent.probabilities(seen)


@pytest.mark.parametrize("kind", KINDS)
def test_acting_does_not_depend_on_updates_of_the_global_generator(kind):
    first, second = agent_of(kind, seed=2), agent_of(kind, seed=2)
    torch.manual_seed(1)
    one = first.act(observations(20))
    torch.manual_seed(9)
    assert (one == second.act(observations(20))).all()
    assert (first.act(observations(20)) != one).any(), "every call draws anew"


def test_a_timed_policy_table_shows_every_step_its_remaining_share():
    seen = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)
    mask = np.ones((4, 3), bool)
    mask[1] = [False, True, False]
    model = TabularModel(
        np.full((4, 3, 4), 0.25), np.zeros((4, 3)), observation=seen, horizon=5, observes_time=True, action_mask=mask
    )
    space = gym.spaces.Box(-10, 10, (3,))
    normalizer = Normalizer(torch.zeros(3), torch.tensor([1.0, 2.0, 0.1]))
    agent = PPO(space, ACTIONS["discrete"], PPOConfig(**SMALL), normalizer=normalizer, seed=1)
    with torch.no_grad():
        agent.policy.network[-1].weight.mul_(200.0)
    table, best = agent.policy_table(model, deterministic=False), agent.policy_table(model)
    assert table.shape == best.shape == (5, 4, 3)
    for step in range(5):
        shown = model.timed_observation(step)
        assert shown[0, -1] == pytest.approx((5 - step) / 5)
        assert np.allclose(table[step], agent.probabilities(shown, mask=mask))
        assert (best[step].argmax(axis=1) == agent.act(shown, mask=mask, deterministic=True)).all()
    assert abs(table[0] - table[-1]).max() > 0.01, "the policy must be able to depend on the time"
    assert (table[:, 1] == [0.0, 1.0, 0.0]).all()


# Learning


def test_every_row_is_in_one_minibatch_of_every_pass():
    agent = agent_of(minibatches=3)
    batches = agent._batches(10, passes=4)
    assert len(batches) == 12
    for number in range(4):
        assert sorted(torch.cat(batches[3 * number : 3 * number + 3]).tolist()) == list(range(10))
    assert [part.tolist() for part in batches[:3]] != [part.tolist() for part in batches[3:6]], "passes are shuffled"
    assert len(agent._batches(2, passes=1)) == 2, "no more minibatches than rows"


def test_critics_are_fitted_to_their_targets():
    fields = {"hidden_sizes": (32,), "value_epochs": 150, "value_learning_rate": 0.02}
    agent = agent_of(cls=PPOLagrangian, cost_limits=(1.0,), **fields)
    rollout = random_rollout(OBSERVATIONS, ACTIONS["discrete"], 1, steps=4, copies=2)
    target = torch.stack([torch.linspace(-1, 1, 8), torch.linspace(5, 3, 8)], dim=1)
    agent._fit_critics(rollout, target)
    with torch.no_grad():
        found = agent._values(rollout.flat("observation"))
    assert (found - target).square().mean() < 0.02


def test_the_value_loss_is_half_the_squared_error_of_every_signal():
    value, target = torch.tensor([[1.0, 2.0], [3.0, 2.0]]), torch.tensor([[0.0, 2.0], [1.0, 6.0]])
    assert value_loss(value, target).item() == pytest.approx(0.5 * (1 + 4) / 2 + 0.5 * (0 + 16) / 2)


def test_the_entropy_weight_decays_towards_its_final_value():
    agent = agent_of(entropy_weight=0.1, final_entropy_weight=0.02, annealing=0.5)
    weights = []
    for seed in range(3):
        weights.append(agent._entropy_weight())
        agent.update(random_rollout(OBSERVATIONS, ACTIONS["discrete"], seed=seed))
    assert weights == pytest.approx([0.1, 0.06, 0.04])
    assert agent_of(entropy_weight=0.1)._entropy_weight() == 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_more_costs_than_limits_are_left_out(kind):
    """An agent with one limit learns alike from the first cost alone and from two."""
    first, second = (agent_of(kind, cls=PPOLagrangian, cost_limits=(1.0,), seed=1) for _ in range(2))
    rollout = random_rollout(OBSERVATIONS, ACTIONS[kind], 2)
    first.update(rollout)
    second.update(replace(rollout, cost=rollout.cost[..., :1], episode_cost=rollout.episode_cost[..., :1]))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_a_rollout_with_too_few_costs_or_something_else_is_refused():
    agent = agent_of(cls=PPOLagrangian, cost_limits=(1.0, 2.0))
    with pytest.raises(ValueError, match="2 cost limits, the rollout has 1"):
        agent.update(random_rollout(OBSERVATIONS, ACTIONS["discrete"], 1))
    with pytest.raises(ValueError, match="learns from a Rollout, got Transitions"):
        agent.update(random_batch(OBSERVATIONS, actions=ACTIONS["discrete"]))


def test_settings_of_costs_may_be_lists_and_whole_numbers():
    assert PPOLagrangianConfig(cost_limits=[1, 2]) == PPOLagrangianConfig(cost_limits=(1.0, 2.0))
    assert OnPolicyConfig().cost_limits == ()
    with pytest.raises(ValueError, match="PPOConfig"):
        PPO(OBSERVATIONS, ACTIONS["discrete"], DQN.config_class())
