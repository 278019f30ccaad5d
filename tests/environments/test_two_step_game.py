"""The two-step game: its payoffs, its best return, the contract of games."""

import itertools

import numpy as np
import pytest
from pettingzoo.test import parallel_api_test, parallel_seed_test

from ca14lib.environments import ParallelView, TwoStepGame, multi_agent_environment


def team_return(game: TwoStepGame, first: tuple[int, int], second: tuple[int, int]) -> float:
    game.reset(seed=0)
    rewards = [game.step(np.array([actions]))[1] for actions in (first, second)]
    return float(sum(reward.sum() for reward in rewards))


def assert_follows_the_paper(make: type[TwoStepGame]) -> None:
    game = make(1)
    joint = list(itertools.product((0, 1), repeat=2))
    for first, second in itertools.product(joint, joint):
        expected = 7.0 if first[0] == 0 else [[0.0, 1.0], [1.0, 8.0]][second[0]][second[1]]
        assert team_return(game, first, second) == expected
    observation, info = game.reset(seed=0)
    assert observation.tolist() == [[[1, 0, 0]] * 2]
    for action, shown in ((0, [0, 1, 0]), (1, [0, 0, 1])):
        game.reset(seed=0)
        observation, reward, terminated, _, info = game.step(np.array([[action, 1 - action]]))
        assert observation.tolist() == [[shown] * 2]
        assert info["state"].tolist() == [shown]
        assert reward.tolist() == [[0, 0]]
        assert not terminated.any()
        observation, reward, terminated, truncated, info = game.step(np.array([[1, 1]]))
        assert reward[0, 0] == reward[0, 1]
        assert terminated.all()
        assert not truncated.any()
        assert info["final_obs"].tolist() == [[[0, 0, 0]] * 2]
        assert info["final_info"]["state"].tolist() == [[0, 0, 0]]
        assert observation.tolist() == [[[1, 0, 0]] * 2]


def test_first_agent_chooses_the_table_and_the_second_step_pays():
    assert_follows_the_paper(TwoStepGame)


class SecondAgentChooses(TwoStepGame):
    def _transition(self, action):
        result = super()._transition(action)
        self._where = np.where(self._where < 3, 1 + action[:, 1], self._where)
        return result


class EverybodyGetsAll(TwoStepGame):
    def _transition(self, action):
        reward, terminated = super()._transition(action)
        return 2 * reward, terminated


class SameStateForBothTables(TwoStepGame):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self._shown[2] = self._shown[1]


class ShowsTheTableAfterTheEnd(TwoStepGame):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self._shown[3] = self._shown[2]


@pytest.mark.parametrize(
    "fault", [SecondAgentChooses, EverybodyGetsAll, SameStateForBothTables, ShowsTheTableAfterTheEnd]
)
def test_planted_faults_are_caught(fault):
    with pytest.raises(AssertionError):
        assert_follows_the_paper(fault)


def test_optimum_is_the_best_of_all_plans():
    game, joint = TwoStepGame(1), list(itertools.product((0, 1), repeat=2))
    assert max(team_return(game, *plan) for plan in itertools.product(joint, joint)) == TwoStepGame.optimum == 8


def test_copies_do_not_mix():
    game = multi_agent_environment("TwoStepGame", 4)
    game.reset(seed=0)
    game.step(np.array([[0, 0], [1, 0], [0, 1], [1, 1]]))
    reward = game.step(np.array([[1, 1], [1, 1], [0, 0], [0, 1]]))[1]
    assert reward.sum(axis=1).tolist() == [7, 8, 7, 1]


def test_pettingzoos_tests_pass():
    parallel_api_test(ParallelView(TwoStepGame(1)), num_cycles=50)
    parallel_seed_test(lambda: ParallelView(TwoStepGame(1)), num_cycles=20)
    assert TwoStepGame(2, render_mode="rgb_array").spawn(3).num_envs == 3


def test_picture_fills_the_last_actions():
    game = TwoStepGame(1, render_mode="rgb_array")
    game.reset(seed=0)
    before = game.render()[0]
    game.step(np.array([[1, 0]]))
    changed = (before != game.render()[0]).any(axis=2)
    assert changed[12, 36]
    assert changed[36, 12]
    assert not changed[12, 12]
