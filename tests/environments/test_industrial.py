"""The delivered reactor against its equations typed a second time, and what its sensors and its delay do."""

import warnings

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check
from scipy.integrate import solve_ivp
from stable_baselines3.common.env_checker import check_env as stable_baselines_check

from ca14lib.environments import ReactorVector
from ca14lib.environments.applications import industrial
from ca14lib.environments.applications.industrial import DeployedReactor, DeployedReactorVector, Deployment, plant_state

WORN = Deployment(cooling=0.8, activation=0.99)


def right_side(state: np.ndarray, coolant: float, feed: float, plant: Deployment) -> np.ndarray:
    c, t = state
    reacting = 7.2e10 * np.exp(-plant.activation * 8750 / t) * c
    return np.array([1 - c - reacting, feed - t + 5e4 / 239 * reacting + plant.cooling * 5e4 / 23900 * (coolant - t)])


def assert_plant_follows_its_equations() -> None:
    rng = np.random.default_rng(0)
    states = np.column_stack([rng.uniform(0.35, 0.65, 10), rng.uniform(340, 358, 10)])
    action, feed = rng.uniform(-1, 1, (10, 1)), rng.uniform(345, 355, 10)
    found = plant_state(states, action, feed, WORN)
    for row, state in enumerate(states):
        true = solve_ivp(
            lambda _, x, r=row: right_side(x, 300 + 20 * action[r, 0], feed[r], WORN),
            (0, 0.1), state, method="LSODA", rtol=1e-9, atol=1e-9,
        ).y[:, -1]  # fmt: skip
        np.testing.assert_allclose(found[row], true, atol=2e-3)


def run(environment, actions, seed=0):
    observation, _ = environment.reset(seed=seed)
    return [observation, *(environment.step(action)[0] for action in actions)]


def assert_actions_come_late() -> None:
    prompt, late = (DeployedReactorVector(3, deployment=Deployment(delay=d)) for d in (0, 2))
    actions = np.random.default_rng(1).uniform(-1, 1, (6, 3, 1))
    shifted = np.concatenate([np.zeros((2, 3, 1)), actions[:-2]])
    for one, other in zip(run(late, actions), run(prompt, shifted), strict=True):
        np.testing.assert_array_equal(one, other)


def assert_sensors_err_and_costs_do_not() -> None:
    plant = DeployedReactorVector(4_000, deployment=Deployment(sensor_noise=1.0))
    observation, _ = plant.reset(seed=0)
    error = plant.state(observation) - plant.true_state
    np.testing.assert_allclose(error.std(axis=0), (0.005, 0.5), rtol=0.05)
    assert abs(error.mean(axis=0) / (0.005, 0.5)).max() < 0.06
    target = 0.5 + 0.1 * observation[:, 3]
    np.testing.assert_allclose(0.1 * observation[:, 2], target - plant.state(observation)[:, 0], atol=1e-6)
    _, reward, _, _, info = plant.step(np.ones((4_000, 1)))
    np.testing.assert_allclose(reward, -abs(plant.true_state[:, 0] - target) / 0.1, atol=1e-5)
    np.testing.assert_array_equal(info["cost"][:, 0], plant.true_state[:, 1] > 355)


PROPERTIES = (assert_plant_follows_its_equations, assert_actions_come_late, assert_sensors_err_and_costs_do_not)


@pytest.mark.parametrize("holds", PROPERTIES, ids=lambda check: check.__name__.removeprefix("assert_"))
def test_property(holds):
    holds()


def forgets_the_loss_through_the_jacket(patch):
    healthy = industrial._process
    patch.setattr(industrial, "_process", lambda cooling, activation: healthy(1.0, activation))


def reacts_as_designed(patch):
    healthy = industrial._process
    patch.setattr(industrial, "_process", lambda cooling, activation: healthy(cooling, 1.0))


def executes_at_once(patch):
    patch.setattr(DeployedReactorVector, "_transition", ReactorVector._transition)


def forgets_its_pending_actions(patch):
    healthy = DeployedReactorVector._transition

    def transition(self, action):
        result = healthy(self, action)
        for pending in self._pending:
            pending[:] = 0
        return result

    patch.setattr(DeployedReactorVector, "_transition", transition)


def shows_the_truth(patch):
    patch.setattr(DeployedReactorVector, "_observe", ReactorVector._observe)


def errs_with_half_the_deviation(patch):
    patch.setattr(industrial, "SENSOR_NOISE", (0.0025, 0.25))


@pytest.mark.parametrize(
    "plant, caught_by",
    [
        (forgets_the_loss_through_the_jacket, assert_plant_follows_its_equations),
        (reacts_as_designed, assert_plant_follows_its_equations),
        (executes_at_once, assert_actions_come_late),
        (forgets_its_pending_actions, assert_actions_come_late),
        (shows_the_truth, assert_sensors_err_and_costs_do_not),
        (errs_with_half_the_deviation, assert_sensors_err_and_costs_do_not),
    ],
)
def test_planted_fault_is_noticed(plant, caught_by, monkeypatch):
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        caught_by()


def test_without_a_difference_it_is_the_reactor():
    actions = np.random.default_rng(2).uniform(-1, 1, (60, 3, 1))
    for one, other in zip(run(DeployedReactorVector(3), actions), run(ReactorVector(3), actions), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_public_checkers_pass_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        environment = DeployedReactor(deployment=Deployment(0.8, 0.99, 2.0, 1))
        gymnasium_check(environment, skip_render_check=True)
        stable_baselines_check(environment, warn=True)


def test_copies_made_by_spawn_have_the_same_plant_and_limits():
    plant = DeployedReactorVector(1, deployment=WORN, temperature_limit=352.0, time_limit=7).spawn(3)
    assert (plant.num_envs, plant.deployment, plant.temperature_limit, plant.time_limit) == (3, WORN, 352.0, 7)


def test_an_episode_begins_without_actions_of_the_last():
    plant = DeployedReactorVector(2, deployment=Deployment(delay=2), time_limit=3)
    plant.reset(seed=0)
    for _ in range(3):
        plant.step(np.ones((2, 1)))
    assert not np.any(plant._pending)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"cooling": 0.2}, r"cooling must lie in \[0.5, 1.5\], got 0.2"),
        ({"activation": 1.2}, r"activation must lie in \[0.95, 1.05\], got 1.2"),
        ({"activation": np.nan}, "activation must lie"),
        ({"sensor_noise": -1.0}, "sensor_noise must be at least 0 and finite, got -1.0"),
        ({"delay": 0.5}, "delay must be an integer, got 0.5"),
        ({"delay": -1}, "delay must be at least 0, got -1"),
    ],
)
def test_impossible_plants_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Deployment(**arguments)
