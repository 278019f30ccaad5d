"""Velocity tasks: the published limits, the simulator's own rewards, and costs that arrive in every interface."""

import gymnasium as gym
import numpy as np
import pytest

from ca14lib.environments import VELOCITY_LIMITS, VelocityCost, velocity_environment
from ca14lib.training import collect, vector_environment

TASKS = ["Hopper", "HalfCheetah", "Swimmer"]
every_task = pytest.mark.parametrize("task", TASKS)


def test_limits_are_the_published_ones():
    assert VELOCITY_LIMITS == {"Hopper": 0.7402, "HalfCheetah": 3.2096, "Swimmer": 0.2282}


class Scripted(gym.Env):
    """Moves at given velocities."""

    observation_space = gym.spaces.Box(-1, 1, (1,))
    action_space = gym.spaces.Box(-1, 1, (1,))

    def __init__(self, infos: list[dict]) -> None:
        self.infos = infos

    def reset(self, *, seed=None, options=None):
        self.left = list(self.infos)
        return np.zeros(1, np.float32), {"x_position": 0.0}

    def step(self, action):
        return np.zeros(1, np.float32), np.float32(1.5), False, False, self.left.pop(0)


VELOCITIES = [0.0, 0.3, np.nextafter(0.5, 0), 0.5, np.nextafter(0.5, 1), 0.7, -0.9, -0.5]


def assert_cost_is_forward_speed_above_the_limit(wrapper: type[VelocityCost]) -> None:
    """Strictly above, forward only, along x only."""
    infos = [{"x_velocity": np.float64(v), "y_velocity": np.float64(0.6)} for v in VELOCITIES]
    environment = wrapper(Scripted(infos), 0.5)
    _, info = environment.reset(seed=0)
    assert info == {"x_position": 0.0, "cost": 0.0}
    for velocity in VELOCITIES:
        _, reward, _, _, info = environment.step(np.zeros(1))
        assert info["cost"] == float(velocity > 0.5)
        assert type(info["cost"]) is type(reward) is float
        assert info["x_velocity"] == velocity


def test_cost_is_forward_speed_above_the_limit():
    assert_cost_is_forward_speed_above_the_limit(VelocityCost)


def faulty(judge):
    class Faulty(VelocityCost):
        def step(self, action):
            observation, reward, terminated, truncated, info = super().step(action)
            return observation, reward, terminated, truncated, info | {"cost": float(judge(info, self.limit))}

    return Faulty


FAULTS = {
    "at the limit": lambda info, limit: info["x_velocity"] >= limit,
    "backwards too": lambda info, limit: abs(info["x_velocity"]) > limit,
    "sideways too": lambda info, limit: np.hypot(info["x_velocity"], info["y_velocity"]) > limit,
    "the excess": lambda info, limit: max(info["x_velocity"] - limit, 0.0),
    "below the limit": lambda info, limit: info["x_velocity"] < limit,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_check_of_the_cost_notices_the_fault(fault):
    with pytest.raises(AssertionError):
        assert_cost_is_forward_speed_above_the_limit(faulty(FAULTS[fault]))


@every_task
def test_simulation_is_gymnasiums_version_5(task):
    ours, theirs = gym.make(f"CA14/{task}Velocity-v0"), gym.make(f"{task}-v5")
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    np.testing.assert_array_equal(ours.reset(seed=3)[0], theirs.reset(seed=3)[0])
    theirs.action_space.seed(0)
    for _ in range(40):
        action = theirs.action_space.sample()
        first, second = ours.step(action), theirs.step(action)
        np.testing.assert_array_equal(first[0], second[0])
        assert first[1:4] == second[1:4]
        assert first[4]["cost"] == float(second[4]["x_velocity"] > VELOCITY_LIMITS[task])
        if first[2]:
            break


def test_thousandth_step_truncates_and_does_not_terminate():
    environment = gym.make("CA14/SwimmerVelocity-v0")
    environment.reset(seed=0)
    flags = [environment.step(np.ones(2, np.float32))[2:4] for _ in range(1000)]
    assert flags == [(False, False)] * 999 + [(False, True)]
    assert gym.spec("CA14/SwimmerVelocity-v0").max_episode_steps == 1000


def test_id_is_the_courses_own():
    environment = gym.make("CA14/HopperVelocity-v0")
    assert environment.spec.id == environment.unwrapped.spec.id == "CA14/HopperVelocity-v0"
    limits = [type(layer).__name__ for layer in layers(environment)].count("TimeLimit")
    assert limits == 1


def layers(environment):
    while isinstance(environment, gym.Wrapper):
        yield environment
        environment = environment.env


def test_vector_environment_reports_the_last_cost_of_an_episode():
    """With the limit at a crawl, falling forward costs in the very last step."""
    arguments = {"limit": 0.05}
    vector = vector_environment("CA14/HopperVelocity-v0", 4, **arguments)
    single = gym.make("CA14/HopperVelocity-v0", **arguments)
    vector.reset(seed=10)
    single.reset(seed=10)
    rng, ends = np.random.default_rng(0), 0
    running = True
    for _ in range(120):
        action = rng.uniform(-1, 1, (4, 3)).astype(np.float32)
        *_, terminated, truncated, info = vector.step(action)
        ended = terminated | truncated
        assert info["cost"].shape == (4,)
        if running:
            *_, alone_ended, _, alone = single.step(action[0])
            assert alone_ended == ended[0]
            cost = info["final_info"]["cost"][0] if ended[0] else info["cost"][0]
            assert cost == alone["cost"]
            running = not ended[0]
        if ended.any():
            ends += ended.sum()
            assert (info["cost"][ended] == 0).all()  # the next episode has cost nothing yet
    assert ends >= 4
    assert not running
    vector.close()


def test_collected_data_hold_the_costs():
    """With the limit at a crawl some steps of a falling hopper cost and some do not."""
    environment = gym.make("CA14/HopperVelocity-v0", limit=0.05)
    data = collect(environment, "random", 6, seed=0)
    assert data.transitions.cost.shape == (len(data), 1)
    assert set(data.transitions.cost.unique().tolist()) == {0.0, 1.0}
    by_id = collect("CA14/HopperVelocity-v0", "random", 6, seed=0)
    assert by_id.transitions.cost.shape == (len(by_id), 1)


def test_environment_without_velocity_is_named():
    environment = VelocityCost(Scripted([{"speed": 1.0}]), 1.0)
    environment.reset(seed=0)
    with pytest.raises(ValueError, match=r"needs info\['x_velocity'\] after a step, got speed"):
        environment.step(np.zeros(1))


@pytest.mark.parametrize("limit", [0.0, -1.0, float("nan"), float("inf")])
def test_bad_limit_is_named(limit):
    with pytest.raises(ValueError, match="limit must be a positive velocity"):
        velocity_environment("Swimmer", limit)


def test_unknown_task_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown task 'Walker2d'; there are Hopper, HalfCheetah, Swimmer"):
        velocity_environment("Walker2d")
