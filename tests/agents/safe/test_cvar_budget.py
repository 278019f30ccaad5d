"""The CVaR agent with a budget: its utility is the dual form of the tail's mean, and the faults in it are noticed."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ca14lib.agents.safe import CVaRPolicyGradient, CVaRPolicyGradientConfig
from ca14lib.agents.safe.cvar_policy_gradient import lower_tail, shortfall_utility
from ca14lib.environments import SafeCliffVector
from ca14lib.metrics.risk import return_conditional_value_at_risk

RETURNS = st.lists(st.integers(-30, 20), min_size=1, max_size=40)


def assert_best_budget_gives_the_tail(utility, returns: list[int], tail: float) -> None:
    """Over all budgets, b + E[u] / tail is at most the mean of the tail, and the best budget attains it."""
    values = torch.tensor(returns, dtype=torch.float64)
    budgets = np.arange(min(returns) - 3.0, max(returns) + 3.5, 0.5)
    dual = [b + float(utility(values, b).mean()) / tail for b in budgets]
    assert max(dual) == pytest.approx(return_conditional_value_at_risk(values.numpy(), tail), abs=1e-8)


@given(RETURNS, st.floats(0.02, 1.0))
def test_best_budget_gives_the_tail(returns, tail):
    assert_best_budget_gives_the_tail(shortfall_utility, returns, tail)


@pytest.mark.parametrize(
    "fault",
    [
        lambda returns, budget: (budget - returns).clamp(min=0.0),
        lambda returns, budget: (returns - budget).clamp(min=0.0),
        lambda returns, budget: returns - budget,
        lambda returns, budget: (returns + budget).clamp(max=0.0),
        lambda returns, budget: returns * (returns <= budget),
    ],
    ids=["descends", "excess", "no tail", "sign of the budget", "budget not subtracted"],
)
def test_a_wrong_shortfall_is_noticed(fault):
    with pytest.raises(AssertionError):
        assert_best_budget_gives_the_tail(fault, [-4, 3, 7, 7, 10], 0.4)


@given(RETURNS, st.floats(0.02, 1.0))
def test_at_the_samples_quantile_both_forms_agree(returns, tail):
    values = torch.tensor(returns, dtype=torch.float64)
    quantile, utility = lower_tail(values, tail)
    torch.testing.assert_close(shortfall_utility(values, float(quantile)), tail * utility)


def small_agent(**settings) -> CVaRPolicyGradient:
    environment = SafeCliffVector(1, observe_budget=9)
    config = CVaRPolicyGradientConfig(hidden_sizes=(4,), **settings)
    return CVaRPolicyGradient(environment.single_observation_space, environment.single_action_space, config)


def test_agent_climbs_the_shortfall_in_units_of_the_return_whatever_the_tail():
    returns = torch.tensor([-4.0, 5.0, 9.0, 14.0])
    for settings in ({"tail": 0.1}, {"tail": 1.0}, {"tail": 0.5, "anneal_updates": 0}):
        utility, logs = small_agent(budget=9.0, **settings)._utility(returns, torch.zeros(4, 0))
        torch.testing.assert_close(utility, torch.tensor([-13.0, -4.0, 0.0, 0.0]))
    assert logs["cvar"].item() == pytest.approx(0.5), "of the sample, whatever the budget"


def test_tail_of_costs_is_priced_in_the_same_unit():
    """With a price of 2 on the tail of the cost, whose quantile is 2: u = −(9 − R)₊ − 2 (C − 2)₊."""
    agent = small_agent(budget=9.0, tail=0.5, anneal_updates=0, cost_limits=(0.0,), multiplier_learning_rate=0.0)
    agent.multiplier += 2.0
    utility, _ = agent._utility(torch.tensor([5.0, 9.0, 9.0, 9.0]), torch.tensor([[0.0], [1.0], [2.0], [6.0]]))
    torch.testing.assert_close(utility, torch.tensor([-4.0, 0.0, 0.0, -8.0]))


@pytest.mark.parametrize("budget", [float("nan"), float("inf")])
def test_budget_has_to_be_a_number(budget):
    with pytest.raises(ValueError, match="budget must be a finite number or None, got"):
        CVaRPolicyGradientConfig(budget=budget)
