"""Policy gradients of the Lagrangian and of risk: directions, tails, budgets of cost, and what is refused."""

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ca14lib.agents import check_agent
from ca14lib.agents.safe import (
    CVaRPolicyGradient,
    CVaRPolicyGradientConfig,
    RiskSensitiveConfig,
    RiskSensitivePolicyGradient,
    SafePolicyGradient,
    SafePolicyGradientConfig,
)
from ca14lib.agents.safe.cvar_policy_gradient import lower_tail, upper_tail
from ca14lib.metrics import conditional_value_at_risk, return_conditional_value_at_risk, return_value_at_risk
from ca14lib.metrics.risk import RISK_MEASURES
from tests.agents.reference import weights
from tests.agents.reference_on_policy import arm_probabilities, bandit_agent, bandit_rollout, small_agent, small_rollout

QUICK = {"hidden_sizes": (16, 16), "epochs": 2, "minibatches": 2}


def paid(action: torch.Tensor) -> torch.Tensor:
    return action.double()


@pytest.mark.parametrize(
    "cls, config",
    [
        (SafePolicyGradient, SafePolicyGradientConfig(cost_limits=(1.0, 20.0), entropy_weight=0.1, hidden_sizes=(16,))),
        (CVaRPolicyGradient, CVaRPolicyGradientConfig(cost_limits=(1.0, 20.0), tail=0.5, anneal_updates=2, **QUICK)),
        (RiskSensitivePolicyGradient, RiskSensitiveConfig(measure="entropic_risk", parameter=0.5, **QUICK)),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_other_settings_pass_the_suite_too(cls, config):
    check_agent(cls, config)


# The Lagrangian


def test_at_rate_zero_the_multiplier_is_a_fixed_price():
    agent = bandit_agent(SafePolicyGradient, cost_limits=(0.0,), initial_multiplier=0.7, multiplier_learning_rate=0.0)
    for _ in range(3):
        logs = agent.update(bandit_rollout(agent, paid, paid))
        assert agent.multiplier.item() == pytest.approx(0.7)
        assert logs["multiplier_0"].item() == pytest.approx(0.7)


@pytest.mark.parametrize("price, rises", [(0.5, True), (2.0, False)])
def test_one_step_goes_the_way_of_reward_minus_price_times_cost(price, rises):
    agent = bandit_agent(SafePolicyGradient, initial_multiplier=price, multiplier_learning_rate=0.0, learning_rate=0.01)
    before = arm_probabilities(agent)[1]
    agent.update(bandit_rollout(agent, paid, paid))
    assert (arm_probabilities(agent)[1] > before) == rises


def test_a_rollout_is_one_step_of_the_policy():
    agent = small_agent(SafePolicyGradient, "discrete", cost_limits=(1.0,))
    agent.update(small_rollout(agent))
    steps = [state["step"].item() for state in agent.policy_optimizer.state.values()]
    assert set(steps) == {1.0}


# Tails


@given(
    values=st.lists(st.integers(-20, 20), min_size=1, max_size=30),
    tail=st.one_of(st.floats(0.01, 1.0), st.sampled_from([0.05, 0.07, 0.1, 0.25, 0.29, 0.5, 1.0])),
)
def test_tails_of_returns_and_costs_are_those_of_the_risk_metrics(values, tail):
    sample = np.array(values, dtype=np.float64)
    quantile, utility = lower_tail(torch.as_tensor(sample), tail)
    assert (quantile + utility.mean()).item() == pytest.approx(return_conditional_value_at_risk(sample, tail), abs=1e-9)
    assert quantile.item() <= return_value_at_risk(sample, tail)
    assert (utility[sample > quantile.item()] == 0).all()
    quantile, excess = upper_tail(torch.as_tensor(sample), tail)
    assert (quantile + excess.mean()).item() == pytest.approx(conditional_value_at_risk(sample, 1 - tail), abs=1e-9)
    assert (excess[sample < quantile.item()] == 0).all()


def test_the_tail_of_everything_is_the_mean():
    returns = torch.tensor([1.0, 5.0, 3.0])
    quantile, utility = lower_tail(returns, 1.0)
    assert (quantile + utility).tolist() == returns.tolist()


@pytest.mark.parametrize(
    "tail, count, rank", [(0.07, 100, 7), (0.29, 100, 29), (0.1, 30, 3), (0.1, 31, 4), (0.01, 5, 1)]
)
def test_the_quantile_is_the_least_return_that_the_tails_mass_does_not_exceed(tail, count, rank):
    assert lower_tail(torch.arange(count, dtype=torch.float32).flip(0), tail)[0].item() == rank - 1


def test_a_tail_that_never_anneals_starts_at_its_share():
    config = CVaRPolicyGradientConfig(tail=0.3, anneal_updates=0)
    agent = CVaRPolicyGradient(gym.spaces.Discrete(1), gym.spaces.Discrete(2), config)
    assert agent.tail() == pytest.approx(0.3)


def test_a_limit_on_the_tail_of_the_cost_turns_down_an_arm_that_is_seldom_dear():
    """Arm 1 costs 10 in every tenth case: 1 on average, within the limit of 2, but 10 in the worst tenth."""
    found = {}
    for tail in (1.0, 0.1):
        generator = torch.Generator().manual_seed(0)

        def cost(action: torch.Tensor, draws: torch.Generator = generator) -> torch.Tensor:
            dear = torch.rand(action.shape, generator=draws) < 0.1
            return torch.where((action == 1) & dear, 10.0, 0.0)

        agent = bandit_agent(
            CVaRPolicyGradient, cost_limits=(2.0,), tail=tail, anneal_updates=0, learning_rate=0.02,
            multiplier_learning_rate=0.5,
        )  # fmt: skip
        for _ in range(15):
            logs = agent.update(bandit_rollout(agent, paid, cost, 300))
        found[tail] = arm_probabilities(agent)[1]
        assert logs["cost_cvar_0"].isfinite()
    assert found[1.0] > 0.8
    assert found[0.1] < 0.4


def test_episodes_are_summed_without_discount_up_to_their_end():
    agent = small_agent(CVaRPolicyGradient, "discrete", tail=1.0, cost_limits=(1.0,))
    rollout = small_rollout(agent)
    sums, paid_sums = [], []
    for n in range(3):
        ends = [t for t in range(7) if rollout.terminated[t, n] or rollout.truncated[t, n]]
        sums.append(float(rollout.reward[: ends[0] + 1, n].sum()))
        paid_sums.append(float(rollout.cost[: ends[0] + 1, n, 0].sum()))
    logs = agent.update(rollout)
    assert logs["cvar"].item() == pytest.approx(np.mean(sums))
    assert logs["cost_cvar_0"].item() == pytest.approx(np.mean(paid_sums))
    risk = small_agent(RiskSensitivePolicyGradient, "discrete", measure="mean_variance_risk", parameter=0.5)
    logs = risk.update(rollout)
    assert logs["risk"].item() == pytest.approx(-np.mean(sums) + 0.5 * np.var(sums))


@pytest.mark.parametrize("cls", [CVaRPolicyGradient, RiskSensitivePolicyGradient])
def test_rewards_at_other_steps_of_an_episode_count_the_same(cls):
    """Only the sum counts: the reward of an episode may come early or late."""
    first, second = (small_agent(cls, "discrete", tail=0.5, anneal_updates=0) for _ in range(2))
    rollout = small_rollout(first)
    steps, _ = rollout.first_episodes()
    shifted = torch.zeros_like(rollout.reward)
    shifted[0] = (rollout.reward * steps).sum(dim=0)
    first.update(rollout)
    second.update(replace(rollout, reward=shifted))
    for name, value in weights(first).items():
        torch.testing.assert_close(value, weights(second)[name], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("cls", [CVaRPolicyGradient, RiskSensitivePolicyGradient])
def test_episodes_that_did_not_end_are_counted_in_the_complaint(cls):
    agent = small_agent(cls, "discrete")
    rollout = small_rollout(agent)
    endless = torch.zeros_like(rollout.terminated)
    before = weights(agent)
    with pytest.raises(ValueError, match="3 of 3 did not end within the 7 steps"):
        agent.update(replace(rollout, terminated=endless, truncated=endless))
    assert all(torch.equal(value, weights(agent)[name]) for name, value in before.items())


# Other measures


@pytest.mark.parametrize(
    "measure, parameter", [("mean", 0.0), ("value_at_risk", 0.8), ("conditional_value_at_risk", 0.0),
                           ("entropic_risk", 0.3), ("mean_variance_risk", 0.0)],
)  # fmt: skip
def test_every_measure_is_learned_with(measure, parameter):
    agent = bandit_agent(RiskSensitivePolicyGradient, measure=measure, parameter=parameter)
    rollout = bandit_rollout(agent, lambda action: torch.randn(len(action), generator=torch.Generator().manual_seed(0)))
    logs = agent.update(rollout)
    wanted = RISK_MEASURES[measure](-rollout.reward[0].numpy(), parameter)
    assert logs["risk"].item() == pytest.approx(wanted, abs=1e-6)
    assert all(value.isfinite().all() for value in agent.state_dict().values())


@pytest.mark.parametrize(
    "measure, parameter",
    [
        ("value_at_risk", 0.0), ("value_at_risk", 1.0), ("conditional_value_at_risk", 1.0),
        ("conditional_value_at_risk", -0.1), ("entropic_risk", 0.0), ("mean_variance_risk", -1.0),
        ("entropic_risk", float("inf")),
    ],
)  # fmt: skip
def test_a_parameter_that_the_measure_has_no_gradient_at_is_refused_at_once(measure, parameter):
    with pytest.raises(ValueError, match=f"parameter must be as {measure} needs it"):
        RiskSensitiveConfig(measure=measure, parameter=parameter)
