"""Learned shields: bounds hold, the untried is pessimistic or not as asked, and violations in training are counted."""

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from ca14lib.agents.safe import learned_shield as module
from ca14lib.agents.safe.learned_shield import CountShield, LearnedShield, LearnedShieldConfig
from ca14lib.data.safety_buffer import SafetyBuffer
from ca14lib.environments.safe_grid import SafeGridVector

LINE = gym.spaces.Box(-10.0, 10.0, (1,), np.float32)


# Bounds, and faults that must be noticed


def bounds_invert_the_binomial_tails() -> None:
    for visits in (1, 4, 30):
        for violations in range(visits + 1):
            low, high = (
                float(bound)
                for bound in module.violation_bounds(np.array(violations), np.array(visits), confidence=0.9)
            )
            assert 0 <= low <= violations / visits <= high <= 1
            if violations:
                assert binom.sf(violations - 1, visits, low) == pytest.approx(0.1)
            if violations < visits:
                assert binom.cdf(violations, visits, high) == pytest.approx(0.1)
    low, high = module.violation_bounds(np.zeros(1, int), np.zeros(1, int), 0.9)
    assert (low[0], high[0]) == (0.0, 1.0)


def bounds_cover_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    for truth in (0.02, 0.3):
        visits = rng.integers(1, 60, size=4_000)
        low, high = module.violation_bounds(rng.binomial(visits, truth), visits, confidence=0.8)
        for covered in ((low <= truth).mean(), (truth <= high).mean()):
            assert covered > 0.8 - 4 * np.sqrt(0.16 / 4_000)


def a_pessimistic_shield_allows_only_what_was_tried_often_enough() -> None:
    """45 steps without a violation put the upper 99% bound below 0.1 (0.01^(1/45) = 0.903), 43 do not (0.898)."""
    made = CountShield(lambda s: s, 2, 3, threshold=0.1, confidence=0.99)
    for action, visits in ((0, 45), (1, 43)):
        made.observe(np.zeros(visits, int), np.full(visits, action), np.zeros(visits, bool))
    assert made(np.array([0])).tolist() == [[True, False, False]]
    assert made.fallbacks == 0
    assert made(np.array([1, 1])).all(), "where nothing was tried, all are the same"
    assert (made.calls, made.fallbacks) == (3, 2)


def an_optimistic_shield_forbids_what_was_shown_to_violate() -> None:
    made = CountShield(lambda s: s, 1, 3, threshold=0.05, confidence=0.9, pessimistic=False)
    assert made(np.array([0])).all()
    made.observe(np.zeros(3, int), np.array([0, 1, 1]), np.array([True, False, False]))
    assert made(np.array([0])).tolist() == [[False, True, True]]
    assert made.fallbacks == 0


def every_hazard_of_the_grid_is_entered_at_most_once_by_every_way() -> None:
    """Moves are certain, so one violation settles a pair: no more entries in all of training than pairs that enter."""
    environment = SafeGridVector(1)
    model = environment.tabular_model()
    made = CountShield(environment.state_index, model.num_states, 4, pessimistic=False)
    pairs = int((model.transition @ environment.hazard)[~model.terminal].sum())
    rng = np.random.default_rng(0)
    observation, _ = environment.reset(seed=0)
    entries, late = 0, 0
    for k in range(6_000):
        mask = made(observation)
        action = (rng.random(mask.shape) * mask).argmax(axis=1)
        following, _, terminated, truncated, info = environment.step(action)
        ended = terminated | truncated
        violated = (np.where(ended, info["final_info"]["cost"], info["cost"]) if ended[0] else info["cost"]) >= 1
        made.observe(observation, action, violated)
        observation, entries, late = following, entries + violated.sum(), late + (k > 5_000) * violated.sum()
    assert 5 < entries <= pairs == 16
    assert late == 0


PROPERTIES = [
    bounds_invert_the_binomial_tails,
    bounds_cover_the_truth_as_often_as_they_say,
    a_pessimistic_shield_allows_only_what_was_tried_often_enough,
    an_optimistic_shield_forbids_what_was_shown_to_violate,
    every_hazard_of_the_grid_is_entered_at_most_once_by_every_way,
]


@pytest.mark.parametrize("holds", PROPERTIES, ids=lambda holds: holds.__name__)
def test_property(holds):
    holds()


def frequencies_for_bounds(patch):
    """The mean, with the untried at 0: nothing is forbidden before it has happened."""

    def mean(violations, visits, confidence):
        frequency = violations / np.maximum(visits, 1)
        return frequency, frequency

    patch.setattr(module, "violation_bounds", mean)


def bounds_swapped(patch):
    healthy = module.violation_bounds
    patch.setattr(module, "violation_bounds", lambda *a, **k: healthy(*a, **k)[::-1])


def confidence_of_the_other_side(patch):
    healthy = module.violation_bounds
    patch.setattr(module, "violation_bounds", lambda violations, visits, confidence: healthy(
        violations, visits, 1 - confidence))  # fmt: skip


def violations_counted_for_another_action(patch):
    healthy = CountShield.observe
    patch.setattr(CountShield, "observe", lambda self, seen, action, violated: healthy(
        self, seen, (np.asarray(action) + 1) % self.visits.shape[1], violated))  # fmt: skip


FAULTS = [
    (frequencies_for_bounds, bounds_invert_the_binomial_tails),
    (frequencies_for_bounds, a_pessimistic_shield_allows_only_what_was_tried_often_enough),
    (bounds_swapped, a_pessimistic_shield_allows_only_what_was_tried_often_enough),
    (bounds_swapped, an_optimistic_shield_forbids_what_was_shown_to_violate),
    (confidence_of_the_other_side, bounds_cover_the_truth_as_often_as_they_say),
    (violations_counted_for_another_action, every_hazard_of_the_grid_is_entered_at_most_once_by_every_way),
]


