"""Driving: the two costs are highway-env's crash and a speed above the limit, in every interface."""

import sys

import gymnasium as gym
import numpy as np
import pytest

from ca14lib.environments import DrivingCost, driving_environment
from ca14lib.training import vector_environment

pytest.importorskip("highway_env")
ID = "CA14/SafeDriving-v0"
LEFT, KEEP, RIGHT, FASTER, SLOWER = range(5)


class Scripted(gym.Env):
    observation_space = gym.spaces.Box(-1, 1, (1,))
    action_space = gym.spaces.Discrete(5)

    def __init__(self, steps: list[tuple[float, bool]]) -> None:
        self.steps = steps

    def reset(self, *, seed=None, options=None):
        self.left = list(self.steps)
        return np.zeros(1, np.float32), {"speed": 99.0, "crashed": False, "action": None, "rewards": {}}

    def step(self, action):
        speed, crashed = self.left.pop(0)
        info = {"speed": np.float64(speed), "crashed": crashed, "action": action, "rewards": {"collision": 0.0}}
        return np.zeros(1, np.float32), np.float64(0.5), crashed, False, info


STEPS = [(20.0, False), (25.0, False), (np.nextafter(25.0, 26), False), (30.0, False), (30.0, True), (20.0, True)]


def assert_costs_are_crash_and_speeding(wrapper: type[DrivingCost]) -> None:
    environment = wrapper(Scripted(STEPS), 25.0)
    _, info = environment.reset(seed=0)
    assert info["cost"].tolist() == [0, 0]
    for speed, crashed in STEPS:
        *_, terminated, _, info = environment.step(KEEP)
        assert info["cost"].tolist() == [crashed, speed > 25]
        assert info["cost"].dtype == np.float64
        assert terminated == crashed


def test_costs_are_crash_and_speeding():
    assert_costs_are_crash_and_speeding(DrivingCost)


def faulty(judge):
    class Faulty(DrivingCost):
        def step(self, action):
            *rest, info = super().step(action)
            return *rest, info | {"cost": np.array(judge(info, self.speed_limit), dtype=np.float64)}

    return Faulty


FAULTS = {
    "costs exchanged": lambda info, limit: [info["speed"] > limit, info["crashed"]],
    "at the limit": lambda info, limit: [info["crashed"], info["speed"] >= limit],
    "no crash while speeding": lambda info, limit: [info["crashed"] and info["speed"] <= limit, info["speed"] > limit],
    "the excess": lambda info, limit: [info["crashed"], max(info["speed"] - limit, 0.0)],
}


@pytest.mark.parametrize("fault", FAULTS)
def test_check_of_the_costs_notices_the_fault(fault):
    with pytest.raises(AssertionError):
        assert_costs_are_crash_and_speeding(faulty(FAULTS[fault]))


def test_simulation_is_highway_envs_own():
    ours = gym.make(ID)
    theirs = gym.make("highway-fast-v0", config={"vehicles_count": 12, "duration": 20})
    np.testing.assert_array_equal(ours.reset(seed=3)[0], theirs.reset(seed=3)[0])
    for action in [FASTER, KEEP, FASTER, SLOWER, LEFT, KEEP, RIGHT, FASTER]:
        first, second = ours.step(action), theirs.step(action)
        np.testing.assert_array_equal(first[0], second[0])
        assert first[1:4] == second[1:4]
        assert first[4]["cost"].tolist() == [second[4]["crashed"], second[4]["speed"] > 25]
        if first[2]:
            break


def test_slow_drivers_pay_nothing_and_fast_ones_do():
    paid = {}
    for action in (SLOWER, FASTER):
        environment = gym.make(ID, config={"vehicles_count": 0})
        environment.reset(seed=0)
        paid[action] = sum(environment.step(action)[4]["cost"] for _ in range(10)).tolist()
    assert paid[SLOWER][1] <= 1  # the first second is still above 25 m/s
    assert paid[FASTER][1] >= 9
    assert paid[SLOWER][0] == paid[FASTER][0] == 0


def test_duration_truncates_and_a_crash_terminates():
    environment = gym.make(ID, config={"vehicles_count": 0})
    environment.reset(seed=0)
    flags = [environment.step(KEEP)[2:4] for _ in range(20)]
    assert flags == [(False, False)] * 19 + [(False, True)]


def test_vector_environment_reports_costs_per_copy_and_the_last_of_an_episode():
    vector = vector_environment(ID, 3)
    _, info = vector.reset(seed=0)
    assert info["cost"].shape == (3, 2)
    rng, crashes = np.random.default_rng(0), 0
    for _ in range(45):
        *_, terminated, truncated, info = vector.step(rng.integers(5, size=3))
        ended = terminated | truncated
        assert info["cost"].shape == (3, 2)
        if ended.any():
            last = info["final_info"]["cost"]
            assert last.shape == (3, 2)
            np.testing.assert_array_equal(last[ended, 0], terminated[ended])
            assert (info["cost"][ended] == 0).all()
            crashes += terminated.sum()
    assert crashes > 0
    vector.close()


def test_missing_highway_env_is_named_with_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "highway_env", None)
    with pytest.raises(ImportError, match=r"pip install 'ca14lib\[applications\]'"):
        gym.make(ID)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"speed_limit": 0.0}, r"speed_limit must be a positive speed in m/s, got 0\.0"),
        ({"speed_limit": float("nan")}, "speed_limit .* nan"),
        ({"source": "parking-v0"}, "source must be .* got 'parking-v0'"),
    ],
)
def test_bad_parameter_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        driving_environment(**arguments)
