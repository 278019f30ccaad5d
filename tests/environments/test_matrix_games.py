"""Matrix games against plain rules, the course's contract for games, and PettingZoo's own tests."""

from collections.abc import Callable

import numpy as np
import pytest
from pettingzoo.test import parallel_api_test, parallel_seed_test

from ca14lib.environments import (
    MATRIX_GAMES,
    MatrixGame,
    ParallelView,
    game_payoffs,
    mixed_motives,
    multi_agent_environment,
    symmetric_game,
    team_game,
    zero_sum_game,
)


def plain_observation(history: list[list[int]], agent: int, memory: int, count: int, actions: int, left: float):
    """Newest round first; in each round the own action first, then those of the agents that follow."""
    row: list[float] = []
    for back in range(1, memory + 1):
        for offset in range(count):
            one_hot = [0.0] * actions
            if back <= len(history):
                one_hot[history[-back][(agent + offset) % count]] = 1.0
            row += one_hot
    return [*row, left]


def assert_follows_the_rules(make: Callable[..., MatrixGame]) -> None:
    rng = np.random.default_rng(0)
    for agents, actions, memory in ((2, 2, 1), (2, 3, 2), (3, 2, 3), (4, 3, 0)):
        payoffs = rng.normal(size=(agents, *[actions] * agents))
        game = make(2, payoffs=payoffs, horizon=4, memory=memory, team_weight=0.25)
        observation, info = game.reset(seed=0)
        assert info["payoff"].tolist() == [[0.0] * agents] * 2
        histories: list[list[list[int]]] = [[], []]
        for step in range(8):
            action = rng.integers(actions, size=(2, agents))
            observation, reward, terminated, truncated, info = game.step(action)
            shown = info.get("final_obs", observation)
            source = info.get("final_info", info)
            assert terminated.tolist() == [step % 4 == 3] * 2
            assert not truncated.any()
            for copy, history in enumerate(histories):
                history.append(action[copy].tolist())
                paid = payoffs[(slice(None), *action[copy])]
                np.testing.assert_allclose(source["payoff"][copy], paid)
                np.testing.assert_allclose(reward[copy], 0.75 * paid + 0.25 * paid.mean())
                left = (3 - step % 4) / 4
                for agent in range(agents):
                    plain = plain_observation(history, agent, memory, agents, actions, left)
                    assert shown[copy, agent].tolist() == plain
                assert source["state"][copy].tolist() == plain_observation(history, 0, memory, agents, actions, left)
                if step % 4 == 3:
                    history.clear()
        assert (observation[..., :-1] == 0).all()
        assert (observation[..., -1] == 1).all()


def test_rounds_follow_the_payoffs_and_show_the_past():
    assert_follows_the_rules(MatrixGame)


class ForgetsTheTable(MatrixGame):
    def _transition(self, action):
        return super()._transition(action[:, ::-1].copy())


class ShowsEverybodyTheSame(MatrixGame):
    def __init__(self, *arguments, **keywords):
        super().__init__(*arguments, **keywords)
        self._order = np.zeros_like(self._order) + np.arange(self.num_agents)


class KeepsThePast(MatrixGame):
    def _place(self, where, states):
        self._payoff[where] = 0.0


class OldestFirst(MatrixGame):
    def _transition(self, action):
        result = super()._transition(action)
        self._played = np.roll(self._played, -1, axis=1)
        return result


@pytest.mark.parametrize("fault", [ForgetsTheTable, ShowsEverybodyTheSame, KeepsThePast, OldestFirst])
def test_planted_faults_are_caught(fault):
    with pytest.raises(AssertionError):
        assert_follows_the_rules(fault)


@pytest.mark.parametrize("name", MATRIX_GAMES)
def test_named_games_are_what_their_names_say(name):
    payoffs = game_payoffs(name)
    game = MatrixGame(1, game=name)
    np.testing.assert_array_equal(game.payoffs, payoffs)
    assert len(game.action_names) == payoffs.shape[1]
    payoffs[:] = 0
    assert game_payoffs(name).any(), "the table is not to be changed from outside"


def test_dilemmas_are_dilemmas():
    (reward, sucker), (temptation, punishment) = game_payoffs("prisoners_dilemma")[0]
    assert temptation > reward > punishment > sucker
    assert 2 * reward > temptation + sucker
    (both, alone), (tempted, safe) = game_payoffs("stag_hunt")[0]
    assert both > tempted >= safe > alone
    (dove, yields), (wins, fight) = game_payoffs("chicken")[0]
    assert wins > dove > yields > fight


