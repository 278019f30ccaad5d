"""A game of one agent: the environment itself, with an axis of one agent and the last action in view."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from ca14lib.agents.multi_agent import IPPO, IPPOConfig
from ca14lib.environments import multi_agent_environment, tabular_model
from ca14lib.evaluation import TeamEvaluation
from ca14lib.solvers import value_iteration
from ca14lib.training import train_multi_agent

GRID = "CA14/SafeGrid-v0"


@pytest.mark.parametrize("environment", [GRID, "CA14/GridWorld-v0", "CA14/SafeCliff-v0", "CA14/Reactor-v0"])
@pytest.mark.parametrize("seed", [0, 7])
def test_it_is_the_environment_itself(environment: str, seed: int) -> None:
    game = multi_agent_environment(f"Solo/{environment}", 5, previous_action=False)
    plain = gym.make_vec(environment, num_envs=5)
    (seen, info), (expected, _) = game.reset(seed=seed), plain.reset(seed=seed)
    plain.action_space.seed(seed)
    for _ in range(130):
        np.testing.assert_array_equal(seen[:, 0], expected.reshape(5, -1).astype(np.float32))
        np.testing.assert_array_equal(info["state"], seen[:, 0])
        action: Any = plain.action_space.sample()
        seen, reward, terminated, truncated, info = game.step(action[:, None])
        expected, *rest, plain_info = plain.step(action)
        for got, wanted in zip((reward[:, 0], terminated, truncated), rest, strict=True):
            np.testing.assert_array_equal(got, wanted)
        if (terminated | truncated).any():
            np.testing.assert_array_equal(info["final_obs"][:, 0], plain_info["final_obs"].astype(np.float32))


def test_the_last_action_is_shown_and_forgotten_at_the_start_of_an_episode() -> None:
    game = multi_agent_environment(f"Solo/{GRID}", 3, horizon=4)
    seen, _ = game.reset(seed=0)
    assert not seen[..., -4:].any()
    for step in range(1, 9):
        action = np.array([[0], [2], [step % 4]])
        seen, _, terminated, _, info = game.step(action)
        np.testing.assert_array_equal(info.get("final_obs", seen)[:, 0, -4:], np.eye(4)[action[:, 0]])
        assert terminated.all() == (step % 4 == 0)
        if terminated.all():
            assert not seen[..., -4:].any()
    continuous = multi_agent_environment("Solo/CA14/Reactor-v0", 2)
    continuous.reset(seed=0)
    space = continuous.single_action_space
    action = np.stack([space.low, space.high]).astype(np.float32)
    np.testing.assert_array_equal(continuous.step(action)[0][:, 0, -action.shape[-1] :], action[:, 0])


def test_spaces_hold_what_is_seen_and_a_copy_has_the_same() -> None:
    for name in (GRID, "CA14/Reactor-v0"):
        game = multi_agent_environment(f"Solo/{name}", 4)
        seen, info = game.reset(seed=1)
        assert game.observation_space.contains(seen)
        assert game.spawn(2).single_observation_space == game.single_observation_space
        assert game.state_space.contains(info["state"][0])


@pytest.mark.parametrize("name", ["CA14/Nothing-v0", "CartPole-v1", "CA14/RiverSwim-v0"])
def test_what_cannot_be_played_alone_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name.split("/")[-1]):
        multi_agent_environment(f"Solo/{name}", 2)


@pytest.mark.learning
def test_a_team_of_one_learns_the_way_to_the_goal() -> None:
    name = "Solo/CA14/GridWorld-v0"
    evaluation = TeamEvaluation(name, 16, deterministic=True)
    config = IPPOConfig(hidden_sizes=(32, 32), recurrent=True, learning_rate=3e-3, value_learning_rate=3e-3)
    agent = IPPO.for_game(evaluation.game, config, seed=0)
    train_multi_agent(agent, name, 20_000, num_envs=32, rollout_steps=25, progress=False)
    assert evaluation(agent)["return"] == pytest.approx(value_iteration(tabular_model(name[5:])).optimal_return)
