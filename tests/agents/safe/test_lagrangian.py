"""Multipliers: what they do beyond single updates, and how PPO, PPO-Lagrangian, PID and the fixed price are related."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ca14lib.agents import PPO, PPOConfig, check_agent
from ca14lib.agents.safe import (
    FixedPenalty,
    FixedPenaltyConfig,
    PIDLagrangian,
    PIDLagrangianConfig,
    PPOLagrangian,
    PPOLagrangianConfig,
)
from ca14lib.agents.safe.pid_lagrangian import pid_multiplier
from ca14lib.agents.safe.ppo_lagrangian import lagrangian_advantage
from tests.agents.reference import weights
from tests.agents.reference_on_policy import (
    KINDS,
    arm_probabilities,
    bandit_agent,
    bandit_rollout,
    small_agent,
    small_rollout,
)

QUICK = {"hidden_sizes": (16, 16), "epochs": 2, "minibatches": 2}


def paid(action: torch.Tensor) -> torch.Tensor:
    return action.float()


@pytest.mark.parametrize(
    "cls, config",
    [
        (PPOLagrangian, PPOLagrangianConfig(cost_limits=(1.0, 20.0), initial_multiplier=0.5, **QUICK)),
        (PIDLagrangian, PIDLagrangianConfig(cost_limits=(1.0, 20.0), delay=1, max_multiplier=2.0, **QUICK)),
        (FixedPenalty, FixedPenaltyConfig(cost_limits=(1.0, 20.0), penalty=3.0, **QUICK)),
    ],
    ids=["PPOLagrangian", "PIDLagrangian", "FixedPenalty"],
)
def test_two_limits_pass_the_suite_too(cls, config):
    check_agent(cls, config)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cls", [PPOLagrangian, FixedPenalty])
def test_at_price_zero_the_policy_is_that_of_ppo(cls, kind):
    """Bit for bit but for the critics of the costs, which draw no random numbers that PPO would not."""
    free = {"multiplier_learning_rate": 0.0} if cls is PPOLagrangian else {"penalty": 0.0}
    first, second = small_agent(PPO, kind), small_agent(cls, kind, cost_limits=(1.0,), **free)
    second.load_state_dict(first.state_dict(), strict=False)
    rollout = small_rollout(second)
    second.generator.set_state(first.generator.get_state())
    first.update(rollout)
    second.update(rollout)
    for name, value in weights(first, "policy").items():
        torch.testing.assert_close(weights(second)[name], value, rtol=1e-10, atol=1e-10)


def test_each_limit_moves_its_own_multiplier():
    agent = bandit_agent(PPOLagrangian, cost_limits=(0.0, 9.0), multiplier_learning_rate=0.1, initial_multiplier=0.5)
    rollout = bandit_rollout(agent, paid, lambda action: torch.ones(len(action), 2))
    logs = agent.update(rollout)
    assert agent.multiplier.tolist() == pytest.approx([0.6, 0.0])
    assert [logs["multiplier_0"].item(), logs["multiplier_1"].item()] == pytest.approx([0.6, 0.0])
    assert agent.multiplier.tolist() == pytest.approx([0.6, 0.0]), "the log is a copy"


@pytest.mark.parametrize("cls", [PPOLagrangian, PIDLagrangian])
def test_multipliers_stay_under_their_maximum_and_come_down_again(cls):
    agent = bandit_agent(cls, cost_limits=(1.0,), max_multiplier=0.7, multiplier_learning_rate=0.5)
    rollout = bandit_rollout(agent, paid, lambda action: torch.ones(len(action)), 8)
    for _ in range(60):
        agent.update(replace(rollout, episode_cost=torch.full((8, 1), 9.0, dtype=torch.float64)))
        assert agent.multiplier.item() <= 0.7 + 1e-6
    assert agent.multiplier.item() == pytest.approx(0.7)
    for _ in range(90):
        agent.update(replace(rollout, episode_cost=torch.zeros(8, 1, dtype=torch.float64)))
    assert agent.multiplier.item() < 0.1


def test_the_mixed_advantage_is_centred_and_linear_in_the_prices():
    generator = torch.Generator().manual_seed(0)
    advantage, cost = torch.randn(40, generator=generator), torch.rand(40, 2, generator=generator) + 7
    free = lagrangian_advantage(advantage, cost, torch.zeros(2))
    torch.testing.assert_close(free, advantage - advantage.mean())
    mixed = lagrangian_advantage(advantage, cost, torch.tensor([3.0, 1.0]))
    assert mixed.mean().abs() < 1e-5
    torch.testing.assert_close(
        5 * mixed, free - (cost - cost.mean(dim=0)) @ torch.tensor([3.0, 1.0]), rtol=1e-4, atol=1e-5
    )


def test_a_controller_without_proportional_and_derivative_part_is_gradient_ascent():
    """Then its integral is the multiplier of PPO-Lagrangian at the same rate."""
    gains = {"proportional": 0.0, "derivative": 0.0, "integral": 0.05, "initial_multiplier": 0.4}
    pid = bandit_agent(PIDLagrangian, cost_limits=(1.0,), **gains)
    plain = bandit_agent(PPOLagrangian, cost_limits=(1.0,), multiplier_learning_rate=0.05, initial_multiplier=0.4)
    rollout = bandit_rollout(pid, paid, paid, 6)
    for cost in (3.0, 0.0, 0.0, 5.0, 2.0):
        for agent in (pid, plain):
            agent.update(replace(rollout, episode_cost=torch.full((6, 1), cost, dtype=torch.float64)))
        assert pid.multiplier.item() == pytest.approx(plain.multiplier.item(), abs=1e-6)


def test_the_output_of_the_controller_is_never_negative():
    negative, zero = torch.tensor([-5.0]), torch.zeros(1)
    multiplier, integral = pid_multiplier(negative, negative, zero, zero, 1.0, 1.0, 1.0)
    assert multiplier.item() == integral.item() == 0.0


def test_a_first_measurement_gives_no_derivative():
    """Averages that began at 0 would report a rise that nobody measured."""
    agent = bandit_agent(PIDLagrangian, cost_limits=(50.0,), proportional=0.0, integral=0.0, derivative=1.0)
    rollout = bandit_rollout(agent, paid, paid, 6)
    for _ in range(3):
        agent.update(replace(rollout, episode_cost=torch.full((6, 1), 40.0, dtype=torch.float64)))
        assert agent.multiplier.item() == 0.0


@pytest.mark.parametrize("cls", [PPOLagrangian, PIDLagrangian])
def test_the_policy_is_driven_to_its_limit(cls):
    """Arm 1 earns 1 and costs 1, at most 0.3 of it are allowed: the average over the last updates must be near it."""
    gains = {"proportional": 1.0, "integral": 0.1, "smoothing": 0.5}
    fields = gains if cls is PIDLagrangian else {"multiplier_learning_rate": 0.3}
    agent = bandit_agent(cls, cost_limits=(0.3,), learning_rate=0.01, **fields)
    taken = []
    for _ in range(100):
        agent.update(bandit_rollout(agent, paid, paid, 100))
        taken.append(arm_probabilities(agent)[1])
    assert np.mean(taken[-50:]) == pytest.approx(0.3, abs=0.12)


def test_ppo_alone_ignores_costs():
    """Its limits are counted against in the history and change nothing in the policy."""
    first, second = (bandit_agent(PPO, cost_limits=(0.0,)) for _ in range(2))
    rollout = bandit_rollout(first, paid, paid)
    second.generator.set_state(first.generator.get_state())
    first.update(rollout)
    second.update(replace(rollout, episode_cost=100 * rollout.episode_cost))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert PPOConfig().cost_limits == ()


def test_limits_and_multipliers_that_make_no_sense_are_refused_by_name():
    for limits in (25.0, "25"):
        with pytest.raises(ValueError, match="cost_limits must be a tuple with one number for each constraint"):
            PPOLagrangianConfig(cost_limits=limits)
    with pytest.raises(ValueError, match=r"initial_multiplier must be at most 1\.0, its maximum, got 5\.0"):
        PPOLagrangianConfig(initial_multiplier=5.0, max_multiplier=1.0)


@pytest.mark.parametrize("name", ["reward", "cost", "episode_cost"])
def test_a_rollout_with_a_number_that_is_none_is_refused(name):
    agent = small_agent(PPOLagrangian, "discrete", cost_limits=(1.0,))
    rollout = small_rollout(agent)
    wrong = getattr(rollout, name).clone()
    wrong.view(-1)[0] = torch.nan
    with pytest.raises(ValueError, match=f"PPOLagrangian needs a finite {name}"):
        agent.update(replace(rollout, **{name: wrong}))
