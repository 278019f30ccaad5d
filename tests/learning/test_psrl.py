"""Exploration that works beside exploration that does not: RiverSwim by exact regret, the deep sea by exact return."""

import numpy as np
import pytest

from ca14lib.experiments.robust.regret import FOUND, SEA_AGENTS, river_regret, sea_training
from ca14lib.metrics.regret import regret_exponent

pytestmark = pytest.mark.learning


def test_posterior_sampling_stops_paying_where_epsilon_greedy_goes_on():
    """6,000 steps, seeds 100 and 101: sublinear, and at most a third of the regret of ε-greedy."""
    for seed in (100, 101):
        sampling, greedy = (river_regret(agent, seed, 300) for agent in ("PSRL", "ε-greedy"))
        assert regret_exponent(sampling["step"], sampling["regret"]) < 0.5
        assert 3 * sampling["regret"].iloc[-1] < greedy["regret"].iloc[-1]


@pytest.mark.parametrize("seed", [100])
def test_a_head_for_a_whole_episode_finds_the_treasure_that_epsilon_greedy_does_not(seed):
    """DeepSea of size 10, 200 episodes: chance finds it once in 1,024, and less once moving right is known to cost."""
    _, heads = sea_training("BootstrappedDQN", seed, episodes=200)
    _, dithering = sea_training("DQN, ε = 0.05", seed, episodes=200)
    found = heads.series("episode_return").to_numpy() > FOUND
    assert found[-50:].mean() > 0.3
    assert not (dithering.series("episode_return").to_numpy() > FOUND).any()
    assert dithering.last("return") < 0.01
    assert heads.last("return") > 0.98


def test_the_agents_in_the_deep_sea_differ_in_nothing_but_exploration():
    shared = ("hidden_sizes", "learning_rate", "discount", "target_rate")
    settings = {tuple(getattr(config, name) for name in shared) for _, config in SEA_AGENTS.values()}
    assert len(settings) == 1
    assert np.isfinite(FOUND)
