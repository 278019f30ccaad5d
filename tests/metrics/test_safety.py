"""Violations counted by hand and by loops, exact intervals, the score; and faults that the properties notice."""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from ca14lib.metrics import (
    constraint_satisfied,
    cost_rate,
    cumulative_violations,
    exceedance_probability,
    mean_excess,
    safety_report,
    safety_score,
    time_in_violation,
    violation_rate,
    worst_episode,
)

COST = np.array([[0.0, 3.0], [2.0, 1.0], [5.0, 0.0], [2.5, 4.0]])
LIMIT = np.array([2.0, 3.5])
TENTHS = np.cumsum(np.full(6, 0.1, dtype=np.float32))  # 0.3 is 0.30000001192…, 0.6 is 0.6000000238…


def random_costs(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 5, size=(rng.integers(1, 12), 3)) / 2, rng.integers(0, 4, size=3) / 2


# Properties of whole functions, which planted faults must break


def rate_counts_the_episodes_over_their_limit(rate: Callable) -> None:
    np.testing.assert_allclose(rate(COST, LIMIT), [0.5, 0.25])
    assert rate(COST[:, 0], 2.0) == 0.5
    for seed in range(20):
        cost, limit = random_costs(seed)
        expected = [sum(c > d for c in column) / len(cost) for column, d in zip(cost.T, limit)]
        np.testing.assert_allclose(rate(cost, limit), expected)


def rate_is_not_moved_by_rounding(rate: Callable) -> None:
    for steps in range(1, 7):
        assert rate(TENTHS[steps - 1 : steps], steps / 10) == 0
        assert rate(TENTHS[steps - 1 : steps], steps / 10 - 0.01) == 1
        assert rate(1e4 * TENTHS[steps - 1 : steps].astype(float), 1e4 * steps / 10) == 0


def exceedance_counts_an_episode_once(exceedance: Callable) -> None:
    assert exceedance(COST, LIMIT).estimate == 0.5
    assert exceedance(COST, [0.0, 0.0]).estimate == 1
    assert exceedance(COST[:, 1], 3.5).estimate == 0.25


def exceedance_interval_inverts_the_binomial_tails(exceedance: Callable) -> None:
    """At either end, what was seen or something further away has probability 2.5%."""
    for episodes, count in ((10, 1), (10, 9), (200, 20), (1, 1), (7, 0)):
        _, low, high = exceedance(np.arange(episodes) < count, 0.5)
        at_least = 0.025 if count else 1.0
        at_most = 0.025 if count < episodes else 1.0
        assert stats.binom.sf(count - 1, episodes, low) == pytest.approx(at_least, abs=1e-9)
        assert stats.binom.cdf(count, episodes, high) == pytest.approx(at_most, abs=1e-9)


def exceedance_interval_covers_the_true_probability(exceedance: Callable) -> None:
    """Exact coverage: the binomial probabilities of the counts whose interval holds the true value, added up."""
    for episodes, truth in ((12, 0.05), (30, 0.3), (50, 0.01)):
        covered = 0.0
        for count in range(episodes + 1):
            _, low, high = exceedance(np.arange(episodes) < count, 0.5)
            covered += stats.binom.pmf(count, episodes, truth) * (low <= truth <= high)
        assert covered >= 0.95


def no_violation_does_not_prove_safety(exceedance: Callable) -> None:
    for episodes in (10, 100, 1_000):
        estimate, low, high = exceedance(np.zeros(episodes), 0.0)
        assert estimate == low == 0
        assert high == pytest.approx(1 - 0.025 ** (1 / episodes))
    assert high == pytest.approx(3.7 / 1_000, rel=0.01)


def worst_is_the_largest_cost_of_one_episode(worst: Callable) -> None:
    episode, cost = worst(COST)
    assert episode.tolist() == [2, 3]
    assert cost.tolist() == [5, 4]
    assert worst([1.0, 3.0, 3.0]) == (1, 3)


