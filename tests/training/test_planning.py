"""The loop of planners: what is logged is exact and belongs to the policy that was followed."""

import gymnasium as gym
import numpy as np
import pytest

from ca14lib.agents.robust.planner import Planner, PlannerConfig
from ca14lib.agents.robust.psrl import PSRL, PSRLConfig
from ca14lib.environments import deep_sea_model, river_swim_model
from ca14lib.solvers import policy_return, value_iteration
from ca14lib.training.planning import exact_returns, train_planner

STATES, ACTIONS = gym.spaces.Discrete(6), gym.spaces.Discrete(2)
RIVER = "CA14/RiverSwim-v0"


class Fixed(Planner):
    """Follows one policy for ever and remembers what it saw."""

    table = np.full((20, 6, 2), 0.5)

    def _plan(self):
        return self.table

    def _learn(self, state, action, reward, following):
        self.seen = [*getattr(self, "seen", []), (state, action, reward, following)]


def test_what_is_logged_is_the_exact_return_of_the_policy_followed():
    agent = PSRL(STATES, ACTIONS, seed=1)
    tables, healthy = [], agent._plan
    agent._plan = lambda: tables.append(healthy()) or tables[-1]
    history = train_planner(agent, RIVER, 5, seed=1, progress=False)
    expected = [policy_return(river_swim_model(), table, 1.0, 20) for table in tables]
    assert len(tables) == 5, "one plan per episode"
    assert exact_returns(history).tolist() == pytest.approx(expected)
    assert history.series("exact_return").index.tolist() == [20, 40, 60, 80, 100]


def test_received_returns_average_to_the_exact_one():
    agent = Fixed(STATES, ACTIONS)
    agent.table = np.tile(np.eye(2)[1], (20, 6, 1))
    history = train_planner(agent, RIVER, 300, progress=False)
    received = history.series("episode_return").to_numpy()
    error = 4 * received.std() / np.sqrt(300)
    assert abs(received.mean() - exact_returns(history)[0]) < error
    assert exact_returns(history)[0] <= value_iteration(river_swim_model(), 1.0, 20).optimal_return


def test_steps_are_handed_over_with_what_was_seen_before_the_reset():
    agent = Fixed(STATES, ACTIONS)
    train_planner(agent, RIVER, 50, progress=False)
    possible = river_swim_model().transition
    assert len(agent.seen) == 1_000
    assert all(possible[state, action, following] > 0 for state, action, _, following in agent.seen)
    chained = [before[3] == after[0] for before, after in zip(agent.seen, agent.seen[1:], strict=False)]
    assert all(chained[step] for step in range(999) if (step + 1) % 20)


def test_the_same_seed_gives_the_same_run_and_true_ends_are_learned():
    first, second = (
        train_planner(PSRL(STATES, ACTIONS, seed=2), RIVER, 8, seed=3, log_every=4, progress=False) for _ in range(2)
    )
    assert first == second
    assert len(exact_returns(first)) == 2
    agent = PSRL(gym.spaces.Discrete(17), ACTIONS, PSRLConfig(horizon=6), seed=0)
    history = train_planner(agent, "CA14/DeepSea-v0", 60, environment_arguments={"size": 4}, progress=False)
    assert agent.terminal.nonzero()[0].tolist() == [16]
    assert exact_returns(history)[-1] == pytest.approx(value_iteration(deep_sea_model(4)).optimal_return)


@pytest.mark.parametrize(
    "states, horizon, episodes, arguments, message",
    [
        (6, 20, 0, {}, "episodes and log_every must be at least 1"),
        (5, 20, 1, {}, "observation_space"),
        (6, 10, 1, {}, "has 20 steps, the planner's horizon is 10"),
        (6, 10, 1, {"time_limit": None}, "any number of"),
        (6, 30, 1, {}, "has 20 steps, the planner's horizon is 30"),
    ],
)
def test_bad_input_is_refused(states, horizon, episodes, arguments, message):
    agent = PSRL(gym.spaces.Discrete(states), ACTIONS, PSRLConfig(horizon=horizon))
    with pytest.raises(ValueError, match=message):
        train_planner(agent, RIVER, episodes, environment_arguments=arguments, progress=False)
    assert PlannerConfig().horizon == 20


def test_an_episode_that_outlasts_the_horizon_is_refused():
    agent = PSRL(gym.spaces.Discrete(17), ACTIONS, PSRLConfig(horizon=3))
    with pytest.raises(ValueError, match="longer than the planner's horizon of 3"):
        train_planner(agent, "CA14/DeepSea-v0", 1, environment_arguments={"size": 4}, progress=False)