@pytest.mark.parametrize("plant, holds", FAULTS, ids=lambda function: function.__name__)
def test_planted_fault_is_caught(plant, holds, monkeypatch):
    holds()
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        holds()


@given(count=st.integers(1, 40), seed=st.integers(0, 10**6))
def test_counting_a_buffer_is_counting_its_steps(count, seed):
    rng = np.random.default_rng(seed)
    state, action, cost = rng.integers(4, size=count), rng.integers(2, size=count), rng.random(count)
    buffer = SafetyBuffer(gym.spaces.Discrete(4), gym.spaces.Discrete(2), threshold=0.5)
    flag = np.zeros(count, bool)
    buffer.add(observation=state, action=action, reward=np.zeros(count), next_observation=state, terminated=flag,
               truncated=flag, cost=cost)  # fmt: skip
    by_buffer, by_hand = (CountShield(lambda s: s, 4, 2) for _ in range(2))
    by_buffer.count(buffer)
    by_hand.observe(state, action, cost > 0.5)
    np.testing.assert_array_equal(by_buffer.visits, by_hand.visits)
    np.testing.assert_array_equal(by_buffer.violations, by_hand.violations)


# The ensemble


def line_data(count: int = 4_000, seed: int = 0) -> SafetyBuffer:
    """Positions in [−1, 1]; the first action, taken in one step of ten, violates right of 0, the second in 1 of 50."""
    rng = np.random.default_rng(seed)
    position, action = rng.uniform(-1, 1, (count, 1)), (rng.random(count) < 0.9).astype(int)
    violated = np.where(action == 0, position[:, 0] > 0, rng.random(count) < 0.02)
    buffer = SafetyBuffer(LINE, gym.spaces.Discrete(2), threshold=0.5)
    flag = np.zeros(count, bool)
    buffer.add(observation=position, action=action, reward=np.zeros(count), next_observation=position,
               terminated=flag, truncated=flag, cost=violated.astype(float))  # fmt: skip
    return buffer


@pytest.fixture(scope="module")
def fitted() -> LearnedShield:
    made = LearnedShield(LINE, gym.spaces.Discrete(2), LearnedShieldConfig(learning_rate=3e-3))
    losses = made.fit(line_data(), 500)
    assert np.mean(losses[-50:]) < 0.5 * losses[0]
    return made


def test_the_ensemble_learns_what_violates_and_how_often(fitted):
    inside = np.linspace(-0.9, 0.9, 19, dtype=np.float32)[:, None]
    mask = fitted(inside)
    far = abs(inside[:, 0]) > 0.15
    np.testing.assert_array_equal(mask[far, 0], inside[far, 0] < 0)
    assert mask[:, 1].all()
    assert fitted.bound(inside)[:, 1].max() < 0.1, "weights bring the half of the batch that violates back to 2%"


def test_without_the_weights_the_rare_violation_looks_common(monkeypatch):
    from ca14lib.data import safety_buffer

    monkeypatch.setattr(safety_buffer, "stratum_weights", lambda *_: (1.0, 1.0))
    made = LearnedShield(LINE, gym.spaces.Discrete(2), LearnedShieldConfig(learning_rate=3e-3))
    made.fit(line_data(), 300)
    # odds of violating are multiplied by those of the batch over those of the data
    assert made.bound(np.array([[-0.5]], np.float32))[0, 1] > 0.1


def test_far_from_the_data_the_bound_is_larger(fitted):
    near = fitted.bound(np.linspace(-0.9, -0.2, 20, dtype=np.float32)[:, None])[:, 0].mean()
    away = fitted.bound(np.array([[-8.0], [8.0], [9.5], [-9.5]], np.float32))[:, :].mean()
    assert away > 3 * near


def test_before_any_data_everything_is_forbidden_and_the_fallback_counts():
    made = LearnedShield(LINE, gym.spaces.Discrete(2))
    assert (made.bound(np.zeros((3, 1))) == 1).all()
    assert made(np.zeros((3, 1))).all(axis=1).all()
    assert (made.calls, made.fallbacks) == (3, 3)


def test_same_seed_same_shield():
    data = line_data(200)
    first, second = (LearnedShield(LINE, gym.spaces.Discrete(2), seed=5) for _ in range(2))
    assert first.fit(data, 3, 32) == second.fit(data, 3, 32)
    np.testing.assert_array_equal(first.bound(np.ones((2, 1))), second.bound(np.ones((2, 1))))


def test_bad_input_is_refused():
    for keywords, message in (({"threshold": 1.0}, "threshold"), ({"confidence": 0.0}, "confidence")):
        with pytest.raises(ValueError, match=message):
            CountShield(lambda s: s, 2, 2, **keywords)
    for keywords, message in (
        ({"members": 1}, "members"), ({"threshold": 0.0}, "threshold"), ({"width": -1.0}, "width"),
        ({"prior_scale": -1.0}, "prior_scale"), ({"learning_rate": 0.0}, "learning_rate"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            LearnedShieldConfig(**keywords)
    with pytest.raises(ValueError, match="Discrete"):
        LearnedShield(LINE, LINE)
    made = LearnedShield(LINE, gym.spaces.Discrete(2))
    with pytest.raises(ValueError, match="updates"):
        made.fit(line_data(10), 0)
