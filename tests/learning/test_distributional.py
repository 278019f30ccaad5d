"""Distributional agents on SafeCliff and CartPole: choice by CVaR has the better tail, and knows it."""

import functools

import pytest
import torch

from ca14lib.agents.robust.qr_dqn import QRDQN, QRDQNConfig
from ca14lib.evaluation import RolloutEvaluation
from ca14lib.experiments.robust.distributional import distributional_run
from ca14lib.training import train_off_policy
from ca14lib.training.vector import vector_environment

pytestmark = [pytest.mark.learning, pytest.mark.slow]

BEST_MEAN, TAIL_OF_THE_BEST_MEAN, TAIL_OF_THE_DETOUR = 11.75, 2.8597, 4.9291


@functools.cache
def result(agent: str, choice: str, updates: int) -> dict[str, float]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return distributional_run(agent, choice, 0, updates=updates)
    finally:
        torch.set_num_threads(threads)


def test_choice_by_cvar_goes_round_and_has_the_better_tail():
    averse = result("C51", "cvar", 3_000)
    assert averse["cvar"] == pytest.approx(TAIL_OF_THE_DETOUR, abs=1e-3)
    assert averse["return"] < BEST_MEAN - 1


@pytest.mark.verify
@pytest.mark.parametrize("agent", ["QRDQN", "IQN", "C51"])
def test_choice_by_the_mean_takes_the_ledge(agent):
    neutral = result(agent, "mean", 6_000)
    assert neutral["return"] > BEST_MEAN - 0.5
    assert neutral["cvar"] < TAIL_OF_THE_DETOUR - 1


@pytest.mark.verify
def test_the_tail_that_an_agent_expects_is_that_of_its_policy():
    averse = result("C51", "cvar", 6_000)
    assert abs(averse["learned_cvar"] - averse["cvar"]) < 1
    assert averse["wasserstein"] < 0.3


@pytest.mark.verify
def test_qr_dqn_balances_the_pole():
    vector = vector_environment("CartPole-v1", 1)
    config = QRDQNConfig(hidden_sizes=(64, 64), learning_rate=1e-3, target_rate=0.02, num_quantiles=50)
    agent = QRDQN(vector.single_observation_space, vector.single_action_space, config, seed=0)
    train_off_policy(
        agent, "CartPole-v1", 20_000, num_envs=8, updates_per_step=0.25, batch_size=64, seed=0, progress=False
    )
    assert RolloutEvaluation("CartPole-v1", 50)(agent)["return"] > 150