def cumulative_counts_never_fall_and_end_at_the_rate(cumulative: Callable) -> None:
    np.testing.assert_array_equal(cumulative(COST, LIMIT), [[0, 0], [0, 0], [1, 0], [2, 1]])
    assert cumulative([3.0, 0, 3, 3], 1.0).tolist() == [1, 1, 2, 3]
    for seed in range(20):
        cost, limit = random_costs(seed)
        counts = cumulative(cost, limit)
        assert counts.dtype == np.int64
        assert (np.diff(counts, axis=0) >= 0).all()
        np.testing.assert_allclose(counts[-1] / len(cost), violation_rate(cost, limit))


def excess_is_not_offset_by_cheap_episodes(excess: Callable) -> None:
    np.testing.assert_allclose(excess(COST, LIMIT), [3.5 / 4, 0.5 / 4])
    assert excess([0.0, 4.0], 2.0) == 1
    assert excess([0.0, 1.0], 2.0) == 0
    for seed in range(20):
        cost, limit = random_costs(seed)
        assert (excess(cost, limit) >= cost.mean(axis=0) - limit - 1e-12).all()
        assert (excess(cost, limit) <= cost.mean(axis=0)).all()


def every_step_counts_alike(share: Callable, expected: tuple[float, float]) -> None:
    """Two episodes of 1 and 3 steps: the mean over episodes would be another number."""
    short, long = np.array([[2.0, 0.0]]), np.array([[0.0, 0.0], [0.0, 1.0], [0.5, 0.0]])
    np.testing.assert_allclose(share([short, long]), expected)
    np.testing.assert_allclose(share(np.concatenate([short, long])), expected)
    np.testing.assert_allclose(share(np.concatenate([short, long]).reshape(2, 2, 2)), expected)
    np.testing.assert_allclose(share([short[:, 0], long[:, 0]]), expected[:1])
    np.testing.assert_allclose(share(np.concatenate([short, long])[:, 1]), expected[1:])


def all_constraints_must_hold(satisfied: Callable) -> None:
    assert satisfied([1.0, 2.0], [1.0, 2.0])
    assert not satisfied([1.0, 2.1], [1.0, 2.0])
    assert not satisfied([1.1, 0.0], [1.0, 2.0])
    assert satisfied([1.1, 0.0], [1.0, 2.0], 0.2)
    assert satisfied(float(TENTHS[2]), 0.3)
    assert satisfied(1e9, math.inf)


def score_is_zero_at_the_safest_and_one_at_the_optimum(score: Callable) -> None:
    assert score(-5.0, -5.0, 6.28) == 0
    assert score(6.28, -5.0, 6.28) == 1
    assert score(0.64, -5.0, 6.28) == pytest.approx(0.5)
    assert score(9.1, -5.0, 6.28) > 1
    assert score(-8.0, -5.0, 1.0) == pytest.approx(-0.5)


PROPERTIES = {
    "violation_rate": (
        violation_rate, (rate_counts_the_episodes_over_their_limit, rate_is_not_moved_by_rounding),
    ),
    "exceedance_probability": (
        exceedance_probability,
        (
            exceedance_counts_an_episode_once, exceedance_interval_inverts_the_binomial_tails,
            exceedance_interval_covers_the_true_probability, no_violation_does_not_prove_safety,
        ),
    ),
    "worst_episode": (worst_episode, (worst_is_the_largest_cost_of_one_episode,)),
    "cumulative_violations": (cumulative_violations, (cumulative_counts_never_fall_and_end_at_the_rate,)),
    "mean_excess": (mean_excess, (excess_is_not_offset_by_cheap_episodes,)),
    "time_in_violation": (time_in_violation, (partial(every_step_counts_alike, expected=(0.5, 0.25)),)),
    "cost_rate": (cost_rate, (partial(every_step_counts_alike, expected=(0.625, 0.25)),)),
    "constraint_satisfied": (constraint_satisfied, (all_constraints_must_hold,)),
    "safety_score": (safety_score, (score_is_zero_at_the_safest_and_one_at_the_optimum,)),
}  # fmt: skip
CASES = [
    pytest.param(function, holds, id=f"{name}-{getattr(holds, 'func', holds).__name__}")
    for name, (function, properties) in PROPERTIES.items()
    for holds in properties
]


