"""The posterior over domains: brute force, closed forms, calibration, planted faults.

What is decorated with ``holds`` is run on the healthy code here, and on code with a planted fault at the end.
"""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats

from ca14lib.agents.robust.domain_posterior import (
    DomainPosterior,
    Episode,
    central_range,
    effective_number,
    predictions,
    tempered,
)
from ca14lib.environments.domains import CartPoleDomainVector, PendulumDomainVector
from tests.agents.robust.faults_domain_posterior import FAULTS

PROPERTIES: dict[str, Callable[[], None]] = {}
DOMAINS = (CartPoleDomainVector, PendulumDomainVector)


def holds(test: Callable[[], None]) -> Callable[[], None]:
    PROPERTIES[test.__name__.removeprefix("test_").replace("_", "-")] = test
    return test


def episode_of(domain, parameters, seed, *, steps=60, noise=0.0):
    """An episode of random actions, to its end or for some steps, by stepping the environment."""
    rng = np.random.default_rng(seed)
    environment = domain(1, ranges=parameters)
    observation, _ = environment.reset(seed=seed)
    rows = []
    for _ in range(steps):
        action = rng.integers(2, size=1) if domain is CartPoleDomainVector else rng.uniform(-1, 1, (1, 1))
        _, terminated, _ = environment.advance(action)
        following = environment._observe()
        rows.append((observation[0], action[0], following[0]))
        observation = following
        if terminated[0]:
            break
    before, chosen, after = (np.array(column) for column in zip(*rows))
    return Episode(before, chosen, after + noise * rng.standard_normal(after.shape))


def gain_posterior(episodes, deviation, low, high):
    """The exact belief: velocities after a cart-pole's step are linear in the gain, and the prior is uniform."""
    precision = weighted = 0.0
    ends = {name: np.full(2, parameter.nominal) for name, parameter in CartPoleDomainVector.PARAMETERS.items()}
    ends["gain"] = np.array([low, high])
    for episode in episodes:
        at_low, at_high = predictions(CartPoleDomainVector, ends, episode)
        slope = (at_high - at_low) / (high - low)
        precision += np.square(slope).sum() / deviation**2
        weighted += (slope * (episode.next_observation - at_low + low * slope)).sum() / deviation**2
    mean, scale = weighted / precision, precision**-0.5
    return scipy.stats.truncnorm((low - mean) / scale, (high - mean) / scale, mean, scale)


# What candidates predict


@holds
def test_each_step_is_predicted_from_where_the_target_was_with_what_reaches_its_actuator():
    for domain in DOMAINS:
        target = {"length": 0.4, "gain": 1.5, "delay": 2}
        episode = episode_of(domain, target, seed=3)
        candidates = {name: np.full(4, parameter.nominal) for name, parameter in domain.PARAMETERS.items()}
        candidates |= {"length": np.array([0.4, 0.4, 0.7, 1.0]), "gain": np.array([1.5, 1.0, 1.5, 0.6])}
        candidates["delay"] = np.array([2.0, 0.0, 1.0, 5.0])
        found = predictions(domain, candidates, episode)
        np.testing.assert_allclose(found[0], episode.next_observation, atol=1e-6)
        for index in range(4):  # one copy that is put where the target was before every step, its actuator going on
            environment = domain(1, ranges={name: values[index] for name, values in candidates.items()})
            environment.reset(seed=0)
            for step, (before, action, _) in enumerate(zip(*episode)):
                environment._state[0] = (
                    before if domain is CartPoleDomainVector else (np.arctan2(before[1], before[0]), before[2])
                )
                environment.advance(np.asarray(action)[None])
                np.testing.assert_allclose(found[index, step], environment._observe()[0], atol=1e-6)


def test_an_episode_ends_with_the_fall_and_not_with_the_next_start():
    episode = episode_of(CartPoleDomainVector, {"length": 0.2}, seed=1, steps=500)
    assert abs(episode.next_observation[-1, [0, 2]] / [2.4, CartPoleDomainVector.ANGLE_LIMIT]).max() > 1
    posterior = DomainPosterior(CartPoleDomainVector, {"length": (0.1, 1.0)}, 0.01, 500)
    posterior.observe(*episode)
    posterior.refine()
    assert posterior.mean()["length"] == pytest.approx(0.2, abs=0.01)


# The belief


@holds
def test_the_belief_about_a_gain_is_a_truncated_normal():
    low, high = 0.5, 2.0
    episodes = [episode_of(CartPoleDomainVector, {"gain": 1.7}, seed, steps=12, noise=0.6) for seed in (5, 6)]
    exact = gain_posterior(episodes, 0.6, low, high)
    assert exact.std() > 0.1
    for order in (episodes, episodes[::-1]):
        posterior = DomainPosterior(CartPoleDomainVector, {"gain": (low, high)}, 0.6, 8_000)
        for episode in order:
            posterior.observe(*episode)
        assert posterior.mean()["gain"] == pytest.approx(exact.mean(), abs=0.01)
        assert posterior.deviations()["gain"] == pytest.approx(exact.std(), rel=0.05)
        np.testing.assert_allclose(posterior.credible_ranges(0.8)["gain"], exact.ppf([0.1, 0.9]), atol=0.02)


