"""Episodes of teams as frames, animations and strips."""

import io

import numpy as np
import pytest
from matplotlib import pyplot as plt
from PIL import Image

from ca14lib.environments import TargetGrid
from ca14lib.environments.target_grid import TARGET
from ca14lib.plotting import episode_strip, team_animation, team_frames
from ca14lib.solvers import assigned_policy


def game(**arguments) -> TargetGrid:
    return TargetGrid(1, render_mode="rgb_array", **arguments)


def wanderer():
    rng = np.random.default_rng(0)
    return lambda observation, info: rng.integers(5, size=observation.shape[:2])


def test_frames_are_of_the_start_and_of_every_step_and_end_where_the_episode_does():
    team = game()
    frames = team_frames(team, assigned_policy(team), seed=3)
    team.reset(seed=3)
    np.testing.assert_array_equal(frames[0], team.render()[0])
    targets = [(frame == TARGET).all(axis=2).sum() for frame in frames]
    assert targets[-1] == 0 < targets[-2] <= targets[0]


def test_frames_of_an_unfinished_episode_stop_at_the_time_limit():
    assert len(team_frames(game(time_limit=7), lambda observation, info: np.zeros((1, 4), int))) == 8


def test_frames_begin_at_given_starts():
    team = game(num_agents=1, num_targets=1)
    frames = team_frames(team, assigned_policy(team), options={"agents": [(0, 0)], "targets": [(0, 3)]})
    assert len(frames) == 4


@pytest.mark.parametrize(
    ("team", "message"),
    [(TargetGrid(1), "render_mode='rgb_array', got None"), (TargetGrid(2, render_mode="rgb_array"), "num_envs=2")],
)
def test_a_game_that_cannot_be_shown_is_refused(team, message):
    with pytest.raises(ValueError, match=message):
        team_frames(team, wanderer())


def test_longest_episode_of_many_agents_makes_an_animation_under_300_kilobytes(tmp_path):
    frames = team_frames(game(num_agents=8, num_targets=40), wanderer(), seed=1)
    path = tmp_path / "team.gif"
    animation = team_animation(frames, path)
    assert len(frames) > 75
    assert path.read_bytes() == animation
    assert len(animation) < 300_000
    with Image.open(io.BytesIO(animation)) as image:
        assert image.format == "GIF"
        assert image.n_frames > 70  # frames in which nothing moves are merged


def test_animation_is_made_smaller_until_it_fits():
    frames = team_frames(game(time_limit=15), wanderer(), seed=1)
    whole = team_animation(frames)
    small = team_animation(frames, largest=len(whole))
    assert len(small) < len(whole)
    with Image.open(io.BytesIO(small)) as image:
        assert image.size == (160, 160)


def test_animation_that_cannot_fit_is_refused():
    frames = team_frames(game(time_limit=15), wanderer(), seed=1)
    with pytest.raises(ValueError, match=f"{len(frames)} frames do not fit into 1000 bytes"):
        team_animation(frames, largest=1000)


def test_strip_shows_start_and_end_with_their_steps():
    frames = [np.full((20, 20, 3), level, dtype=np.uint8) for level in range(9)]
    figure = episode_strip(frames, 3)
    assert [axis.get_title() for axis in figure.axes] == ["step 0", "step 4", "step 8"]
    assert [int(axis.images[0].get_array()[0, 0, 0]) for axis in figure.axes] == [0, 4, 8]
    plt.close(figure)
    figure = episode_strip(frames[:2], 5)
    assert len(figure.axes) == 2
    plt.close(figure)


def test_strip_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one frame and one still, got 0 and 4"):
        episode_strip([])