@pytest.mark.parametrize("function, holds", CASES)
def test_property(function, holds):
    holds(function)


costs = hnp.arrays(
    float, st.tuples(st.integers(1, 8), st.integers(1, 3)), elements=st.integers(0, 12).map(lambda i: i / 4)
)


@given(costs, st.integers(0, 12))
def test_a_higher_limit_is_never_violated_more(cost, quarters):
    limit = np.full(cost.shape[1], quarters / 4)
    for measure in (violation_rate, mean_excess, lambda *all: exceedance_probability(*all).estimate):
        assert (np.asarray(measure(cost, limit + 0.5)) <= measure(cost, limit)).all()


@given(costs, st.integers(0, 12))
def test_one_constraint_may_leave_out_its_axis(cost, quarters):
    limit = quarters / 4
    for measure in (violation_rate, mean_excess, cumulative_violations):
        bare, full = measure(cost[:, 0], limit), measure(cost[:, :1], [limit])
        np.testing.assert_array_equal(bare, full[..., 0])
    assert exceedance_probability(cost[:, 0], limit) == exceedance_probability(cost[:, :1], limit)


def test_one_sided_question_at_another_confidence():
    """A two-sided 90% interval has 5% on a side: the rule of three."""
    assert exceedance_probability(np.zeros(300), 1.0, confidence=0.9).high == pytest.approx(3 / 300, rel=0.01)


def test_an_unlimited_cost_is_never_violated():
    assert violation_rate(COST, [math.inf, 0.0]).tolist() == [0, 0.75]
    assert mean_excess(COST, [math.inf, 0.0])[0] == 0


# Report


def test_report_of_one_constraint():
    report = safety_report([1.0, 3.0], [0.0, 5.0], 3.0, step_cost=[[0.0, 0.0, 0.0], [2.0, 3.0]])
    low, high = exceedance_probability([0.0, 5.0], 3.0)[1:]
    assert report == {
        "episodes": 2, "return_mean": 2, "cost_mean": 2.5, "cost_worst": 5, "cost_excess": 1, "violation_rate": 0.5,
        "time_in_violation": 0.4, "cost_rate": 1, "exceedance": 0.5, "exceedance_low": low, "exceedance_high": high,
        "satisfied": 1,
    }  # fmt: skip
    assert all(type(value) is float for value in report.values())
    assert safety_report([1.0, 3.0], [[0.0], [5.0]], [3.0], step_cost=[[0.0, 0.0, 0.0], [2.0, 3.0]]) == report


def test_report_numbers_several_constraints():
    report = safety_report(np.zeros(4), COST, LIMIT, step_cost=COST[None])
    for name in ("cost_mean", "cost_worst", "cost_excess", "violation_rate", "time_in_violation", "cost_rate"):
        assert name not in report
        assert {f"{name}_0", f"{name}_1"} <= set(report)
    assert (report["cost_mean_0"], report["cost_mean_1"]) == (2.375, 2)
    assert (report["cost_worst_0"], report["cost_worst_1"]) == (5, 4)
    assert (report["time_in_violation_0"], report["cost_rate_1"]) == (0.75, 2)
    assert report["exceedance"] == 0.5
    assert report["satisfied"] == 0
    assert safety_report(np.zeros(4), COST, [2.375, 2.0])["satisfied"] == 1


def test_a_mean_within_the_limit_can_hide_that_half_of_the_episodes_are_not():
    report = safety_report(np.zeros(10), [0.0, 2.0] * 5, 1.0)
    assert report["satisfied"] == 1
    assert report["violation_rate"] == report["cost_excess"] == 0.5


# Bad input


