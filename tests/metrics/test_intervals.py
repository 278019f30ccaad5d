"""Interquartile means by hand, and intervals that mean what they say."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ca14lib.metrics import Interval, interquartile_mean, interval_table, iqm_interval

scores = st.lists(st.floats(-100, 100), min_size=2, max_size=20)


def test_interquartile_mean_is_that_of_the_middle_half():
    assert interquartile_mean([100, 1, 2, 3, 4, -50, 5, 1000]) == pytest.approx((2 + 3 + 4 + 5) / 4)
    assert interquartile_mean([0, 10, 20, 1e9]) == 15


@given(scores=scores.filter(lambda values: len(values) % 4 == 0), seed=st.integers(0, 9))
def test_interquartile_mean_agrees_with_sorting_and_cutting(scores, seed):
    quarter = len(scores) // 4
    expected = np.mean(sorted(scores)[quarter : len(scores) - quarter])
    shuffled = np.random.default_rng(seed).permutation(scores)
    assert interquartile_mean(shuffled) == pytest.approx(expected, abs=1e-9)


def test_interquartile_mean_pools_runs_and_tasks():
    assert interquartile_mean([[1, 1000], [2, 3], [4, 5], [-50, 100]]) == pytest.approx((2 + 3 + 4 + 5) / 4)


def test_one_outlier_in_ten_does_not_move_the_estimate_far():
    runs = [0.30] * 9
    assert interquartile_mean([*runs, -5.0]) == pytest.approx(0.30)


@settings(max_examples=40)
@given(scores=scores)
def test_estimate_lies_in_its_interval_and_within_the_scores(scores):
    result = iqm_interval(scores, repetitions=100)
    assert min(scores) - 1e-9 <= result.low <= result.estimate + 1e-9
    assert result.estimate - 1e-9 <= result.high <= max(scores) + 1e-9
    assert result.estimate == pytest.approx(interquartile_mean(scores), abs=1e-9)


def test_equal_scores_give_an_interval_of_no_width_and_no_warning(recwarn):
    assert iqm_interval([0.3] * 10) == Interval(pytest.approx(0.3), pytest.approx(0.3), pytest.approx(0.3))
    assert iqm_interval([[0.3, 0.9]] * 3) == Interval(*[pytest.approx(0.6)] * 3)
    assert not recwarn.list


def test_interval_is_the_middle_95_percent_of_resampled_estimates():
    """Against a bootstrap written here, with other random numbers."""
    runs = np.random.default_rng(0).normal(size=12)
    result = iqm_interval(runs, repetitions=5_000)
    draws = np.sort(np.random.default_rng(1).choice(runs, size=(5_000, 12)), axis=1)
    low, high = np.quantile(draws[:, 3:9].mean(axis=1), [0.025, 0.975])
    assert result.low == pytest.approx(low, abs=0.09)
    assert result.high == pytest.approx(high, abs=0.09)


def test_tasks_are_resampled_apart():
    """Two tasks of very different level: runs are exchanged within a task only, so levels do not enter the width."""
    noise = np.random.default_rng(0).normal(size=(20, 1))
    together = iqm_interval(np.hstack([noise, noise + 1_000]), repetitions=300)
    assert together.high - together.low < 500


def test_same_seed_gives_the_same_interval_and_another_seed_another():
    runs = np.random.default_rng(0).normal(size=10)
    assert iqm_interval(runs, seed=1) == iqm_interval(runs, seed=1)
    assert iqm_interval(runs, seed=1) != iqm_interval(runs, seed=2)


def test_global_generator_is_neither_read_nor_moved():
    runs = np.random.default_rng(0).normal(size=10)
    first = iqm_interval(runs, repetitions=100)
    np.random.seed(3)  # noqa: NPY002 (the point of the test)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    assert iqm_interval(runs, repetitions=100) == first
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize(("scale", "shift"), [(10.0, 0.0), (1.0, -3.0), (0.5, 7.0)])
def test_interval_moves_and_stretches_with_the_scores(scale, shift):
    runs = np.random.default_rng(0).normal(size=10)
    one, other = iqm_interval(runs, repetitions=200), iqm_interval(scale * runs + shift, repetitions=200)
    np.testing.assert_allclose(other, scale * np.array(one) + shift, rtol=1e-9)


def test_more_runs_give_a_narrower_interval():
    runs = np.random.default_rng(0).normal(size=160)
    few, many = (iqm_interval(runs[:size], repetitions=300) for size in (10, 160))
    assert many.high - many.low < 0.5 * (few.high - few.low)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([], r"not be empty, got \(0, 1\)"),
        ([0.5], "at least two runs, got 1"),
        ([[0.5, 0.7]], "at least two runs, got 1"),
        ([0.1, float("nan"), 0.3], "scores must be finite, got nan"),
        ([0.1, float("inf")], "scores must be finite, got inf"),
        (np.zeros((2, 2, 2)), r"\[runs\] or \[runs, tasks\] .*got \(2, 2, 2\)"),
    ],
)
def test_bad_scores_are_named(bad, message):
    with pytest.raises(ValueError, match=message):
        iqm_interval(bad)


def test_table_has_one_row_per_group_in_order_of_appearance():
    rng = np.random.default_rng(0)
    runs = pd.DataFrame(
        {
            "agent": ["IQL"] * 4 + ["BC"] * 3 + ["IQL"] * 2,
            "dataset": ["mixed"] * 4 + ["mixed"] * 3 + ["expert"] * 2,
            "share": rng.random(9),
            "return": rng.random(9),
        }
    )
    table = interval_table(runs, ["agent", "dataset"], ["share", "return"])
    assert list(table.columns) == [
        "agent", "dataset", "seeds",
        "share_iqm", "share_low", "share_high", "return_iqm", "return_low", "return_high",
    ]  # fmt: skip
    assert table[["agent", "dataset", "seeds"]].values.tolist() == [
        ["IQL", "mixed", 4],
        ["BC", "mixed", 3],
        ["IQL", "expert", 2],
    ]
    for row, group in zip(table.itertuples(), (slice(0, 4), slice(4, 7), slice(7, 9))):
        assert (row.share_iqm, row.share_low, row.share_high) == iqm_interval(runs["share"].to_numpy()[group])
        assert (row.return_iqm, row.return_low, row.return_high) == iqm_interval(runs["return"].to_numpy()[group])


def test_table_by_one_column():
    runs = pd.DataFrame({"agent": ["b", "a", "b", "a"], "share": [1.0, 2, 1, 2]})
    table = interval_table(runs, ["agent"], ["share"])
    assert table.values.tolist() == [["b", 2, 1, 1, 1], ["a", 2, 2, 2, 2]]


def test_table_refuses_a_group_of_one_run():
    with pytest.raises(ValueError, match="at least two runs"):
        interval_table(pd.DataFrame({"agent": ["a", "a", "b"], "share": [1.0, 2, 3]}), ["agent"], ["share"])
