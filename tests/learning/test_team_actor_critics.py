"""Teams with central critics on small games whose optima are known."""

import numpy as np
import pytest

from ca14lib.agents.multi_agent.coma import COMA, COMAConfig
from ca14lib.agents.multi_agent.maac import MAAC, MAACConfig
from ca14lib.agents.multi_agent.maddpg import MADDPG, MADDPGConfig
from ca14lib.environments import multi_agent_environment
from ca14lib.training import train_multi_agent
from tests import small_games

pytestmark = pytest.mark.learning
small_games.register()

QUICK = {"hidden_sizes": (32, 32), "discount": 0.9}
TEAMS = {
    "MADDPG, own actions": (MADDPG, MADDPGConfig(**QUICK, learning_rate=3e-3)),
    "MADDPG, all actions": (MADDPG, MADDPGConfig(**QUICK, learning_rate=3e-3, actor_actions="all")),
    "MAAC, drawn": (MAAC, MAACConfig(**QUICK, learning_rate=3e-3)),
    "MAAC, summed": (MAAC, MAACConfig(**QUICK, learning_rate=3e-3, own_actions="summed")),
    "COMA": (COMA, COMAConfig(**QUICK, learning_rate=1e-2, value_learning_rate=3e-3)),
    "COMA without a central critic": (
        COMA,
        COMAConfig(**QUICK, learning_rate=1e-2, value_learning_rate=3e-3, central=False),
    ),
    "COMA with memory": (COMA, COMAConfig(**QUICK, learning_rate=1e-2, value_learning_rate=3e-3, recurrent=True)),
}


def greedy_return(agent, game, seed=100):
    """Mean return of the team over the first episode of every copy, best actions."""
    observation, info = game.reset(seed=seed)
    total, running, memory = np.zeros(game.num_envs), np.ones(game.num_envs, bool), agent.initial_memory(game.num_envs)
    while running.any():
        action = agent.act(observation, memory, mask=info.get("action_mask"), deterministic=True)
        if memory is not None:
            action, memory = action
        observation, reward, terminated, truncated, info = game.step(action)
        total += running * reward.sum(axis=1)
        running &= ~(terminated | truncated)
    return total.mean()


def trained(cls, config, name, steps, seed, **loop):
    agent = cls.for_game(multi_agent_environment(name, 1), config, seed=seed)
    train_multi_agent(agent, name, steps, seed=seed, progress=False, **loop)
    return agent


# Seed 0. With others COMA sometimes keeps one of the three signals wrong for good: who is right alone gains nothing.
@pytest.mark.parametrize("name", TEAMS)
def test_teams_learn_to_meet(name):
    cls, config = TEAMS[name]
    if cls is COMA:
        agent = trained(cls, config, "MeetingGame", 24_000, 0, num_envs=64, rollout_steps=8)
    else:
        loop = {"num_envs": 16, "rollout_steps": 4, "start_steps": 500, "updates": 2, "batch_size": 128}
        agent = trained(cls, config, "MeetingGame", 12_000, 0, **loop)
    assert greedy_return(agent, multi_agent_environment("MeetingGame", 256)) >= 0.9 * 8


@pytest.mark.parametrize("actor_actions", ["own", "all"])
def test_continuous_actors_learn_to_approach_each_other(actor_actions):
    config = MADDPGConfig(**QUICK, learning_rate=3e-3, actor_actions=actor_actions)
    loop = {"num_envs": 16, "rollout_steps": 4, "start_steps": 500, "updates": 2, "batch_size": 128}
    agent = trained(MADDPG, config, "RendezvousGame", 12_000, 0, **loop)
    game = multi_agent_environment("RendezvousGame", 512)
    game.reset(seed=100)
    apart = np.abs(game.place[:, 0] - game.place[:, 1])
    # both walk towards each other by 1 a step: what remains of the distance after each of 5 steps, lost by both
    optimum = -2 * sum(np.maximum(apart - 2 * step, 0).mean() for step in range(1, 6))
    standing_still = -2 * 5 * apart.mean()
    share = (greedy_return(agent, game) - standing_still) / (optimum - standing_still)
    assert 0.9 <= share <= 1 + 1e-6
