"""DeepSea against its rules in plain Python, its optimum, and how rarely chance finds the treasure."""

import numpy as np
import pytest

from ca14lib.environments import DeepSea, DeepSeaVector, deep_sea_model, uniform_policy
from ca14lib.environments.deep_sea import right_actions
from ca14lib.solvers import policy_return, value_iteration


@pytest.mark.parametrize("size, layout", [(2, 0), (5, 3), (10, 0)])
def test_the_optimum_dives_right_all_the_way(size, layout):
    model = deep_sea_model(size, layout)
    solution = value_iteration(model)
    assert solution.optimal_return == pytest.approx(0.99)
    right = DeepSeaVector(1, size=size, layout_seed=layout).behaviours()["right"]
    assert policy_return(model, right) == pytest.approx(0.99)
    way = [size * row + row for row in range(size)]
    assert (solution.policy[way].argmax(axis=1) == right[way].argmax(axis=1)).all()


@pytest.mark.parametrize("size", [3, 8])
def test_chance_finds_the_treasure_once_in_two_to_the_size(size):
    """Each of the size steps costs 0.01 / size with probability one half, and all right pays 1."""
    model = deep_sea_model(size)
    assert policy_return(model, uniform_policy(model)) == pytest.approx(2.0**-size - 0.005)


def test_greed_without_the_treasure_swims_left():
    """The best return of those that never see the treasure is 0, and only moving left has it."""
    size = 6
    model = deep_sea_model(size)
    left = 1 - right_actions(size, 0).ravel()
    assert policy_return(model, np.eye(2)[np.append(left, 0)]) == 0.0


def test_simulation_follows_the_rules():
    size, rng = 5, np.random.default_rng(0)
    environment, right = DeepSea(size=size, layout_seed=2), right_actions(5, 2)
    for episode in range(20):
        state, _ = environment.reset(seed=episode)
        assert state == 0
        row = column = 0
        for step in range(size):
            action = int(rng.integers(2))
            goes_right = action == right[row, column]
            expected = (-0.01 / size if goes_right else 0.0) + float(goes_right and row == column == size - 1)
            state, reward, terminated, truncated, _ = environment.step(action)
            assert reward == pytest.approx(expected)
            assert not truncated
            assert terminated == (step == size - 1)
            row, column = row + 1, min(column + 1, size - 1) if goes_right else max(column - 1, 0)
            assert state == (size * size if terminated else size * row + column)


def test_the_layout_is_drawn_from_its_seed():
    assert (right_actions(8, 1) == right_actions(8, 1)).all()
    assert (right_actions(8, 1) != right_actions(8, 2)).any()
    assert DeepSeaVector(1, size=4, layout_seed=5).spawn(3).layout_seed == 5


def test_pictures_and_bad_input():
    environment = DeepSea(size=3, render_mode="rgb_array")
    environment.reset(seed=0)
    assert environment.render().shape == (121, 121, 3)
    for parameters, message in (({"size": 1}, "size must be at least 2"), ({"layout_seed": -1}, "layout_seed")):
        with pytest.raises(ValueError, match=message):
            DeepSea(**parameters)
