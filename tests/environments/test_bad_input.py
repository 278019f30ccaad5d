"""Wrong ids, names, parameters and actions raise errors that name the value, and change nothing."""

import gymnasium as gym
import numpy as np
import pytest

from ca14lib.environments import (
    GridEnvironment,
    GridWorld,
    GridWorldVector,
    RiverSwim,
    RiverSwimVector,
    batched_environment,
    behaviour_policy,
    tabular_model,
)

PROBE = "CA14/ProbeReward-v0"


@pytest.mark.parametrize(
    "function", [tabular_model, batched_environment, lambda name: behaviour_policy(name, "random")]
)
@pytest.mark.parametrize("name", ["CA14/GridWorld-v9", "GridWorld", ""])
def test_unknown_id_is_named_with_the_known_ones(function, name):
    with pytest.raises(ValueError, match=r"(?s)unknown environment id .*CA14/RiverSwim-v0") as raised:
        function(name)
    assert repr(name) in str(raised.value)


def test_environment_of_another_course_is_named():
    for environment in ("CartPole-v1", gym.make("CartPole-v1")):
        with pytest.raises(ValueError, match="environment of this course, got CartPoleEnv"):
            tabular_model(environment)


@pytest.mark.parametrize(
    ("environment", "known"),
    [("CA14/GridWorld-v0", "expert, mixed, random"), ("CA14/RiverSwim-v0", "right"), (PROBE, "random")],
)
def test_unknown_behaviour_is_named_with_the_known_ones(environment, known):
    with pytest.raises(ValueError, match=f"unknown behaviour 'genius'.*{known}"):
        behaviour_policy(environment, "genius")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GridWorld(size=1), "size must be at least 2, got 1"),
        (lambda: GridWorld(size=-3), "size must be at least 2, got -3"),
        (lambda: GridWorld(size=2.5), r"size .*2\.5"),
        (lambda: GridWorld(size="5"), "size .*'5'"),
        (lambda: GridWorld(time_limit=0), "time_limit .* must be at least 1, got 0"),
        (lambda: GridWorld(time_limit=-1), "time_limit .* got -1"),
        (lambda: GridWorld(time_limit=2.5), r"time_limit .*2\.5"),
        (lambda: GridWorldVector(0), "num_envs must be at least 1, got 0"),
        (lambda: GridWorldVector(-2), "num_envs .* got -2"),
        (lambda: GridWorldVector(2.5), r"num_envs .*2\.5"),
        (lambda: GridWorld(render_mode="human"), "render_mode .*'human'"),
        (lambda: RiverSwim(length=2), "length must be at least 3, got 2"),
        (lambda: RiverSwimVector(1, render_mode="ansi"), "render_mode .*'ansi'"),
        (lambda: gym.make(PROBE, render_mode="rgb_array").unwrapped, "rgb_array"),
    ],
)
def test_bad_parameter_is_named(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()


GRID = {"width": 3, "height": 3, "start": (0, 0), "goal": (2, 2), "step_reward": 0, "goal_reward": 1, "time_limit": 9}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"width": 0}, "at least two cells, got 0 × 3"),
        ({"width": 1, "height": 1}, "at least two cells"),
        ({"start": (3, 0)}, r"start must lie on the 3 × 3 grid, got \(3, 0\)"),
        ({"goal": (0, -1)}, r"goal .*\(0, -1\)"),
        ({"walls": [(1, 5)]}, r"walls .*\(1, 5\)"),
        ({"goal": (0, 0)}, "must be different cells"),
        ({"walls": [(2, 2)]}, "must be different cells"),
    ],
)
def test_bad_grid_is_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        GridEnvironment(1, **GRID | changed)


@pytest.mark.parametrize(
    ("actions", "error", "message"),
    [
        (np.zeros(3, dtype=int), ValueError, r"shape \(2,\), got \(3,\)"),
        (np.zeros((2, 1), dtype=int), ValueError, r"shape \(2,\), got \(2, 1\)"),
        (0, ValueError, r"shape \(2,\), got \(\)"),
        (np.array([0.0, 1.0]), TypeError, "float64"),
        (np.array([True, False]), TypeError, "bool"),
        (np.array(["0", "1"]), TypeError, "dtype"),
        (np.array([0, 4]), ValueError, r"0…3, got 4"),
        (np.array([-1, 0]), ValueError, r"0…3, got -1"),
        (np.array([0, -1], dtype=np.int8), ValueError, r"0…3, got -1"),
        (np.array([0, 2**40]), ValueError, f"got {2**40}"),
        (np.array([0, 2**63], dtype=np.uint64), ValueError, f"got {2**63}"),
    ],
)
def test_bad_actions_are_named_and_leave_the_batch_as_it_was(actions, error, message):
    environment = GridWorldVector(2, time_limit=2)
    environment.reset(seed=0)
    environment.step(np.array([0, 3]))
    with pytest.raises(error, match=message):
        environment.step(actions)
    observation, _, _, truncated, info = environment.step(np.array([0, 3]))
    assert info["final_obs"].tolist() == [[0, 2], [2, 0]]
    assert truncated.all()
    assert observation.tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("action", "error", "message"),
    [
        (4, ValueError, r"0…3, got 4"),
        (-1, ValueError, r"0…3, got -1"),
        (1.5, TypeError, "float64"),
        ([0, 1], ValueError, r"shape \(2,\)"),
        (None, (TypeError, ValueError), "object|None"),
    ],
)
def test_bad_single_action_is_named_and_leaves_the_environment_as_it_was(action, error, message):
    environment = GridWorld(time_limit=2)
    environment.reset(seed=0)
    environment.step(0)
    with pytest.raises(error, match=message):
        environment.step(action)
    observation, _, _, truncated, _ = environment.step(3)
    assert (observation.tolist(), truncated) == ([1, 1], True)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64, np.uint64])
def test_every_integer_type_is_an_action(dtype):
    environment = GridWorldVector(2)
    environment.reset(seed=0)
    observation, *_ = environment.step(np.array([0, 3], dtype=dtype))
    assert observation.tolist() == [[0, 1], [1, 0]]
