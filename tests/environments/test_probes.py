"""Each probe has the values that its table promises, by the exact solver and by what its observations tell apart."""

import gymnasium as gym
import numpy as np
import pytest

from ca14lib.environments import ENVIRONMENTS, tabular_model
from ca14lib.solvers import policy_evaluation, value_iteration

DISCOUNT = 0.9
PROBES = [name for name in ENVIRONMENTS if "Probe" in name]
EXPECTED = {
    "CA14/ProbeReward-v0": {0: [1, 1]},
    "CA14/ProbeValue-v0": {0: [-1, -1], 1: [1, 1]},
    "CA14/ProbeDiscount-v0": {0: [DISCOUNT, DISCOUNT], 1: [1, 1]},
    "CA14/ProbeAction-v0": {0: [-1, 1]},
    "CA14/ProbeTruncation-v0": {0: [1 / (1 - DISCOUNT)] * 2},
}


@pytest.mark.parametrize("environment_id", PROBES)
def test_right_values_are_the_documented_ones(environment_id):
    q = value_iteration(tabular_model(environment_id), DISCOUNT).q
    model = tabular_model(environment_id)
    assert set(EXPECTED[environment_id]) == set(np.flatnonzero(~model.terminal))
    for state, values in EXPECTED[environment_id].items():
        np.testing.assert_allclose(q[state], values, atol=1e-9)


def test_every_probe_is_expected_here():
    assert set(PROBES) == set(EXPECTED)


@pytest.mark.parametrize("environment_id", PROBES)
def test_decisions_with_different_values_look_different(environment_id):
    model = tabular_model(environment_id)
    shown = [tuple(model.observation[state]) for state in EXPECTED[environment_id]]
    assert len(set(shown)) == len(shown)


def test_value_probe_shows_its_reward():
    environment = gym.make_vec("CA14/ProbeValue-v0", num_envs=50)
    observation, _ = environment.reset(seed=0)
    assert set(observation.ravel()) == {-1, 1}
    _, reward, terminated, _, _ = environment.step(np.zeros(50, dtype=int))
    np.testing.assert_array_equal(reward, observation.ravel())
    assert terminated.all()


def test_truncation_probe_is_cut_after_every_second_step_and_never_ends():
    environment = gym.make_vec("CA14/ProbeTruncation-v0", num_envs=1)
    environment.reset(seed=0)
    flags = [environment.step(np.zeros(1, dtype=int))[1:4] for _ in range(6)]
    assert [(reward[0], terminated[0], truncated[0]) for reward, terminated, truncated in flags] == [
        (1, False, False),
        (1, False, True),
    ] * 3


def test_cut_taken_for_an_end_would_show_in_the_truncation_probes_values():
    """Averaged over the two equally frequent steps: Q = 1 + γ / 2 · Q."""
    wrong = 1 / (1 - DISCOUNT / 2)
    model = tabular_model("CA14/ProbeTruncation-v0")
    assert policy_evaluation(model, np.full((1, 2), 0.5), DISCOUNT).value[0] > 5 * wrong