@holds
def test_refining_finds_a_narrow_belief_and_counts_no_episode_twice():
    episodes = [episode_of(CartPoleDomainVector, {"gain": 1.7}, seed, noise=0.03) for seed in (5, 6)]
    exact = gain_posterior(episodes, 0.03, 0.5, 2.0)
    posterior = DomainPosterior(CartPoleDomainVector, {"gain": (0.5, 2.0)}, 0.03, 400, seed=1)
    for episode in episodes:
        posterior.observe(*episode)
    assert posterior.effective_candidates < 20
    posterior.refine()
    assert posterior.effective_candidates > 80
    posterior.refine(0.7)
    assert posterior.effective_candidates > 280
    assert abs(posterior.mean()["gain"] - exact.mean()) < 0.2 * exact.std()
    assert posterior.deviations()["gain"] == pytest.approx(exact.std(), rel=0.15)


@holds
def test_three_parameters_have_the_belief_of_a_fine_grid():
    ranges, deviation = {"length": (0.1, 1.0), "gain": (0.5, 2.0), "delay": (0, 3)}, 0.15
    episode = episode_of(CartPoleDomainVector, {"length": 0.4, "gain": 1.5, "delay": 1}, seed=2, noise=deviation)
    points = np.array(list(itertools.product(np.linspace(0.1, 1.0, 61), np.linspace(0.5, 2.0, 61), range(4))))
    grid = {
        name: np.full(len(points), parameter.nominal) for name, parameter in CartPoleDomainVector.PARAMETERS.items()
    }
    grid |= dict(zip(ranges, points.T))
    error = (predictions(CartPoleDomainVector, grid, episode) - episode.next_observation) / deviation
    log = -0.5 * np.square(error).sum(axis=(1, 2))
    weight = np.exp(log - log.max())
    weight /= weight.sum()
    mean = weight @ points
    spread = weight @ np.square(points - mean)
    posterior = DomainPosterior(CartPoleDomainVector, ranges, deviation, 2_000)
    posterior.observe(*episode)
    posterior.refine()
    posterior.refine(0.5)
    for index, name in enumerate(ranges):
        assert posterior.mean()[name] == pytest.approx(mean[index], abs=0.15 * spread[index] ** 0.5 + 1e-6)
        assert posterior.deviations()[name] == pytest.approx(spread[index] ** 0.5, rel=0.15, abs=0.02)
    product = np.prod([posterior.parameters[name] - posterior.mean()[name] for name in ("length", "gain")], axis=0)
    exact = weight @ np.prod(points[:, :2] - mean[:2], axis=1)
    assert posterior.probability @ product == pytest.approx(exact, rel=0.3)


@holds
def test_credible_ranges_cover_what_was_drawn_from_the_prior():
    ranges, inside = {"gain": (0.5, 2.0), "delay": (0, 2)}, []
    rng = np.random.default_rng(0)
    for seed in range(100):
        target = {"gain": rng.uniform(0.5, 2.0), "delay": int(rng.integers(3))}
        episode = episode_of(CartPoleDomainVector, target, seed, steps=10, noise=0.4)
        posterior = DomainPosterior(CartPoleDomainVector, ranges, 0.4, 400, seed=seed)
        posterior.observe(*episode)
        found = posterior.credible_ranges(0.8)
        inside.append([low <= target[name] <= high for name, (low, high) in found.items()])
        assert found["gain"][1] - found["gain"][0] < 1.2
    gain, delay = np.mean(inside, axis=0)
    assert 0.68 <= gain <= 0.92
    assert delay >= 0.7  # a range of whole numbers may hold more than its level


def test_a_parameter_that_nothing_depends_on_keeps_its_prior():
    episode = episode_of(PendulumDomainVector, {"mass": 1.0}, seed=0, steps=1)
    still = Episode(episode.observation[:1], np.zeros((1, 1)), episode.next_observation[:1])
    posterior = DomainPosterior(PendulumDomainVector, {"gain": (0.5, 2.0)}, 0.1, 3_000)
    posterior.observe(*still)  # no torque, so that its gain has no effect
    assert posterior.effective_candidates == pytest.approx(3_000)
    assert posterior.credible_ranges(0.9)["gain"] == pytest.approx((0.575, 1.925), abs=0.05)


# What is made of it


