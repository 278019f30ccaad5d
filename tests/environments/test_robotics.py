"""The arm against Gymnasium's in MuJoCo, its faults and sensors, its controllers, the hopper; planted faults."""

import inspect
import warnings
from types import ModuleType

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check
from stable_baselines3.common.env_checker import check_env as stable_baselines_check

from ca14lib.environments import HopperDomain, VelocityCost
from ca14lib.environments.applications import robotics
from ca14lib.environments.applications.robotics import (
    GOAL_RADIUS,
    LINK,
    RATED_TORQUE,
    REACH,
    TORQUE,
    ComputedTorque,
    ReacherDomain,
    ReacherDomainVector,
    TransposedJacobian,
    acceleration,
    fingertip,
    hopper_velocity_domain,
    joint_angles,
)
from ca14lib.environments.perturbed import ParameterDrift, PerturbedVector

pytest.importorskip("mujoco")


def altered(*changes: tuple[str, str]) -> ModuleType:
    """The module with pieces of its source replaced."""
    source = inspect.getsource(robotics)
    for old, new in changes:
        assert source.count(old) == 1, f"{old!r} stands {source.count(old)} times in the source"
        source = source.replace(old, new)
    module = ModuleType("altered_robotics")
    module.__dict__["__name__"] = robotics.__name__  # dataclasses look their module up
    exec(compile(source, "altered", "exec"), module.__dict__)
    return module


def still(copies: int, seed: int = 0) -> np.ndarray:
    """Initial states at rest with targets in the disc."""
    rng = np.random.default_rng(seed)
    states = np.zeros((copies, 6))
    states[:, :2] = rng.uniform(-1.0, 1.0, (copies, 2))
    radius, angle = GOAL_RADIUS * np.sqrt(rng.uniform(size=copies)), rng.uniform(-np.pi, np.pi, copies)
    states[:, 4:] = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)
    return states


# Properties: each takes the module, so that faults can be planted in it


def it_is_gymnasiums_arm(module: ModuleType) -> None:
    theirs = [gym.make("Reacher-v5", disable_env_checker=True) for _ in range(4)]
    expected = np.stack([environment.reset(seed=seed)[0] for seed, environment in enumerate(theirs)])
    inner = [environment.unwrapped.data for environment in theirs]
    state = np.stack([np.r_[data.qpos[:2], data.qvel[:2], data.qpos[2:]] for data in inner])
    ours = module.ReacherDomainVector(4)
    observation, _ = ours.reset(seed=0, options={"state": state})
    np.testing.assert_allclose(observation, expected, atol=1e-7)
    rng = np.random.default_rng(0)
    for step in range(1, 51):
        action = (rng.uniform(-1, 1, (4, 2)) * 0.2).astype(np.float32)
        observation, reward, terminated, truncated, info = ours.step(action)
        seen = info["final_obs"] if truncated.any() else observation
        for copy, environment in enumerate(theirs):
            other, paid, *ends, _ = environment.step(action[copy])
            np.testing.assert_allclose(seen[copy], other, atol=2e-5)
            assert reward[copy] == pytest.approx(paid, abs=2e-5)
            assert ends == [terminated[copy], truncated[copy]] == [False, step == 50]


def sensors_err_and_nothing_else_does(module: ModuleType) -> None:
    """With noise the rewards stay, and what is seen is the geometry of what the encoders and the camera report."""
    copies = 2_000
    quiet, noisy = module.ReacherDomainVector(copies), module.ReacherDomainVector(copies, ranges={"noise": 2.0})
    states = still(copies)
    quiet.reset(seed=0, options={"state": states})
    shown, _ = noisy.reset(seed=0, options={"state": states})
    errors = []
    for _ in range(3):
        action = np.full((copies, 2), 0.05, np.float32)
        truth, reward, *_ = quiet.step(action)
        shown, paid, *_ = noisy.step(action)
        np.testing.assert_array_equal(reward, paid)
        np.testing.assert_array_equal(quiet.state, noisy.state)
        angles = np.arctan2(shown[:, 2:4], shown[:, :2])
        np.testing.assert_allclose(shown[:, 8:], fingertip(angles) - shown[:, 4:6], atol=1e-6)
        errors.append(np.concatenate([angles - quiet.state[:, :2], shown[:, 6:8] - truth[:, 6:8],
                                      shown[:, 4:6] - truth[:, 4:6]], axis=1))  # fmt: skip
    spread = np.stack(errors).std(axis=(0, 1))
    np.testing.assert_allclose(spread, 2.0 * np.repeat([0.02, 0.2, 0.002], 2), rtol=0.05)
    now, before = errors[-1], errors[-2]
    assert abs(np.mean(now * before / np.square(spread), axis=0)).max() < 0.1  # anew at every step


