"""LeverGame: payoffs, labels that hide conventions from the second player, and what is refused."""

import numpy as np
import pytest
from pettingzoo.test import parallel_api_test

from ca14lib.environments import multi_agent_environment
from ca14lib.environments.lever_game import LeverGame
from ca14lib.environments.multi_agent import ParallelView


def pulled(observation: np.ndarray, seat: int) -> np.ndarray:
    """Levers of the last round as a seat saw them, ``[N, 2]``, own first."""
    return observation[:, seat, :-1].reshape(len(observation), 2, -1).argmax(axis=2)


@pytest.mark.parametrize("relabelled", [False, True])
def test_the_public_suite_passes(relabelled):
    parallel_api_test(ParallelView(LeverGame(1, relabelled=relabelled)), num_cycles=20)


def test_the_same_lever_pays_the_team_and_two_different_ones_pay_nothing():
    game = LeverGame(4)
    game.reset(seed=0)
    _, reward, *_ = game.step(np.array([[0, 0], [3, 3], [0, 1], [3, 2]]))
    np.testing.assert_allclose(reward.sum(axis=1), [1.0, 0.9, 0.0, 0.0])
    np.testing.assert_allclose(reward[:, 0], reward[:, 1])


def test_the_second_player_sees_its_own_labels_and_the_first_the_true_ones():
    game, copies = LeverGame(300, relabelled=True), np.arange(300)
    game.reset(seed=0)
    action = np.random.default_rng(0).integers(4, size=(300, 2))
    seen, reward, *_ = game.step(action)
    lever = game._lever
    true = np.column_stack([action[:, 0], lever[copies, action[:, 1]]])
    np.testing.assert_array_equal(pulled(seen, 0), true)
    theirs = pulled(seen, 1)
    np.testing.assert_array_equal(theirs[:, 0], action[:, 1])
    np.testing.assert_array_equal(lever[copies, theirs[:, 1]], action[:, 0])
    same = true[:, 0] == true[:, 1]
    assert ((reward.sum(axis=1) > 0) == same).all()


def test_labels_change_among_levers_that_pay_the_same_only_and_only_between_episodes():
    game = LeverGame(3_000, relabelled=True, horizon=2)
    game.reset(seed=0)
    first = game._lever.copy()
    assert (first[:, 3] == 3).all()
    for label in range(3):
        share = np.bincount(first[:, label], minlength=4)[:3] / 3_000
        assert abs(share - 1 / 3).max() < 0.05
    back = np.take_along_axis(game._label, game._lever, axis=1)
    np.testing.assert_array_equal(back, np.tile(np.arange(4), (3_000, 1)))
    game.step(np.zeros((3_000, 2), dtype=int))
    assert (game._lever == first).all()
    game.step(np.zeros((3_000, 2), dtype=int))
    assert (game._lever != first).any()


def test_without_labels_both_see_the_same_round_each_its_own_action_first():
    game = LeverGame(1)
    game.reset(seed=0)
    seen, *_ = game.step(np.array([[2, 1]]))
    assert pulled(seen, 0)[0].tolist() == [2, 1]
    assert pulled(seen, 1)[0].tolist() == [1, 2]


def test_it_is_known_by_name_and_refuses_what_is_no_lever():
    game = multi_agent_environment("LeverGame", 2, levers=(1.0, 0.5), horizon=3)
    assert game.spawn(5).levers == (1.0, 0.5)
    with pytest.raises(ValueError, match="at least two numbers"):
        LeverGame(1, levers=(1.0,))
    with pytest.raises(ValueError, match="finite numbers of at least 0"):
        LeverGame(1, levers=(1.0, -1.0))
