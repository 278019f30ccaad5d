"""RiverSwim has the published currents and rewards."""

import numpy as np
import pytest

from ca14lib.environments import RiverSwimVector, river_swim_model

LEFT, RIGHT = 0, 1


@pytest.mark.parametrize("length", [3, 6, 9])
def test_currents_rewards_and_starts_are_the_published_ones(length):
    model = river_swim_model(length)
    last = length - 1
    for state in range(length):
        left = {max(state - 1, 0): 1.0}
        if state == 0:
            right = {0: 0.4, 1: 0.6}
        elif state == last:
            right = {last - 1: 0.4, last: 0.6}
        else:
            right = {state - 1: 0.05, state: 0.6, state + 1: 0.35}
        for action, expected in ((LEFT, left), (RIGHT, right)):
            assert {t: p for t, p in enumerate(model.transition[state, action]) if p} == pytest.approx(expected)
    expected = np.zeros((length, 2))
    expected[0, LEFT], expected[last, RIGHT] = 0.005, 1
    np.testing.assert_array_equal(model.expected_reward, expected)
    assert model.initial[1] == model.initial[2] == 0.5
    assert not model.terminal.any()
    assert model.horizon is None


def test_limit_cuts_the_endless_river_after_20_steps():
    environment = RiverSwimVector(4)
    environment.reset(seed=0)
    flags = [environment.step(np.ones(4, dtype=int))[2:4] for _ in range(40)]
    assert not any(terminated.any() for terminated, _ in flags)
    assert [bool(truncated.all()) for _, truncated in flags] == ([False] * 19 + [True]) * 2


def test_behaviour_right_always_swims_right():
    assert RiverSwimVector(1, length=4).behaviours()["right"].tolist() == [[0, 1]] * 4
