"""Pictures show the grid with y pointing up, and a trajectory makes a small animation."""

import io

import gymnasium as gym
import numpy as np
import pytest
from PIL import Image

from ca14lib.environments import GridEnvironment, GridWorldVector, RiverSwim
from ca14lib.environments.grid import AGENT, GOAL, TILE, WALL
from ca14lib.plotting import gif, trajectory_frames

UP, DOWN, LEFT, RIGHT = range(4)


def centre_of(frame: np.ndarray, colour: tuple[int, int, int]) -> tuple[float, float]:
    """Column and row of the middle of a colour."""
    rows, columns = np.nonzero((frame == colour).all(axis=2))
    return columns.mean(), rows.mean()


@pytest.fixture
def grid_world():
    return gym.make("CA14/GridWorld-v0", render_mode="rgb_array")


@pytest.mark.parametrize("size", [2, 5, 8])
def test_frame_is_an_rgb_picture_of_the_grids_size(size):
    environment = gym.make("CA14/GridWorld-v0", size=size, render_mode="rgb_array")
    environment.reset(seed=0)
    frame = environment.render()
    assert frame.shape == (size * TILE + 1, size * TILE + 1, 3)
    assert frame.dtype == np.uint8


def test_agent_moves_the_way_its_action_says(grid_world):
    grid_world.reset(seed=0)
    place = centre_of(grid_world.render(), AGENT)
    for action, (dx, dy) in [(UP, (0, -1)), (RIGHT, (1, 0)), (DOWN, (0, 1)), (LEFT, (-1, 0)), (LEFT, (0, 0))]:
        grid_world.step(action)
        following = centre_of(grid_world.render(), AGENT)
        assert following == pytest.approx((place[0] + dx * TILE, place[1] + dy * TILE), abs=0.01)
        place = following


def test_start_is_lower_left_and_goal_upper_right(grid_world):
    grid_world.reset(seed=0)
    frame = grid_world.render()
    assert centre_of(frame, AGENT) == pytest.approx((0.5 * TILE, 4.5 * TILE), abs=1)
    assert centre_of(frame, GOAL) == pytest.approx((4.5 * TILE, 0.5 * TILE), abs=1)


def test_frame_shows_the_last_state_before_a_single_environment_is_reset(grid_world):
    grid_world.reset(seed=0)
    for action in [RIGHT] * 4 + [UP] * 4:
        grid_world.step(action)
    assert centre_of(grid_world.render(), AGENT) == pytest.approx((4.5 * TILE, 0.5 * TILE), abs=1)


def test_walls_are_drawn_where_they_stand():
    grid = GridEnvironment(
        1,
        width=3,
        height=2,
        start=(0, 0),
        goal=(2, 0),
        step_reward=0,
        goal_reward=1,
        walls=[(1, 1)],
        time_limit=None,
        render_mode="rgb_array",
    )
    grid.reset(seed=0)
    (frame,) = grid.render()
    assert frame.shape == (2 * TILE + 1, 3 * TILE + 1, 3)
    assert centre_of(frame, WALL) == pytest.approx((1.5 * TILE, 0.5 * TILE), abs=1)


def test_batch_gives_one_frame_per_copy():
    environment = GridWorldVector(3, render_mode="rgb_array")
    environment.reset(seed=0)
    environment.step(np.array([UP, RIGHT, DOWN]))
    frames = environment.render()
    assert len(frames) == 3
    columns, rows = np.array([centre_of(frame, AGENT) for frame in frames]).T
    assert columns[1] - columns[0] == pytest.approx(TILE)
    assert rows[2] - rows[0] == pytest.approx(TILE)


def test_river_frame_follows_the_swimmer():
    environment = RiverSwim(render_mode="rgb_array")
    observation, _ = environment.reset(seed=0)
    frame = environment.render()
    assert frame.shape == (TILE + 1, 6 * TILE + 1, 3)
    assert centre_of(frame, AGENT)[0] == pytest.approx((observation + 0.5) * TILE, abs=1)


def test_without_render_mode_there_is_no_frame():
    environment = gym.make("CA14/GridWorld-v0").unwrapped
    environment.reset(seed=0)
    assert environment.render() is None


def test_frame_before_the_first_reset_is_refused():
    with pytest.raises(gym.error.ResetNeeded):
        GridWorldVector(1, render_mode="rgb_array").render()


def test_trajectory_holds_the_start_and_one_frame_per_action_until_the_end(grid_world):
    frames = trajectory_frames(grid_world, [RIGHT] * 4 + [UP] * 4 + [DOWN] * 10)
    assert len(frames) == 9
    assert centre_of(frames[0], AGENT) == pytest.approx((0.5 * TILE, 4.5 * TILE), abs=1)
    assert centre_of(frames[-1], AGENT) == pytest.approx((4.5 * TILE, 0.5 * TILE), abs=1)


def test_trajectory_needs_a_render_mode():
    with pytest.raises(ValueError, match="render_mode='rgb_array', got None"):
        trajectory_frames(gym.make("CA14/GridWorld-v0"), [UP])


def test_longest_trajectory_makes_an_animation_under_300_kilobytes(grid_world):
    actions = ([UP] * 4 + [RIGHT] * 3 + [DOWN] * 4 + [LEFT] * 3) * 4
    frames = trajectory_frames(grid_world, actions)
    assert len(frames) == 51
    animation = gif(frames, frames_per_second=4)
    assert len(animation) < 300_000
    with Image.open(io.BytesIO(animation)) as image:
        assert (image.format, image.is_animated, image.n_frames) == ("GIF", True, 51)
        assert image.info["loop"] == 0
        assert image.info["duration"] == 250
        assert image.size == (201, 201)
        for number in (0, 7, 50):
            image.seek(number)
            shown = np.asarray(image.convert("RGB")).astype(int)
            assert abs(shown - frames[number]).max() <= 8


def test_animation_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one frame"):
        gif([])