@holds
def test_a_sampled_domain_is_one_candidate_with_its_probability():
    ranges = {"gain": (0.5, 2.0), "length": (0.1, 1.0)}
    posterior = DomainPosterior(CartPoleDomainVector, ranges, 0.3, 5)
    posterior.observe(*episode_of(CartPoleDomainVector, {"gain": 1.2}, seed=4, steps=2, noise=0.3))
    generator = np.random.default_rng(0)
    drawn = [posterior.sample(generator) for _ in range(2_000)]
    known = list(zip(posterior.parameters["gain"], posterior.parameters["length"]))
    index = []
    for domain in drawn:
        assert (domain["gain"], domain["length"]) in known
        index.append(known.index((domain["gain"], domain["length"])))
    np.testing.assert_allclose(np.bincount(index, minlength=5) / 2_000, posterior.probability, atol=0.05)


def test_credible_ranges_are_ranges_of_an_environment():
    ranges = {"gain": (0.5, 2.0), "delay": (0, 4), "length": 0.5}
    posterior = DomainPosterior(CartPoleDomainVector, ranges, 0.2, 500)
    before = posterior.credible_ranges(0.9)
    posterior.observe(*episode_of(CartPoleDomainVector, {"gain": 1.2, "delay": 2}, seed=4, noise=0.2))
    posterior.refine()
    found = posterior.credible_ranges(0.9)
    assert found["length"] == (0.5, 0.5)
    assert found["delay"] == (2.0, 2.0)
    assert before["gain"][0] <= found["gain"][0] < found["gain"][1] <= before["gain"][1]
    environment = CartPoleDomainVector(200, ranges=found)
    environment.reset(seed=0)
    assert ((environment.parameters["gain"] >= found["gain"][0]) & (environment.parameters["gain"] <= 2.0)).all()
    CartPoleDomainVector(1, ranges=posterior.sample(np.random.default_rng(0))).reset(seed=0)


def test_the_same_seed_has_the_same_candidates():
    first, again, other = (DomainPosterior(CartPoleDomainVector, {"gain": (0.5, 2)}, 0.1, 5, seed=s) for s in (1, 1, 2))
    assert (first.parameters["gain"] == again.parameters["gain"]).all()
    assert (first.parameters["gain"] != other.parameters["gain"]).all()


def test_tempering_leaves_as_many_as_are_asked_for_and_nothing_to_do_where_there_are_enough():
    log = -(np.arange(100.0) ** 2)
    assert effective_number(tempered(log, 30)) == pytest.approx(30, rel=1e-6)
    assert effective_number(tempered(log, 1.0)) < 2
    assert central_range(np.arange(5.0), np.array([0.0, 0.1, 0.8, 0.1, 0.0]), 0.9) == (1.0, 3.0)


# Bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((object, {"gain": (1, 2)}, 0.1), "domain must be"),
        ((CartPoleDomainVector, {}, 0.1), "at least one parameter"),
        ((CartPoleDomainVector, {"mass": (1, 2)}, 0.1), "unknown parameter 'mass'"),
        ((CartPoleDomainVector, {"gain": (2, 1)}, 0.1), "low at most high"),
        ((CartPoleDomainVector, {"gain": (1, 2)}, 0.0), "deviation must be"),
        ((CartPoleDomainVector, {"gain": (1, 2)}, np.nan), "deviation must be"),
        ((CartPoleDomainVector, {"gain": (1, 2)}, [0.1, 0.1]), "deviation must be"),
        ((CartPoleDomainVector, {"gain": (1, 2)}, 0.1, 1), "candidates must be at least 2"),
    ],
)
def test_what_cannot_be_a_posterior_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        DomainPosterior(*arguments)


def test_what_cannot_be_an_episode_is_refused_and_leaves_the_belief_alone():
    posterior = DomainPosterior(CartPoleDomainVector, {"gain": (0.5, 2.0)}, 0.1, 20)
    good = episode_of(CartPoleDomainVector, {}, seed=0, steps=5)
    far = good.observation + np.array([0, 0, 1, 0])
    for bad, message in (
        ((good.observation[:0], good.action[:0], good.next_observation[:0]), "T at least 1"),
        ((good.observation[1:], good.action, good.next_observation), "shapes"),
        ((good.observation[:, :3], good.action, good.next_observation), "shapes"),
        ((good.observation, good.action, good.next_observation * np.nan), "finite"),
        ((far, good.action, good.next_observation), "steps begin within"),
        ((good.observation, good.action + 5, good.next_observation), "actions must lie"),
    ):
        with pytest.raises(ValueError, match=message):
            posterior.observe(*bad)
    assert posterior.effective_candidates == pytest.approx(20)
    assert posterior.episodes == []
    for call, message in (
        (lambda: posterior.credible_ranges(1.0), "level"),
        (lambda: posterior.refine(0.0), "share"),
        (lambda: posterior.refine(rounds=0), "rounds"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


# Planted faults


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_caught(name, monkeypatch):
    fault = FAULTS[name]
    assert fault.caught_by
    fault.plant(monkeypatch)
    for caught in fault.caught_by:
        with pytest.raises(AssertionError):
            PROPERTIES[caught]()


def test_every_property_fails_under_some_fault():
    assert {name for fault in FAULTS.values() for name in fault.caught_by} == PROPERTIES.keys()
