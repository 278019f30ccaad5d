"""Summaries of returns over shifted domains, against numbers worked out by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ca14lib.metrics.intervals import iqm_interval
from ca14lib.metrics.robustness import (
    area_under_shift_curve,
    mesh_summary,
    relative_drop,
    retained_share,
    robustness_score,
)


def test_mesh_summary_of_equal_runs_is_mean_worst_and_tail():
    row = [10.0, 1.0, 4.0, 5.0, 2.0]
    found = mesh_summary([row, row, row], tail=0.5)
    # the worst half of five points: two of them, and half of the third
    assert found.mean == (pytest.approx(4.4),) * 3
    assert found.worst == (1.0,) * 3
    assert found.tail == (pytest.approx((1 + 2 + 0.5 * 4) / 2.5),) * 3
    assert mesh_summary([row, row], tail=0.2).tail.estimate == 1.0
    assert mesh_summary([row, row], tail=1.0).tail.estimate == pytest.approx(4.4)
    assert mesh_summary([row, row], weights=[1, 0, 0, 0, 1]).mean.estimate == pytest.approx(6.0)


def test_summaries_are_made_of_each_run_and_then_averaged():
    """The mean of two worst points is not the worst of two means."""
    returns = np.array([[0.0, 10.0], [10.0, 0.0], [0.0, 10.0], [10.0, 0.0]])
    found = mesh_summary(returns)
    assert found.worst.estimate == 0.0
    assert found.mean.estimate == 5.0
    noisy = np.random.default_rng(0).normal(size=(12, 30))
    assert mesh_summary(noisy).worst == iqm_interval(noisy.min(axis=1))
    found = mesh_summary(noisy)
    assert found.worst.estimate < found.tail.estimate < found.mean.estimate


def test_ratio_misleads_when_returns_are_negative_so_it_is_refused():
    """The original's formula prefers the agent that loses more to the one that gains."""

    def original(high: float, low: float) -> float:
        return high / (low + 1e-8)

    nominal, collapsed, improved = -10.0, -20.0, -5.0
    assert original(collapsed, nominal) > 1.9 > original(improved, nominal)
    for shifted in (collapsed, improved):
        with pytest.raises(ValueError, match=r"misleads unless both are positive, got shifted return -\d+\.0"):
            robustness_score(shifted, nominal)
    shares = retained_share([[collapsed], [nominal], [improved]], random=-30.0, best=0.0)[:, 0]
    assert shares.tolist() == pytest.approx([1 / 3, 2 / 3, 5 / 6])
    drops = relative_drop([nominal] * 2, [collapsed, improved], random=-30.0, best=0.0)
    assert drops.tolist() == pytest.approx([1 / 3, -1 / 6])


def test_ratio_depends_on_where_zero_is():
    """Two tasks that differ by a constant reward have the same policies and other ratios; the share is the same."""
    assert robustness_score(1.0, 2.0) == 0.5
    assert robustness_score(101.0, 102.0) > 0.99
    for shift in (0.0, 100.0):
        share = retained_share([1.0 + shift], random=0.0 + shift, best=4.0 + shift)
        assert share == pytest.approx([0.25])


@given(scale=st.floats(0.1, 100.0), shift=st.floats(-1e3, 1e3), seed=st.integers(0, 1_000))
@settings(max_examples=40, deadline=None)
def test_shares_and_drops_do_not_depend_on_unit_and_zero_of_the_reward(scale, shift, seed):
    rng = np.random.default_rng(seed)
    returns, random = rng.normal(size=(3, 4)), rng.normal(size=4) - 3
    best = random + rng.uniform(1, 5, size=4)
    plain = retained_share(returns, random, best)
    moved = retained_share(scale * returns + shift, scale * random + shift, scale * best + shift)
    np.testing.assert_allclose(moved, plain, rtol=1e-6, atol=1e-6)
    drop = relative_drop(returns[0], returns[1], -5.0, 5.0)
    moved = relative_drop(scale * returns[0] + shift, scale * returns[1] + shift, scale * -5 + shift, scale * 5 + shift)
    np.testing.assert_allclose(moved, drop, rtol=1e-6, atol=1e-6)


def test_area_of_lines_is_exact_and_a_constant_is_its_own():
    assert area_under_shift_curve([0.0, 0.1, 0.5, 1.0], [0.7] * 4) == pytest.approx(0.7)
    shift = np.array([1.0, 1.3, 2.0, 4.0])
    assert area_under_shift_curve(shift, 3 * shift - 1) == pytest.approx(3 * 2.5 - 1)
    # not the mean of the points, which would count the crowded end more
    assert area_under_shift_curve([0.0, 0.01, 1.0], [1.0, 1.0, 0.0]) == pytest.approx(0.01 + 0.99 / 2)
    many = area_under_shift_curve([0.0, 1.0], np.arange(6.0).reshape(3, 2))
    assert many.tolist() == [0.5, 2.5, 4.5]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: robustness_score(1.0, 0.0), r"got nominal return 0\.0"),
        (lambda: robustness_score(float("nan"), 1.0), "got shifted return nan"),
        (lambda: mesh_summary([1.0, 2.0]), r"returns must have shape \[runs, points\], got \(2,\)"),
        (lambda: mesh_summary([[1.0, 2.0]]), "at least two runs, got 1"),
        (lambda: mesh_summary([[1.0, np.nan], [1.0, 2.0]]), "returns must be finite"),
        (lambda: mesh_summary([[1.0, 2.0]] * 2, tail=0.0), r"tail.*\(0, 1\]"),
        (lambda: mesh_summary([[1.0, 2.0]] * 2, weights=[1.0]), "weights must be 2 numbers"),
        (lambda: mesh_summary([[1.0, 2.0]] * 2, weights=[1.0, -1.0]), "weights must be 2 numbers"),
        (lambda: retained_share([1.0, 2.0], [0.0, 3.0], [1.0, 3.0]), r"must exceed the reference, got 3\.0 and 3\.0"),
        (lambda: relative_drop([1.0], [1.0, 2.0], 0.0, 1.0), "same shape"),
        (lambda: area_under_shift_curve([0.0], [1.0]), "at least two rising"),
        (lambda: area_under_shift_curve([0.0, 0.0], [1.0, 1.0]), "at least two rising"),
        (lambda: area_under_shift_curve([0.0, 1.0], [1.0, 2.0, 3.0]), r"scores must have shape \[\.\.\., 2\]"),
    ],
)
def test_what_makes_no_sense_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
