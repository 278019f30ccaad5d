"""GustyGrid: simulation against the models, winds in turn, what the observation shows, and what is refused."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from ca14lib.environments.gusty_grid import DOWNDRAFT, PASS, UPDRAFT, WINDS, GustyGrid, GustyGridVector


def test_the_public_checker_passes_in_every_setting():
    for arguments in ({}, {"winds": WINDS}, {"winds": WINDS, "show_wind": True}):
        check_env(GustyGrid(**arguments), skip_render_check=True)


def test_simulated_moves_have_the_probabilities_of_the_wind_that_holds():
    copies = 30_000
    game = GustyGridVector(copies, winds=WINDS)
    models = game.models()
    seen, info = game.reset(seed=1)
    draws = np.random.default_rng(0)
    for step in range(4):
        state, wind, action = game.state_index(seen), info["wind"], draws.integers(4, size=copies)
        seen, reward, terminated, _, info = game.step(action)
        final = info.get("final_obs", seen)
        following = np.where(terminated, game.state_index(final), game.state_index(seen))
        for index, model in enumerate(models):
            for cell in np.unique(state):
                for move in range(4):
                    rows = (wind == index) & (state == cell) & (action == move)
                    if rows.sum() >= 300:
                        share = np.bincount(following[rows], minlength=model.num_states) / rows.sum()
                        chance = model.transition[cell, move]
                        assert (abs(share - chance) <= 5 * np.sqrt(chance * (1 - chance) / rows.sum()) + 1e-9).all()
        del step, reward


def test_winds_come_in_turn_and_hold_for_an_episode():
    game = GustyGridVector(6, winds=WINDS)
    _, info = game.reset(seed=0)
    assert info["wind"].tolist() == [0, 1, 2, 0, 1, 2]
    before = info["wind"]
    for _ in range(PASS.horizon):
        *_, terminated, truncated, info = game.step(np.full(6, 2))
        assert not truncated.any()
        assert (info["wind"] == (before + terminated) % 3).all()
        before = info["wind"]
    assert before.tolist() == [1, 2, 0, 1, 2, 0]


def test_the_wind_is_shown_only_where_it_is_asked_for_and_stands_first():
    plain, shown = GustyGridVector(3, winds=WINDS), GustyGridVector(3, winds=WINDS, show_wind=True)
    hidden, both = plain.reset(seed=0)[0], shown.reset(seed=0)[0]
    np.testing.assert_array_equal(both[:, 3:], hidden)
    np.testing.assert_array_equal(both[:, :3], np.eye(3))
    for index, model in enumerate(shown.models()):
        assert shown.single_observation_space.contains(model.timed_observation(0)[0])
        assert (model.observation[:, index] == 1).all()
    assert (shown.state_index(both) == plain.state_index(hidden)).all()
    assert shown.spawn(2).single_observation_space == shown.single_observation_space


def test_the_calm_model_is_that_of_the_layout_and_a_gust_replaces_the_move():
    calm, up, down = GustyGridVector(1, winds=WINDS).models()
    assert set(np.unique(calm.transition)) == {0.0, 1.0}
    np.testing.assert_allclose(up.transition[:, 0], calm.transition[:, 0])  # an updraft does not disturb who goes up
    np.testing.assert_allclose(
        down.transition[:, 3], 0.8 * calm.transition[:, 3] + DOWNDRAFT.probability * calm.transition[:, 1]
    )
    np.testing.assert_allclose(GustyGridVector(1, winds=(UPDRAFT,)).tabular_model().transition, up.transition)
    assert up.cost.shape == (1, 25, 4, 25)  # of the cell entered


def test_what_makes_no_wind_is_refused():
    for winds, message in (
        ((), "at least one pair"),
        (((1.0, 0),), r"probability of a gust must lie in \[0, 1\), got 1.0"),
        (((0.1, 4),), "direction of a gust must be 0…3"),
    ):
        with pytest.raises(ValueError, match=message):
            GustyGridVector(1, winds=winds)
    with pytest.raises(ValueError, match=r"layout's slip must be 0, got 0\.2"):
        GustyGridVector(1, layout="shore")
    with pytest.raises(ValueError, match=r"3 winds are 3 models; models\(\) gives them"):
        GustyGridVector(1, winds=WINDS).tabular_model()


def test_it_is_registered():
    assert isinstance(gym.make_vec("CA14/GustyGrid-v0", num_envs=2, winds=WINDS), GustyGridVector)
