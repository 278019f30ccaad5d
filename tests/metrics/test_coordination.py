"""Measures of coordination by hand, at their limits, and against loops; faults that are noticed."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ca14lib.metrics import (
    collisions_per_episode,
    coordination_gain,
    fairness_index,
    share_of_bound,
    time_to_finish,
)

# Properties of whole functions, which planted faults must break


def share_weighs_every_reward_alike(share: Callable) -> None:
    assert share([30.0, 10.0], [40.0, 10.0]) == pytest.approx(0.8)  # the mean of ratios is 0.875
    assert share([30.0, 10.0, 2.0], [40.0, 10.0, 10.0]) == pytest.approx(0.7)
    assert share([-1.0, 3.0], [0.0, 4.0]) == pytest.approx(0.5)
    assert share([5.0], [5.0]) == 1


def index_is_jains(index: Callable) -> None:
    assert index([1, 2, 3]) == pytest.approx(36 / 42)
    assert index([5, 0, 0, 0]) == pytest.approx(1 / 4)
    assert index([1, 1, 1, 0]) == pytest.approx(3 / 4)
    assert index([2.5, 2.5]) == 1
    assert index([0, 0, 0]) == 1


def only_whole_episodes_count(mean: Callable) -> None:
    collisions = np.array([[2, 0], [1, 3], [4, 1], [5, 2]])
    ended = np.array([[False, True], [True, False], [False, True], [False, False]])
    # copy 0: 2 + 1, then unfinished; copy 1: 0 and 3 + 1, then unfinished
    assert mean(collisions, ended) == pytest.approx(7 / 3)
    assert mean(np.full((6, 1), 2), np.arange(6)[:, None] == 5) == 12


def unfinished_episodes_count_at_the_limit(time: Callable) -> None:
    assert time([4, 10, 100], [True, True, False], 100) == pytest.approx(38)
    assert time([20, 20], [False, False], 100) == 100


def test_share_of_the_bound_is_a_ratio_of_means():
    share_weighs_every_reward_alike(share_of_bound)


def test_fairness_is_jains_index():
    index_is_jains(fairness_index)


def test_collisions_are_counted_over_whole_episodes():
    only_whole_episodes_count(collisions_per_episode)


def test_time_counts_unfinished_episodes_at_the_limit():
    unfinished_episodes_count_at_the_limit(time_to_finish)


def test_gain_is_the_share_of_what_independent_learners_leave():
    assert coordination_gain(30.0, 20.0, 40.0) == 0.5
    assert coordination_gain(40.0, 20.0, 40.0) == 1
    assert coordination_gain(20.0, 20.0, 40.0) == 0
    assert coordination_gain(10.0, 20.0, 40.0) == -0.5
    assert coordination_gain(-1.0, -3.0, 1.0) == 0.5


AMOUNTS = hnp.arrays(float, st.integers(1, 9), elements=st.floats(0, 1e200))


@given(AMOUNTS)
def test_fairness_lies_between_one_share_and_all(amounts):
    index = fairness_index(amounts)
    assert 1 / len(amounts) - 1e-9 <= index <= 1 + 1e-9


@given(hnp.arrays(float, st.integers(1, 9), elements=st.floats(0, 1e3)), st.floats(0.01, 100))
def test_fairness_does_not_depend_on_units_or_order(amounts, factor):
    assert fairness_index(factor * amounts) == pytest.approx(fairness_index(amounts), rel=1e-6)
    assert fairness_index(amounts[::-1]) == pytest.approx(fairness_index(amounts))


def test_fairness_of_many_rows_is_that_of_each():
    rows = np.random.default_rng(0).integers(0, 4, size=(3, 5, 4))
    index = fairness_index(rows)
    assert index.shape == (3, 5)
    for place in np.ndindex(3, 5):
        assert index[place] == pytest.approx(fairness_index(rows[place]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: share_of_bound([1.0], [1.0, 2.0]), r"returns and bounds must be \[E\]"),
        (lambda: share_of_bound([], []), "E >= 1"),
        (lambda: share_of_bound([1.0, 2.0], [-1.0, 1.0]), "must be positive to take a share of it, got 0"),
        (lambda: share_of_bound([1.0], [float("nan")]), "must be positive to take a share of it, got nan"),
        (lambda: coordination_gain(1.0, 2.0, 2.0), "must exceed the independent learners' return, got 2.0 and 2.0"),
        (lambda: fairness_index([1.0, -1.0]), "not negative, got -1"),
        (lambda: fairness_index([1.0, float("inf")]), "finite and not negative, got inf"),
        (lambda: fairness_index([]), r"n >= 1, got \(0,\)"),
        (lambda: fairness_index(3.0), r"n >= 1, got \(\)"),
        (lambda: time_to_finish([1, 2], [True], 5), r"lengths and finished must be \[E\]"),
        (lambda: time_to_finish([6.0], [True], 5), "longer than the limit 5, got 6 steps"),
        (lambda: collisions_per_episode([1, 2], [True, True]), r"must be \[T, N\] alike"),
        (lambda: collisions_per_episode([[1]], [[False]]), "no episode ended in 1 steps"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# Faults


@pytest.mark.parametrize(
    ("holds", "faulty"),
    [
        (share_weighs_every_reward_alike, lambda returns, bounds: np.mean(np.divide(returns, np.maximum(bounds, 1)))),
        (share_weighs_every_reward_alike, lambda returns, bounds: np.median(returns) / np.median(bounds)),
        (index_is_jains, lambda x: np.sum(x) ** 2 / max(np.square(x).sum(), 1)),
        (index_is_jains, lambda x: 1 - np.std(x) / max(np.mean(x), 1)),
        (index_is_jains, lambda x: np.min(x) / max(np.max(x), 1)),
        (only_whole_episodes_count, lambda collisions, ended: collisions.sum() / ended.sum()),
        (only_whole_episodes_count, lambda collisions, ended: collisions[ended].mean()),
        (only_whole_episodes_count, lambda collisions, ended: collisions.mean()),
        (unfinished_episodes_count_at_the_limit, lambda lengths, finished, limit: np.mean(np.array(lengths)[finished])),
        (unfinished_episodes_count_at_the_limit, lambda lengths, finished, limit: np.mean(lengths)),
    ],
)
def test_faults_break_a_property(holds, faulty):
    with pytest.raises(AssertionError):
        holds(faulty)
