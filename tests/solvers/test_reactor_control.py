"""The cascade and predictive control: closed forms, what they must achieve, and faults that must be noticed."""

import numpy as np
import pytest

from ca14lib.environments import ReactorVector
from ca14lib.environments.applications.industrial import DeployedReactorVector, Deployment, plant_state
from ca14lib.solvers import reactor_control
from ca14lib.solvers.reactor_control import (
    ModelPredictiveController,
    MPCConfig,
    PIDController,
    PIDGains,
    episode_sums,
    factor_estimate,
    predicted_state,
    sensitivity,
    set_point,
    tuned_gains,
)

STEPS = 60
REACTOR = ReactorVector(1)


def states(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    points = np.column_stack([rng.uniform(0.4, 0.65, count), rng.uniform(338, 355, count)])
    return points, rng.uniform(-1, 1, count), rng.uniform(345, 355, count)


def driven(controller, plant: Deployment | None = None, copies: int = 4, steps: int = STEPS):
    """Distances to the set point ``[steps, N]`` and the highest temperature ``[N]``."""
    environment = DeployedReactorVector(copies, deployment=plant, time_limit=None)
    controller.reset()
    observation, _ = environment.reset(seed=3)
    distances, hottest = [], np.zeros(copies)
    for _ in range(steps):
        target = set_point(observation)
        observation = environment.step(controller.act(observation))[0]
        distances.append(abs(environment.true_state[:, 0] - target))
        hottest = np.maximum(hottest, environment.true_state[:, 1])
    return np.array(distances), hottest


def assert_the_integral_does_not_wind_up() -> None:
    error, wanted = np.array([1.0, 1.0, -1.0, -1.0, 1.0]), np.array([0.5, 2.0, 2.0, -2.0, -2.0])
    found = reactor_control.integral_step(np.zeros(5), error, 0.1, wanted, -1.0, 1.0)
    np.testing.assert_allclose(found, [0.1, 0, -0.1, 0, 0.1])


def assert_the_cascade_recovers_from_a_long_saturation() -> None:
    """A set point that the limit forbids, then one that it allows: a wound-up integral would ask for heat for long."""
    controller = PIDController(REACTOR, PIDGains(margin=2.0))
    environment = ReactorVector(1, set_point_steps=10_000, time_limit=None)
    observation, _ = environment.reset(seed=0)
    environment._set_point[:] = 0.35
    distances = []
    for step in range(260):
        if step == 200:
            environment._set_point[:] = 0.5
        observation = environment.step(controller.act(environment._observe()))[0]
        distances.append(abs(environment.state(observation)[0, 0] - environment._set_point[0]))
    assert max(distances[250:]) < 0.04


def assert_the_cascade_has_no_offset() -> None:
    environment = DeployedReactorVector(3, deployment=Deployment(cooling=0.9), set_point_steps=10_000, time_limit=None)
    controller = PIDController(REACTOR, PIDGains(margin=2.0))
    observation, _ = environment.reset(seed=0)
    environment._set_point[:] = (0.48, 0.5, 0.52)
    distances = []
    for _ in range(200):
        observation = environment.step(controller.act(environment._observe()))[0]
        distances.append(environment.state(observation)[:, 0] - environment._set_point)
    assert abs(np.mean(distances[-100:], axis=0)).max() < 0.005


def assert_prediction_is_the_reactor() -> None:
    state, action, feed = states(200)
    true = REACTOR.integrate(state, action[:, None], feed)
    near = true[:, 1] < 358
    np.testing.assert_allclose(predicted_state(state, action, feed)[near], true[near], atol=0.02)


def assert_factors_enter_as_the_plant_has_them() -> None:
    state, action, feed = states(50)
    factors = np.tile([0.9, 1.0], (50, 1))
    true = plant_state(state, action[:, None], feed, Deployment(cooling=0.9))
    near = true[:, 1] < 358
    np.testing.assert_allclose(predicted_state(state, action, feed, factors)[near], true[near], atol=0.02)


def assert_sensitivity_is_a_difference_quotient() -> None:
    """To first order in the interval: checked against a thousandth of it."""
    state, action, feed = states(50)
    found = sensitivity(state, action) / 1_000
    for column in range(2):
        factors = np.ones((50, 2))
        factors[:, column] += 1e-3
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(reactor_control, "CONTROL_INTERVAL", 1e-4)
            change = predicted_state(state, action, feed, factors) - predicted_state(state, action, feed)
        np.testing.assert_allclose(found[:, :, column], change / 1e-3, rtol=5e-3, atol=1e-6)


def assert_estimate_is_least_squares() -> None:
    """Without drift the filter's answer is that of weighted least squares with the prior as another observation."""
    rng, noise, prior = np.random.default_rng(0), np.diag([0.01, 0.25]), 0.2
    factors, covariance = np.ones((1, 2)), prior**2 * np.eye(2)[None]
    information, total = np.eye(2) / prior**2, np.ones(2) / prior**2
    for _ in range(20):
        influence = rng.normal(size=(2, 2))
        seen = influence @ [0.8, 1.3] + np.sqrt(np.diag(noise)) * rng.normal(size=2)
        surprise = (seen - influence @ factors[0])[None]
        factors, covariance = factor_estimate(factors, covariance, influence[None], surprise, noise, 0.0)
        information += influence.T @ np.linalg.inv(noise) @ influence
        total += influence.T @ np.linalg.inv(noise) @ seen
    np.testing.assert_allclose(factors[0], np.linalg.solve(information, total), atol=1e-8)
    np.testing.assert_allclose(covariance[0], np.linalg.inv(information), atol=1e-8)


def assert_predictive_control_tracks_within_the_limit() -> None:
    distance, hottest = driven(ModelPredictiveController(REACTOR), steps=45)
    assert hottest.max() < 355
    assert np.median(distance[-10:]) < 0.01


def assert_factors_of_a_worn_plant_are_found() -> None:
    controller = ModelPredictiveController(REACTOR, MPCConfig(adaptive=True))
    driven(controller, Deployment(cooling=0.9, activation=0.995))
    # at 350 K the reaction is exp(0.005 · 8750 / 350) = 1.133 times as fast
    np.testing.assert_allclose(controller.factors.mean(axis=0), (0.9, 1.133), atol=0.03)


def assert_a_known_delay_is_made_up_for() -> None:
    distance, hottest = driven(ModelPredictiveController(REACTOR, MPCConfig(delay=2)), Deployment(delay=2), steps=45)
    assert hottest.max() < 355
    assert np.median(distance[-10:]) < 0.02


QUICK = (
    assert_the_integral_does_not_wind_up, assert_the_cascade_has_no_offset,
    assert_the_cascade_recovers_from_a_long_saturation,
    assert_prediction_is_the_reactor, assert_factors_enter_as_the_plant_has_them,
    assert_sensitivity_is_a_difference_quotient, assert_estimate_is_least_squares,
    assert_predictive_control_tracks_within_the_limit, assert_factors_of_a_worn_plant_are_found,
    assert_a_known_delay_is_made_up_for,
)  # fmt: skip


@pytest.mark.parametrize("holds", QUICK, ids=lambda check: check.__name__.removeprefix("assert_"))
def test_property(holds):
    holds()


# Planted faults


def integrates_at_the_bound(patch):
    patch.setattr(reactor_control, "integral_step", lambda integral, error, rate, *rest: integral + rate * error)


def integrates_never(patch):
    patch.setattr(reactor_control, "integral_step", lambda integral, *rest: integral)


def stops_integrating_inwards_too(patch):
    def step(integral, error, rate, wanted, low, high):
        return integral + np.where((wanted > high) | (wanted < low), 0.0, rate * error)

    patch.setattr(reactor_control, "integral_step", step)


def holds_actions_in_place_of_a_loop(patch):
    """Open-loop shooting over an unstable plant, with the same search."""
    patch.setattr(
        ModelPredictiveController, "_loop",
        lambda self, reference, state: np.clip((reference - 350) / 10, -1, 1),
    )  # fmt: skip


def knows_no_limit(patch):
    healthy = ModelPredictiveController.__init__

    def made(self, environment, config=None):
        healthy(self, environment, config)
        self.temperature_limit = 370.0

    patch.setattr(ModelPredictiveController, "__init__", made)


def plans_from_what_is_seen_now(patch):
    """Actions on their way are remembered, but the prediction begins with the present state."""
    healthy = reactor_control.predicted_state
    patch.setattr(
        reactor_control, "predicted_state",
        lambda state, action, feed, factors=None: state if len(state) == 4 else healthy(state, action, feed, factors),
    )  # fmt: skip


def learns_with_the_wrong_sign(patch):
    healthy = ModelPredictiveController._learn
    patch.setattr(ModelPredictiveController, "_learn", lambda self, surprise: healthy(self, -surprise))


def takes_the_jackets_heat_for_the_reactions(patch):
    healthy = reactor_control.sensitivity
    patch.setattr(reactor_control, "sensitivity", lambda state, action: healthy(state, action)[:, :, ::-1])


@pytest.mark.parametrize(
    "plant, caught_by",
    [
        (integrates_at_the_bound, assert_the_cascade_recovers_from_a_long_saturation),
        (integrates_never, assert_the_cascade_has_no_offset),
        (stops_integrating_inwards_too, assert_the_integral_does_not_wind_up),
        (holds_actions_in_place_of_a_loop, assert_predictive_control_tracks_within_the_limit),
        (knows_no_limit, assert_predictive_control_tracks_within_the_limit),
        (plans_from_what_is_seen_now, assert_a_known_delay_is_made_up_for),
        (learns_with_the_wrong_sign, assert_factors_of_a_worn_plant_are_found),
        (takes_the_jackets_heat_for_the_reactions, assert_factors_of_a_worn_plant_are_found),
    ],
)
def test_planted_fault_is_noticed(plant, caught_by, monkeypatch):
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        caught_by()


# The rest


def test_search_for_gains_is_better_than_the_defaults_and_repeats():
    gains = tuned_gains(REACTOR, 1, candidates=12, episodes=3, rounds=2)
    assert gains == tuned_gains(REACTOR, 1, candidates=12, episodes=3, rounds=2)
    plant = ReactorVector(3)

    def score(each):
        returns, costs = episode_sums(plant, PIDController(plant, each), 1, 200)
        return (returns - 10 * costs.sum(axis=1)).mean()

    assert score(gains) > score(PIDGains())


def test_gains_may_differ_between_episodes():
    many = PIDController(REACTOR, PIDGains(inner_gain=np.array([0.2, 0.3])))
    alone = PIDController(REACTOR, PIDGains(inner_gain=0.3))
    observation = ReactorVector(2).reset(seed=0)[0]
    assert many.act(observation)[1] == alone.act(observation)[1]


def test_memory_ends_with_the_episode():
    for controller in (PIDController(REACTOR), ModelPredictiveController(REACTOR, MPCConfig(adaptive=True, delay=1))):
        first, _ = driven(controller, steps=8)
        again, _ = driven(controller, steps=8)
        np.testing.assert_array_equal(first, again)


def test_number_of_predictions_is_what_is_stated(monkeypatch):
    counted, healthy = [], ModelPredictiveController.plan_cost

    def count(self, plans, *rest):
        counted.append(plans.shape[1])
        return healthy(self, plans, *rest)

    monkeypatch.setattr(ModelPredictiveController, "plan_cost", count)
    controller = ModelPredictiveController(REACTOR)
    controller.act(ReactorVector(1).reset(seed=0)[0])
    assert sum(counted) == controller.config.rollouts == 56
    assert controller.config.horizon == 16


@pytest.mark.parametrize("controller", [PIDController(REACTOR), ModelPredictiveController(REACTOR)])
def test_observations_of_other_episodes_are_refused(controller):
    controller.reset()
    controller.act(np.zeros((2, 5)))
    with pytest.raises(ValueError, match="is in 2 episodes, got 3 observations"):
        controller.act(np.zeros((3, 5)))
    for wrong in (np.zeros(5), np.full((2, 5), np.nan)):
        with pytest.raises(ValueError, match=r"finite and of shape \[N, 5\]"):
            controller.act(wrong)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"blocks": ()}, "blocks"),
        ({"blocks": (1, 0)}, "blocks"),
        ({"step_sizes": (0.0,)}, "step_sizes"),
        ({"gain": 0.0}, "gain"),
        ({"margin": -1.0}, "margin must be at least 0, got -1.0"),
    ],
)
def test_impossible_configurations_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        MPCConfig(**arguments)


def test_impossible_gains_are_refused():
    with pytest.raises(ValueError, match="inner_gain must be finite and positive, got 0"):
        PIDGains(inner_gain=0.0)
    with pytest.raises(ValueError, match="margin"):
        PIDGains(margin=np.array([1.0, np.nan]))
