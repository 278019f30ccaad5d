"""Measures of continual learning on a matrix that is done by hand."""

import numpy as np
import pytest

from ca14lib.metrics.continual import (
    average_share,
    backward_transfer,
    forgetting,
    forward_transfer,
    unavoidable_forgetting,
)

SHARES = [[0.9, 0.2, 0.0], [0.5, 1.0, 0.3], [0.6, 0.7, 0.8]]  # after each stage, on each task
ORDER = [0, 1, 2]


def test_measures_by_hand():
    assert average_share(SHARES) == pytest.approx(0.7)
    assert forgetting(SHARES, ORDER) == pytest.approx(((0.9 - 0.6) + (1.0 - 0.7)) / 2)
    assert backward_transfer(SHARES, ORDER) == pytest.approx(((0.6 - 0.9) + (0.7 - 1.0)) / 2)
    assert forward_transfer(SHARES, ORDER, [0.0, 0.1, 0.1]) == pytest.approx(((0.2 - 0.1) + (0.3 - 0.1)) / 2)


def test_what_got_better_later_is_forgotten_from_its_best():
    rising = [[0.5, 0.0, 0.0], [0.8, 1.0, 0.0], [0.6, 1.0, 1.0]]
    assert forgetting(rising, ORDER) == pytest.approx((0.2 + 0.0) / 2)
    assert backward_transfer(rising, ORDER) == pytest.approx((0.1 + 0.0) / 2)


def test_a_share_before_a_task_is_trained_is_no_knowledge_to_forget():
    lucky = [[1.0, 0.9], [1.0, 0.4], [1.0, 0.4]]
    assert forgetting(lucky, [0, 1, 0]) == pytest.approx(0.0)


def test_several_passes_count_from_the_first_stage_of_a_task():
    twice = [[1.0, 0.0], [0.2, 1.0], [1.0, 0.1], [0.3, 0.9]]
    assert forgetting(twice, [0, 1, 0, 1]) == pytest.approx(0.7)
    assert backward_transfer(twice, [0, 1, 0, 1]) == pytest.approx(-0.7)
    assert forward_transfer(twice, [0, 1, 0, 1], [0.0, -0.5]) == pytest.approx(0.5)


def test_the_bound_is_reached_by_a_learner_that_masters_each_task_and_ends_at_the_best_average():
    best, tasks = 0.7, 4
    rest = (tasks * best - 1) / (tasks - 1)  # what is left for the tasks before the last
    shares = np.tril(np.full((tasks, tasks), rest), -1) + np.eye(tasks)
    assert average_share(shares) == pytest.approx(best)
    assert forgetting(shares, range(tasks)) == pytest.approx(unavoidable_forgetting(best, tasks))
    assert unavoidable_forgetting(1.0, 4) == 0


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: average_share([]), r"shape \[stages, tasks\]"),
        (lambda: average_share([[np.nan]]), "shares must be finite, got nan"),
        (lambda: forgetting(SHARES, [0, 1]), "for each of 3 stages"),
        (lambda: forgetting(SHARES, [0, 1, 3]), "one of 3 tasks"),
        (lambda: forgetting(SHARES, [1, 1, 1]), "at least two tasks"),
        (lambda: backward_transfer(SHARES, [2, 2, 2]), "at least two tasks"),
        (lambda: forward_transfer(SHARES, ORDER, [0.0]), "start must hold 3 finite shares"),
        (lambda: forward_transfer(SHARES, [0, 0, 0], [0, 0, 0]), "begins after the first stage"),
        (lambda: unavoidable_forgetting(0.5, 1), "tasks must be at least 2, got 1"),
        (lambda: unavoidable_forgetting(1.5, 2), "best_single must be at most 1, got 1.5"),
    ],
)
def test_bad_input_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