@pytest.mark.parametrize("measure", [violation_rate, exceedance_probability, cumulative_violations, mean_excess])
@pytest.mark.parametrize(
    "cost, limit, message",
    [
        ([], 1.0, r"episode_cost must not be empty, got shape \(0,\)"),
        (np.zeros((0, 2)), [1.0, 1.0], "episode_cost must not be empty"),
        ([1.0, math.nan], 1.0, "episode_cost must be finite, got nan"),
        ([math.inf], 1.0, "episode_cost must be finite, got inf"),
        ([1.0, -0.5], 1.0, "episode_cost must be at least 0, got -0.5"),
        (2.0, 1.0, r"episode_cost must have shape \[E, K\] or \[E\], got \(\)"),
        (np.zeros((2, 2, 2)), 1.0, r"got \(2, 2, 2\)"),
        (COST, 1.0, r"limit must have one entry for each of 2 constraints, got shape \(\)"),
        (COST[:, 0], [1.0, 2.0], r"each of 1 constraints, got shape \(2,\)"),
        (COST, [[1.0, 2.0]], r"limit must have one entry .* got shape \(1, 2\)"),
        (COST, [1.0, math.nan], "limit must be at least 0, got .*nan"),
        (COST[:, 0], -1.0, "limit must be at least 0, got -1"),
    ],
)
def test_bad_costs_and_limits_are_named(measure, cost, limit, message):
    with pytest.raises(ValueError, match=message):
        measure(cost, limit)
    with pytest.raises(ValueError, match=message):
        safety_report(np.zeros(len(np.atleast_1d(cost))), cost, limit)


@pytest.mark.parametrize("measure", [time_in_violation, cost_rate])
@pytest.mark.parametrize(
    "cost, message",
    [
        ([], "step_cost must be an array .* got no axis of steps"),
        (1.0, "got no axis of steps"),
        ([[], []], "step_cost must not be empty"),
        (np.zeros((0, 3, 1)), "step_cost must not be empty"),
        ([[0.0, math.nan]], "step_cost must be finite, got nan"),
        (np.array([0.0, -1.0]), "step_cost must be at least 0, got -1.0"),
        ([np.zeros((2, 1)), np.zeros((2, 2))], "the same constraints in every episode"),
    ],
)
def test_bad_step_costs_are_named(measure, cost, message):
    with pytest.raises(ValueError, match=message):
        measure(cost)


def test_other_bad_input_is_named():
    with pytest.raises(ValueError, match="episode_cost must be finite, got nan"):
        worst_episode([1.0, math.nan])
    for measure in (violation_rate, exceedance_probability, cumulative_violations):
        with pytest.raises(ValueError, match=r"tolerance must be at least 0, got -0\.1"):
            measure(COST, LIMIT, tolerance=-0.1)
    with pytest.raises(ValueError, match="tolerance must be at least 0, got nan"):
        constraint_satisfied(1.0, 1.0, math.nan)
    with pytest.raises(ValueError, match=r"mean_cost must have shape \[K\], got \(4, 2\)"):
        constraint_satisfied(COST, LIMIT)
    with pytest.raises(ValueError, match="mean_cost must be finite, got nan"):
        constraint_satisfied(math.nan, 1.0)
    with pytest.raises(ValueError, match="each of 2 constraints"):
        constraint_satisfied([1.0, 2.0], [1.0, 2.0, 3.0])
    for confidence in (0.0, 1.0, 95, math.nan):
        with pytest.raises(ValueError, match=rf"confidence must lie in \(0, 1\), got {confidence}"):
            exceedance_probability(COST, LIMIT, confidence=confidence)
    with pytest.raises(ValueError, match=r"episode_return must have one entry for each of 4 episodes, got \(3,\)"):
        safety_report(np.zeros(3), COST, LIMIT)
    with pytest.raises(ValueError, match="episode_return must be finite, got nan"):
        safety_report([0.0, math.nan, 0, 0], COST, LIMIT)
    with pytest.raises(ValueError, match="step_cost must have 2 constraints, got 1"):
        safety_report(np.zeros(4), COST, LIMIT, step_cost=[[1.0, 2.0]])


@pytest.mark.parametrize("safe, optimal", [(9.1, 9.1), (9.1, 9.0)])
def test_a_limit_at_which_the_references_meet_has_no_score(safe, optimal):
    with pytest.raises(ValueError, match=f"optimal_return must exceed safe_return, got {optimal} and {safe}"):
        safety_score(0.0, safe, optimal)


def test_returns_that_are_not_finite_have_no_score():
    for arguments in ((math.nan, 0, 1), (0, -math.inf, 1), (0, 0, math.nan)):
        with pytest.raises(ValueError, match="returns must be finite, got"):
            safety_score(*arguments)


