"""Exact evaluation of a return's distribution: the agent is asked with just the observations that it would see."""

import gymnasium as gym
import numpy as np
import pytest

from ca14lib.agents.on_policy import OnPolicyAgent
from ca14lib.agents.ppo import PPO, PPOConfig
from ca14lib.data import Normalizer
from ca14lib.environments import SafeCliffVector
from ca14lib.evaluation.risk import RiskEvaluation
from ca14lib.metrics.risk import return_conditional_value_at_risk
from ca14lib.solvers import cvar_optimum

TAIL, AIM = 0.1, 9.0


@pytest.fixture(scope="module")
def optimum():
    return cvar_optimum(SafeCliffVector(1).tabular_model(), TAIL)


class Planner:
    """Reads state, step and remaining budget off its observations, and does what the exact optimum does."""

    def __init__(self, optimum, environment):
        self.optimum, self.environment = optimum, environment

    def probabilities(self, observation, *, mask=None, deterministic=False):
        if not len(observation):  # all episodes have ended
            return np.zeros((0, 4))
        assert all(row in self.environment.single_observation_space for row in observation)
        state, (share, left) = self.environment.state_index(observation), observation[:, -2:].T
        step = 25 - np.rint(share * 25).astype(int)
        assert (step == step[0]).all()
        return np.eye(4)[self.optimum.policy.act(int(step[0]), state, left * 10)]


@pytest.mark.parametrize("one_hot", [False, True])
def test_exact_optimum_as_an_agent_has_the_optimal_tail(optimum, one_hot):
    environment = SafeCliffVector(1, observe_budget=AIM, one_hot=one_hot)
    evaluation = RiskEvaluation(environment.tabular_model(), TAIL, budget=AIM)
    scores = evaluation(Planner(optimum, environment))
    assert scores["exact_cvar"] == pytest.approx(optimum.value, abs=1e-9)
    assert scores["exact_return"] == pytest.approx(optimum.expected_return, abs=1e-9)
    assert scores["cvar_share"] == pytest.approx(1, abs=1e-9)


def test_agent_told_another_budget_does_worse(optimum):
    environment = SafeCliffVector(1, observe_budget=AIM)
    wrong = RiskEvaluation(environment.tabular_model(), TAIL, budget=AIM + 11, optimum=optimum.value)
    assert wrong(Planner(optimum, environment))["cvar_share"] < 0.99


def agent(environment: SafeCliffVector, seed: int = 0) -> OnPolicyAgent:
    space = environment.single_observation_space
    return PPO(space, environment.single_action_space, PPOConfig(hidden_sizes=(8,)), seed=seed)


@pytest.mark.parametrize("budget", [None, AIM])
@pytest.mark.parametrize("one_hot", [False, True])
def test_exact_numbers_are_those_of_simulated_episodes(budget, one_hot, optimum):
    environment = SafeCliffVector(4_000, observe_budget=budget, one_hot=one_hot, wind=0.2)
    learner = agent(environment)
    with_gradient = learner.policy.network[-1].weight  # far from uniform, and so sensitive to what it sees
    with_gradient.data *= 30
    observation, _ = environment.reset(seed=1)
    returns, alive = np.zeros(4_000), np.ones(4_000, dtype=bool)
    for _ in range(25):
        observation, reward, terminated, _, _ = environment.step(learner.act(observation))
        returns += reward * alive
        alive &= ~terminated
    evaluation = RiskEvaluation(
        environment.tabular_model(), TAIL, budget=budget, deterministic=False, optimum=optimum.value
    )
    scores = evaluation(learner)
    assert scores["exact_return"] == pytest.approx(returns.mean(), abs=4 * returns.std() / 4_000**0.5)
    simulated = return_conditional_value_at_risk(returns, TAIL)
    assert scores["exact_cvar"] == pytest.approx(simulated, abs=8 * returns.std() / 400**0.5)


def test_bad_arguments_are_named():
    model = SafeCliffVector(1).tabular_model()
    with pytest.raises(ValueError, match=r"tail must lie in \(0, 1\], got 0"):
        RiskEvaluation(model, 0.0)
    box = gym.spaces.Box(-1.0, 1.0, (1,))
    continuous = PPO(SafeCliffVector(1).single_observation_space, box, PPOConfig(hidden_sizes=(8,)))
    with pytest.raises(ValueError, match="only discrete actions"):
        RiskEvaluation(model, 0.1, optimum=1.0)(continuous)
    with pytest.raises(ValueError, match="discrete actions, got Normalizer"):
        RiskEvaluation(model, 0.1, optimum=1.0).policy(Normalizer(np.zeros(3), np.ones(3)))
