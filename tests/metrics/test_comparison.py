"""Optimality gaps, profiles and probabilities of improvement by hand, and beside rliable's own."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rliable import library
from rliable import metrics as rliable_metrics

from ca14lib.metrics.comparison import optimality_gap, performance_profile, probability_of_improvement

FEW = {"repetitions": 50}
matrices = arrays(float, st.tuples(st.integers(2, 6), st.integers(1, 4)), elements=st.floats(-3, 3, width=16))


def test_the_gap_counts_what_is_missing_and_nothing_beyond_the_target():
    assert optimality_gap([[0.5, 2.0], [1.0, 0.0]], **FEW).estimate == pytest.approx((0.5 + 0 + 0 + 1) / 4)
    assert optimality_gap([[0.5, 2.0], [1.0, 0.0]], target=2.0, **FEW).estimate == pytest.approx((1.5 + 0 + 1 + 2) / 4)
    assert optimality_gap([3.0, 1.0], **FEW) == (0.0, 0.0, 0.0)


@settings(max_examples=30)
@given(scores=matrices)
def test_the_gap_is_rliables(scores):
    assert optimality_gap(scores, **FEW).estimate == pytest.approx(rliable_metrics.aggregate_optimality_gap(scores))


def test_a_profile_falls_from_one_to_zero_and_counts_what_is_strictly_above():
    profile = performance_profile([[0.0, 0.5], [0.5, 1.0]], [-1.0, 0.0, 0.5, 1.0], **FEW)
    assert profile.share.tolist() == [1.0, 0.75, 0.25, 0.0]
    assert ((profile.low <= profile.share) & (profile.share <= profile.high)).all()


@settings(max_examples=30)
@given(scores=matrices)
def test_the_profile_is_rliables(scores):
    levels = np.linspace(-3, 3, 7)
    expected = library.create_performance_profile({"a": scores}, levels, reps=2)[0]["a"]
    np.testing.assert_allclose(performance_profile(scores, levels, **FEW).share, expected)


def test_the_probability_of_improvement_counts_pairs_and_halves_ties():
    assert probability_of_improvement([1.0, 2.0], [1.0, 3.0], **FEW).estimate == pytest.approx((0.5 + 0 + 1 + 0) / 4)
    assert probability_of_improvement([2.0, 2.0], [1.0, 0.0, 1.0], **FEW) == (1.0, 1.0, 1.0)


@settings(max_examples=30)
@given(first=matrices, seed=st.integers(0, 99))
def test_the_probability_of_improvement_is_rliables(first, seed):
    second = np.random.default_rng(seed).normal(size=(5, first.shape[1]))
    expected = rliable_metrics.probability_of_improvement(first, second)
    assert probability_of_improvement(first, second, **FEW).estimate == pytest.approx(expected)


def test_runs_of_different_tasks_are_never_compared():
    """The first is better on either task; pooled over tasks it would look worse than the truth."""
    first, second = np.array([[10.0, 1.0]] * 3), np.array([[9.0, 0.0]] * 3)
    assert probability_of_improvement(first, second, **FEW).estimate == 1.0


def test_intervals_are_those_of_a_bootstrap_written_here():
    runs = np.random.default_rng(3).normal(0.5, 0.3, size=(9, 1))
    found = optimality_gap(runs, repetitions=4_000)
    draws = np.random.default_rng(4).choice(runs[:, 0], size=(4_000, 9))
    low, high = np.quantile((1 - np.minimum(draws, 1)).mean(axis=1), [0.025, 0.975])
    assert found.low == pytest.approx(low, abs=0.02)
    assert found.high == pytest.approx(high, abs=0.02)


def test_the_same_seed_gives_the_same_interval_and_leaves_the_global_generator_alone():
    scores = np.random.default_rng(0).normal(size=(6, 2))
    np.random.seed(5)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    assert optimality_gap(scores, seed=3) == optimality_gap(scores, seed=3)
    assert optimality_gap(scores, seed=3) != optimality_gap(scores, seed=4)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: optimality_gap([]), r"not be empty"),
        (lambda: optimality_gap([0.5, np.nan]), r"finite, got nan"),
        (lambda: performance_profile([0.5, 0.2], [1.0, 0.0]), r"rising"),
        (lambda: performance_profile([0.5, 0.2], [np.inf]), r"finite"),
        (lambda: probability_of_improvement([[0.1, 0.2]], [[0.1]]), r"same tasks, got 2 and 1"),
    ],
)
def test_bad_scores_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