def a_motor_gives_what_is_left_of_it(module: ModuleType) -> None:
    environment = module.ReacherDomainVector(3, ranges={"delay": 0})
    states = np.zeros((3, 6))
    options = {"parameters": {"shoulder": [1.0, 0.5, 1.0], "elbow": [1.0, 1.0, 0.0]}, "state": states}
    environment.reset(seed=0, options=options)
    environment.step(np.full((3, 2), 0.1, np.float32))
    speeds = environment.state[:, 2:4]
    np.testing.assert_allclose(speeds[1] / speeds[0], [0.5, 1.0], atol=2e-3)
    assert abs(speeds[2, 1]) < 1e-3 * abs(speeds[0, 1])  # moved by the shoulder's motion alone


def an_action_arrives_late_and_only_in_its_episode(module: ModuleType) -> None:
    environment = module.ReacherDomainVector(2, ranges={"delay": 3}, time_limit=5)
    environment.reset(seed=0, options={"state": np.zeros((2, 6))})
    for step in range(5):
        environment.step(np.full((2, 2), 0.2, np.float32))
        moving = environment.state[:, 2:4] if step < 4 else None
        if moving is not None:
            assert (abs(moving) > 1e-9).all() == (step >= 3)
    for _ in range(3):
        environment.step(np.zeros((2, 2), np.float32))
        assert (abs(environment.state[:, 2:4]) <= 0.005).all()


def overload_is_counted_where_it_is_asked_for(module: ModuleType) -> None:
    environment = module.ReacherDomainVector(4, ranges={"shoulder": 0.0, "delay": 2}, time_limit=2)
    _, info = environment.reset(seed=0)
    assert info["cost"].tolist() == [0.0] * 4
    share = RATED_TORQUE / TORQUE
    action = np.array([[0.0, 0.0], [share, -share], [1.01 * share, 0.0], [0.0, -1.01 * share]], np.float32)
    action[1] = np.nextafter(action[1], np.float32(0.0))
    *_, info = environment.step(action)
    assert info["cost"].tolist() == [0.0, 0.0, 1.0, 1.0]  # dead and late, but asked for
    *_, info = environment.step(action)
    assert info["cost"].tolist() == [0.0] * 4  # of the next episodes
    assert info["final_info"]["cost"].tolist() == [0.0, 0.0, 1.0, 1.0]


def targets_fill_the_disc(module: ModuleType) -> None:
    environment = module.ReacherDomainVector(8_000)
    environment.reset(seed=1)
    radius = np.hypot(*environment.state[:, 4:].T)
    assert radius.max() <= GOAL_RADIUS
    counts = np.histogram((radius / GOAL_RADIUS) ** 2, bins=4, range=(0, 1))[0]
    assert abs(counts / 2_000 - 1).max() < 0.1


def computed_torque_makes_an_oscillator(module: ModuleType) -> None:
    """Where nothing saturates, the joints are accelerated as the control law wants."""
    rng, law = np.random.default_rng(0), module.ComputedTorque(3.0, 0.7)
    angles = rng.uniform(-1.0, 1.0, (50, 2))
    speeds = rng.uniform(-2.0, 2.0, (50, 2))
    target = fingertip(angles + 0.1)
    torque = law.torque(angles, speeds, target, target - fingertip(angles))
    found = acceleration(angles, speeds, torque) + 2 * 0.7 * 3.0 * speeds
    goals = np.stack([joint_angles(target, np.full(50, bend)) for bend in (1.0, -1.0)])
    ways = goals - angles
    ways[..., 0] = (ways[..., 0] + np.pi) % (2 * np.pi) - np.pi
    nearer = np.square(ways).sum(axis=-1).argmin(axis=0)
    np.testing.assert_allclose(found, 9.0 * ways[nearer, np.arange(50)], atol=1e-9)


def transposed_jacobian_goes_downhill(module: ModuleType) -> None:
    """Its torque is minus the gradient of the spring's energy, less the dampers'."""
    rng, law = np.random.default_rng(0), module.TransposedJacobian(300.0, 4.0)
    angles, speeds = rng.uniform(-2.0, 2.0, (2, 50, 2))
    target = rng.uniform(-0.1, 0.1, (50, 2))

    def energy(at: np.ndarray) -> np.ndarray:
        return 0.5 * 300.0 * np.square(fingertip(at) - target).sum(axis=1)

    step = 1e-6 * np.eye(2)
    slope = np.stack([(energy(angles + one) - energy(angles - one)) / 2e-6 for one in step], axis=-1)
    torque = law.torque(angles, speeds, target, target - fingertip(angles))
    np.testing.assert_allclose(torque, -slope - 4.0 * speeds, atol=1e-5)