# Planted faults


def wald(cost, limit, confidence=0.95):
    share = exceedance_probability(cost, limit).estimate
    half = stats.norm.ppf((1 + confidence) / 2) * math.sqrt(share * (1 - share) / len(np.asarray(cost)))
    return type(exceedance_probability(cost, limit))(share, share - half, share + half)


def one_sided_tails(cost, limit):
    return exceedance_probability(cost, limit, confidence=0.9)


def mean_over_constraints(cost, limit):
    interval = exceedance_probability(cost, limit)
    return interval._replace(estimate=float(np.mean(violation_rate(cost, limit))))


def episodes_alike(measure):
    def wrong(step_cost):
        episodes = step_cost if isinstance(step_cost, list) else [step_cost]
        return np.mean([measure([episode]) for episode in episodes], axis=0)

    return wrong


FAULTS = {
    "violation_rate": (
        lambda cost, limit: violation_rate(np.asarray(cost) + 1e-3, limit),  # at the limit counts as over it
        lambda cost, limit: violation_rate(cost, limit, tolerance=0.0),
        lambda cost, limit: (np.asarray(cost) > 0).mean(axis=0),
        lambda cost, limit: violation_rate(cost, limit) * len(np.asarray(cost)),
    ),
    "exceedance_probability": (wald, one_sided_tails, mean_over_constraints),
    "worst_episode": (
        lambda cost: (np.argmin(cost, axis=0), np.min(cost, axis=0)),
        lambda cost: (np.argmax(cost), np.max(cost)),
        lambda cost: (np.argmax(cost, axis=0), np.mean(cost, axis=0)),
    ),
    "cumulative_violations": (
        lambda cost, limit: cumulative_violations(np.asarray(cost)[::-1], limit),
        lambda cost, limit: np.cumsum(np.maximum(np.asarray(cost) - limit, 0), axis=0),
        lambda cost, limit: np.cumsum(np.asarray(cost) > limit),
    ),
    "mean_excess": (
        lambda cost, limit: np.mean(cost, axis=0) - limit,
        lambda cost, limit: np.maximum(np.mean(cost, axis=0) - limit, 0),
        lambda cost, limit: mean_excess(cost, limit) / np.maximum(violation_rate(cost, limit), 1e-9),
    ),
    "time_in_violation": (
        episodes_alike(time_in_violation), cost_rate, lambda cost: 1 - time_in_violation(cost),
    ),
    "cost_rate": (
        episodes_alike(cost_rate), time_in_violation, lambda cost: cost_rate(cost).sum(keepdims=True),
    ),
    "constraint_satisfied": (
        lambda cost, limit, tolerance=1e-6: bool((np.asarray(cost) <= np.asarray(limit) + tolerance).any()),
        lambda cost, limit, tolerance=1e-6: constraint_satisfied(np.sum(cost), np.sum(limit), tolerance),
        lambda cost, limit, tolerance=0.0: constraint_satisfied(cost, limit, tolerance),
    ),
    "safety_score": (
        lambda value, safe, optimal: (value - safe) / optimal,
        lambda value, safe, optimal: value / optimal,
        lambda value, safe, optimal: float(np.clip(safety_score(value, safe, optimal), 0, 1)),
    ),
}  # fmt: skip


def notices(holds: Callable, wrong: Callable) -> bool:
    try:
        holds(wrong)
    except (AssertionError, ValueError):
        return True
    return False


@pytest.mark.parametrize(
    "name, wrong",
    [pytest.param(name, fault, id=f"{name}-{i}") for name in FAULTS for i, fault in enumerate(FAULTS[name])],
)
def test_planted_fault_is_caught(name, wrong):
    assert any(notices(holds, wrong) for holds in PROPERTIES[name][1])


def test_every_function_has_three_faults_and_every_property_can_fail():
    assert FAULTS.keys() == PROPERTIES.keys()
    for name, (_, properties) in PROPERTIES.items():
        assert len(FAULTS[name]) >= 3
        for holds in properties:
            assert any(notices(holds, wrong) for wrong in FAULTS[name])