def test_zero_sum_and_team_games_add_up():
    for name in ("matching_pennies", "rock_paper_scissors", "weighted_rock_paper_scissors"):
        assert (game_payoffs(name).sum(axis=0) == 0).all()
    for name in ("climbing", "penalty"):
        np.testing.assert_array_equal(*game_payoffs(name))
    matrix = np.arange(8.0).reshape(2, 2, 2)
    np.testing.assert_allclose(team_game(matrix).sum(axis=0), matrix)
    np.testing.assert_array_equal(zero_sum_game([[1, 2]]), [[[1, 2]], [[-1, -2]]])
    payoffs = symmetric_game([[1, 2], [3, 4]])
    np.testing.assert_array_equal(payoffs[0], payoffs[1].T)


def test_team_weight_keeps_the_sum_and_ends_at_the_mean():
    payoffs = game_payoffs("prisoners_dilemma")
    for weight in (0.0, 0.3, 1.0):
        np.testing.assert_allclose(mixed_motives(payoffs, weight).sum(axis=0), payoffs.sum(axis=0))
    np.testing.assert_array_equal(mixed_motives(payoffs, 0.0), payoffs)
    np.testing.assert_allclose(*mixed_motives(payoffs, 1.0))


@pytest.mark.parametrize("arguments", [
    {}, {"game": "rock_paper_scissors", "horizon": 5, "memory": 3}, {"game": "climbing", "memory": 0},
    {"payoffs": np.random.default_rng(1).normal(size=(3, 2, 2, 2)), "horizon": 2, "team_weight": 0.5},
])  # fmt: skip
def test_pettingzoos_tests_pass(arguments):
    parallel_api_test(ParallelView(MatrixGame(1, **arguments)), num_cycles=50)
    parallel_seed_test(lambda: ParallelView(MatrixGame(1, **arguments)), num_cycles=20)


def test_game_is_made_by_name_and_spawns_its_like():
    game = multi_agent_environment("MatrixGame", 3, game="stag_hunt", horizon=2, memory=2, team_weight=0.5)
    other = game.spawn(5)
    assert other.num_envs == 5
    assert (other.horizon, other.memory, other.team_weight, other.game) == (2, 2, 0.5, "stag_hunt")
    assert other.agent_observation_space == game.agent_observation_space
    observation, info = other.reset(seed=0)
    assert observation.shape == (5, 2, 9)
    assert observation.dtype == info["state"].dtype == np.float32


def test_picture_fills_the_last_actions():
    game = MatrixGame(1, game="rock_paper_scissors", horizon=2, render_mode="rgb_array")
    game.reset(seed=0)
    before = game.render()[0]
    game.step(np.array([[0, 2]]))
    after = game.render()[0]
    assert after.shape == (48, 72, 3)
    changed = (before != after).any(axis=2)
    assert changed[12, 12]
    assert changed[36, 60]
    assert not changed[12, 36]


@pytest.mark.parametrize("arguments, message", [
    ({"game": "poker"}, "unknown matrix game 'poker'; there are prisoners_dilemma"),
    ({"payoffs": np.zeros((2, 2, 3))}, r"same number of actions, got \(2, 3\)"),
    ({"payoffs": np.zeros((2, 2))}, "payoffs must have shape"),
    ({"payoffs": np.zeros((3, 2, 2))}, "payoffs must have shape"),
    ({"payoffs": np.full((2, 2, 2), np.inf)}, "payoffs must be finite, got inf"),
    ({"horizon": 0}, "horizon must be at least 1, got 0"), ({"horizon": None}, "horizon must be an integer, got None"),
    ({"memory": -1}, "memory must be at least 0, got -1"), ({"memory": 1.5}, "memory must be an integer"),
    ({"team_weight": 1.1}, r"team_weight must lie in \[0, 1\], got 1.1"),
    ({"team_weight": np.nan}, "team_weight must lie"), ({"num_envs": 0}, "num_envs must be at least 1"),
])  # fmt: skip
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        MatrixGame(**arguments)


@pytest.mark.parametrize("call, message", [
    (lambda: zero_sum_game([1, 2]), "needs 2 axes"), (lambda: symmetric_game([[1, 2]]), "square"),
    (lambda: team_game([1, 2]), "at least 2 axes"), (lambda: team_game([[np.nan, 1]]), "finite, got nan"),
])  # fmt: skip
def test_bad_tables_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