PROPERTIES = [
    it_is_gymnasiums_arm, sensors_err_and_nothing_else_does, a_motor_gives_what_is_left_of_it,
    an_action_arrives_late_and_only_in_its_episode, overload_is_counted_where_it_is_asked_for, targets_fill_the_disc,
    computed_torque_makes_an_oscillator, transposed_jacobian_goes_downhill,
]  # fmt: skip


@pytest.mark.parametrize("holds", PROPERTIES)
def test_property(holds):
    holds(robotics)


FAULTS = [
    (it_is_gymnasiums_arm, "-pull * (2 * first + second) * second", "pull * (2 * first + second) * second"),
    (it_is_gymnasiums_arm, "REACH * np.cos(both)", "LINK * np.cos(both)"),
    (it_is_gymnasiums_arm, "torque - DAMPING * speeds", "torque"),
    (it_is_gymnasiums_arm, "- np.square(action).sum(axis=1)", "- np.square(torque / TORQUE).mean(axis=1)"),
    (sensors_err_and_nothing_else_does, "off = fingertip(angles) - target",
     "off = fingertip(self._state[:, :2]) - target"),
    (sensors_err_and_nothing_else_does, "        self._measure(slice(None))\n", ""),
    (sensors_err_and_nothing_else_does, "distance = np.linalg.norm(fingertip(angles) -",
     "distance = np.linalg.norm(fingertip(angles + self._errors[:, :2]) -"),
    (a_motor_gives_what_is_left_of_it, "self._values[:2].T", "self._values[1::-1].T"),
    (an_action_arrives_late_and_only_in_its_episode, "self._arriving(action, self._values[3])",
     "self._arriving(action, self._values[2])"),
    (overload_is_counted_where_it_is_asked_for, "TORQUE * abs(action) > RATED_TORQUE",
     "(abs(torque) > RATED_TORQUE)"),
    (overload_is_counted_where_it_is_asked_for, "        self._cost[where] = 0.0\n", ""),
    (targets_fill_the_disc, "GOAL_RADIUS * np.sqrt(self.np_random.uniform(size=outside.size))",
     "GOAL_RADIUS * self.np_random.uniform(size=outside.size)"),
    (computed_torque_makes_an_oscillator, " + DAMPING * speeds\n", "\n"),
    (computed_torque_makes_an_oscillator, "ways[..., 0] = (ways[..., 0] + np.pi) % (2 * np.pi) - np.pi",
     "ways[..., 0] = ways[..., 0] + 2 * np.pi"),
    (transposed_jacobian_goes_downhill, "_cross(tip, distance)", "_cross(tip - forearm, distance)"),
    (transposed_jacobian_goes_downhill, "lever[:, 0] * force[:, 1] -", "lever[:, 0] * force[:, 1] +"),
]  # fmt: skip


@pytest.mark.parametrize(("holds", "old", "new"), FAULTS, ids=[f"{holds.__name__}-{new}" for holds, _, new in FAULTS])
def test_planted_fault_is_noticed(holds, old, new):
    with pytest.raises(AssertionError):
        holds(altered((old, new)))


# Interfaces


@pytest.mark.parametrize("ranges", [{}, {"noise": (0, 2), "delay": (0, 2), "shoulder": (0.5, 1.0)}])
def test_public_checkers_pass_without_a_warning(ranges):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gymnasium_check(ReacherDomain(ranges=ranges), skip_render_check=True)
        stable_baselines_check(ReacherDomain(ranges=ranges), warn=True)


def test_who_drives_this_arm_drives_gymnasiums():
    environment, law = gym.make("Reacher-v5"), ComputedTorque(7.0, 0.8)
    assert environment.action_space == law.action_space
    ours = ReacherDomainVector(1)
    for seed in range(3):
        seen, _ = environment.reset(seed=seed)
        data = environment.unwrapped.data
        state = np.r_[data.qpos[:2], data.qvel[:2], data.qpos[2:]]
        observation, _ = ours.reset(seed=0, options={"state": state[None]})
        returns, ended = np.zeros(2), False
        while not ended:
            seen, reward, _, ended, _ = environment.step(law.act(seen[None])[0])
            observation, paid, *_ = ours.step(law.act(observation))
            returns += (reward, paid[0])
        assert returns[0] == pytest.approx(returns[1], abs=1e-3)


def test_same_seed_gives_the_same_run_and_a_single_copy_the_same_dynamics():
    ranges = {"noise": (0.0, 3.0), "delay": (0, 3), "elbow": (0.0, 1.0)}
    actions = np.random.default_rng(0).uniform(-0.3, 0.3, (60, 5, 2)).astype(np.float32)

    def history(seed: int) -> list:
        environment = ReacherDomainVector(5, ranges=ranges)
        kept = [environment.reset(seed=seed)[0]]
        return kept + [np.c_[one[0], one[1]] for one in map(environment.step, actions)]

    for first, second in zip(history(3), history(3), strict=True):
        np.testing.assert_array_equal(first, second)
    assert not np.array_equal(history(3)[0], history(4)[0])
    single, vector = ReacherDomain(ranges=ranges), ReacherDomainVector(1, ranges=ranges)
    np.testing.assert_array_equal(single.reset(seed=2)[0], vector.reset(seed=2)[0][0])
    for action in actions[:20, 0]:
        np.testing.assert_array_equal(single.step(action)[0], vector.step(action[None])[0][0])
    assert vector.spawn(3).ranges == ranges


