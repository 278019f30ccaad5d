"""Exact evaluation against problems small enough for pencil and paper."""

import gymnasium as gym
import numpy as np
import pytest
import torch

from ca14lib.agents import Agent, AgentConfig, ValueAgent
from ca14lib.agents.base import DiscreteAgent
from ca14lib.environments import TabularModel, tabular_model
from ca14lib.evaluation import ExactEvaluation, value_error

STATES, ACTIONS = 3, 2


def corridor(**more) -> TabularModel:
    """State 0: action 0 ends with reward 1, action 1 goes to state 1 at reward 0. State 1: both end, with 4 and 2."""
    transition = np.zeros((STATES, ACTIONS, STATES))
    transition[0, 0, 2] = transition[0, 1, 1] = transition[1, :, 2] = transition[2, :, 2] = 1.0
    reward = np.array([[1.0, 0.0], [4.0, 2.0], [0.0, 0.0]])
    return TabularModel(transition, reward, terminal=[False, False, True], **more)


class Scripted(ValueAgent):
    """Has the values it is told; greedy when deterministic, uniform otherwise."""

    def __init__(self, q):
        self.q = torch.tensor(q, dtype=torch.float32)
        super().__init__(gym.spaces.Discrete(len(q)), gym.spaces.Discrete(len(q[0])))

    def _build(self):
        pass

    def _q_values(self, observation):
        return self.q[observation]

    def _scores(self, observation):
        return self.q[observation]

    def _probabilities(self, scores):
        allowed = scores.isfinite().double()
        return allowed / allowed.sum(dim=-1, keepdim=True)


class Valueless(DiscreteAgent):
    """Always takes action 1 and values nothing."""

    def _build(self):
        pass

    def _scores(self, observation):
        return torch.tensor([0.0, 1.0]).expand(len(observation), 2)


WAITS = [[0.0, 9.0], [9.0, 0.0], [100.0, 100.0]]
GRABS = [[9.0, 0.0], [0.0, 9.0], [100.0, 100.0]]


def test_return_and_share_are_those_of_the_greedy_policy():
    evaluation = ExactEvaluation(corridor())
    uniform = 0.5 * 1 + 0.5 * 3
    assert evaluation.reference == pytest.approx(uniform)
    assert evaluation.optimum == pytest.approx(4.0)
    best, worst = evaluation(Scripted(WAITS)), evaluation(Scripted(GRABS))
    assert (best["return"], best["share"]) == pytest.approx((4.0, 1.0))
    assert (worst["return"], worst["share"]) == pytest.approx((1.0, (1 - uniform) / (4 - uniform)))


def test_discount_and_horizon_are_those_asked_for():
    assert ExactEvaluation(corridor(), discount=0.1)(Scripted(WAITS))["return"] == pytest.approx(0.4)
    one_step = ExactEvaluation(corridor(), horizon=1)
    assert one_step(Scripted(WAITS))["return"] == 0.0
    assert one_step.optimum == 1.0
    assert ExactEvaluation(corridor(horizon=1)).optimum == 1.0
    assert ExactEvaluation(corridor(horizon=1), horizon=2).optimum == 4.0


def test_the_stochastic_policy_is_evaluated_on_request():
    evaluation = ExactEvaluation(corridor(), deterministic=False)
    assert evaluation(Scripted(WAITS))["share"] == pytest.approx(0.0)


def test_reference_and_optimum_may_be_given():
    evaluation = ExactEvaluation(corridor(), reference=3.0, optimum=5.0)
    assert evaluation(Scripted(WAITS))["share"] == pytest.approx(0.5)


def test_the_largest_value_leaves_terminal_states_out():
    assert ExactEvaluation(corridor())(Scripted(WAITS))["max_q"] == 9.0


def test_a_forbidden_action_is_neither_taken_nor_counted():
    model = corridor(action_mask=[[True, True], [False, True], [True, True]])
    result = ExactEvaluation(model)(Scripted([[0.0, 3.0], [9.0, 1.0], [0.0, 0.0]]))
    assert (result["return"], result["share"]) == (2.0, 1.0)
    assert result["max_q"] == 3.0


def test_an_agent_without_values_has_no_largest_value():
    agent = Valueless(gym.spaces.Discrete(STATES), gym.spaces.Discrete(ACTIONS), AgentConfig())
    assert ExactEvaluation(corridor())(agent) == {"return": 2.0, "share": 0.0}


def test_a_policy_that_never_ends_returns_minus_infinity_or_the_loss_within_the_horizon():
    grid = tabular_model("CA14/GridWorld-v0")
    left = np.eye(4)[np.full(grid.num_states, 2)]
    assert ExactEvaluation(grid).of_policy(left)["return"] == -np.inf
    limited = ExactEvaluation(grid, horizon=50).of_policy(left)
    assert limited["return"] == pytest.approx(-5.0)
    assert limited["share"] < 0


def test_an_agent_without_discrete_actions_is_refused():
    with pytest.raises(ValueError, match="discrete"):
        ExactEvaluation(corridor())(Agent.__new__(Agent))


def test_a_problem_where_nothing_can_be_gained_is_refused():
    idle = TabularModel(corridor().transition, np.zeros((STATES, ACTIONS)), terminal=[False, False, True])
    with pytest.raises(ValueError, match="optimum"):
        ExactEvaluation(idle)(Scripted(WAITS))


def test_value_error_is_q_minus_the_true_value_of_the_greedy_policy():
    """Greedy waits: Q(0, ·) = (1, 4γ), Q(1, ·) = (4, 2)."""
    error = value_error(Scripted(WAITS), corridor(), discount=0.5)
    assert error[:2] == pytest.approx(np.array([[0 - 1.0, 9 - 2.0], [9 - 4.0, 0 - 2.0]]))


def test_value_error_of_the_true_values_is_zero():
    q = [[1.0, 2.0], [4.0, 2.0], [0.0, 0.0]]
    assert value_error(Scripted(q), corridor(), discount=0.5) == pytest.approx(np.zeros((STATES, ACTIONS)))


def test_value_error_follows_the_agents_own_policy_not_the_optimal_one():
    """Greedy at state 1 takes the worse action, so waiting is worth 2γ, not 4γ."""
    error = value_error(Scripted([[0.0, 9.0], [0.0, 9.0], [0.0, 0.0]]), corridor(), discount=0.5)
    assert error[0, 1] == pytest.approx(9 - 0.5 * 2)


def test_value_error_refuses_a_model_with_a_horizon():
    """There the true value of a pair depends on the time left, and one number a pair cannot be compared with it."""
    with pytest.raises(ValueError, match="horizon"):
        value_error(Scripted(WAITS), corridor(horizon=7), discount=0.5)