def test_a_motor_that_fades_is_a_drift_of_its_parameter():
    environment = PerturbedVector(ReacherDomainVector(2), (ParameterDrift("elbow", -1.0, 25),))
    environment.reset(seed=0)
    for step in range(1, 31):
        *_, info = environment.step(np.zeros((2, 2), np.float32))
        assert info["parameters"][:, 1] == pytest.approx(max(1 - step / 25, 0.0))


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_elbow_stops_at_its_limit(sign):
    environment = ReacherDomainVector(1, time_limit=None)
    environment.reset(seed=0)
    for _ in range(60):
        environment.step(np.array([[0.0, sign * 0.3]], np.float32))
    angle, speed = environment.state[0, [1, 3]]
    assert angle == sign * 3.0
    assert abs(speed) < 1e-9
    environment.step(np.array([[0.0, -sign * 0.3]], np.float32))
    assert sign * environment.state[0, 1] < 3.0


@pytest.mark.parametrize("bend", [1.0, -1.0])
def test_inverse_kinematics_reaches_what_can_be_reached(bend):
    rng = np.random.default_rng(0)
    radius, angle = rng.uniform(0.03, LINK + REACH, 200), rng.uniform(-np.pi, np.pi, 200)
    target = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)
    found = joint_angles(target, np.full(200, bend))
    np.testing.assert_allclose(fingertip(found), target, atol=1e-9)
    assert (bend * found[:, 1] >= 0).all()
    far = joint_angles(2 * target / radius[:, None], np.full(200, bend))  # out of reach: straight at it
    np.testing.assert_allclose(fingertip(far), (LINK + REACH) * target / radius[:, None], atol=1e-9)


@pytest.mark.parametrize("controller", [ComputedTorque(8.0, 0.8), TransposedJacobian(3_000.0, 15.0)])
def test_controllers_bring_the_fingertip_to_the_target(controller):
    environment = ReacherDomainVector(200, time_limit=None)
    observation, _ = environment.reset(seed=5)
    before = np.linalg.norm(observation[:, 8:], axis=1)
    for _ in range(100):
        observation, *_ = environment.step(controller.act(observation))
    after = np.linalg.norm(observation[:, 8:], axis=1)
    assert np.median(after) < 0.04 < 0.1 < np.median(before)
    assert controller.act(observation).dtype == np.float32


# The hopper


def test_hopper_has_a_body_of_its_own_and_the_speed_limit():
    environment = hopper_velocity_domain({"mass": 1.5, "friction": (0.5, 1.0)})
    assert isinstance(environment, VelocityCost)
    assert environment.limit == 0.7402
    assert hopper_velocity_domain(limit=0.1).limit == 0.1
    _, info = environment.reset(seed=0)
    assert info["parameters"][0] == 1.5
    assert 0.5 <= info["parameters"][1] <= 1.0
    inner = environment.env
    assert isinstance(inner, HopperDomain)
    np.testing.assert_allclose(inner.model.body_mass, 1.5 * hopper_velocity_domain().env.model.body_mass)
    *_, info = environment.step(environment.action_space.sample())
    assert info["cost"] == float(info["x_velocity"] > 0.7402)


# Bad input


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ReacherDomainVector(2, ranges={"wrist": 1.0}), "unknown parameter 'wrist'; there are shoulder, elbow"),
        (lambda: ReacherDomainVector(2, ranges={"noise": -1.0}), r"noise must be a number in \[0, 50\] .* got -1"),
        (lambda: ReacherDomainVector(2, ranges={"delay": 0.5}), "delay must be a whole number .* got 0.5"),
        (lambda: ReacherDomainVector(2, ranges={"elbow": (1.0, 0.5)}), "low at most high"),
        (lambda: ReacherDomainVector(0), "num_envs must be at least 1, got 0"),
        (lambda: ComputedTorque(-1.0), "frequency must be finite and at least 0, got -1"),
        (lambda: TransposedJacobian(damping=np.nan), "damping must be finite and at least 0, got nan"),
        (lambda: hopper_velocity_domain(limit=0.0), "limit must be a positive velocity"),
        (lambda: hopper_velocity_domain({"colour": 1.0}), "unknown parameter 'colour'"),
    ],
)
def test_what_makes_no_sense_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
