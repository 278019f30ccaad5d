"""The numbers and the code of the page on robots hold."""

import re
from pathlib import Path

import numpy as np
import pytest

from ca14lib.environments.applications.robotics import ComputedTorque
from ca14lib.environments.velocity import VELOCITY_LIMITS
from tests.book.test_solutions import solution

PAGE = (Path(__file__).parents[2] / "book" / "evaluation" / "robotics.md").read_text("utf8")


def test_every_solution_that_the_page_prints_is_tested_here():
    printed = set(re.findall(r"tests/book/solutions/(\w+)\.py", PAGE))
    tested = set(re.findall(r'solution\("(\w+)"\)', Path(__file__).read_text("utf8")))
    assert printed == tested


@pytest.mark.parametrize(("frequency", "margin", "last"), [(7.0, 5.1, 4), (10.0, 3.6, 3)])
def test_the_arm_swings_from_the_step_that_the_margin_says(frequency, margin, last):
    module = solution("evaluation_robotics_delay")
    assert module.longest_delay(frequency, 0.8) / 0.02 == pytest.approx(margin, abs=0.05)
    law = ComputedTorque(frequency, 0.8)
    assert module.late_distance(law, last) < 0.001
    assert module.late_distance(law, last + 1) > 0.01
    if frequency == 10.0:
        assert module.late_distance(law, last + 1) == pytest.approx(0.15, abs=0.01)


def test_doing_nothing_scores_four_fifths_where_zero_is_the_random_policy():
    module = solution("evaluation_robotics_zero")
    assert module.share_of_rest() == pytest.approx(0.79, abs=0.01)
    assert module.mean_return(np.zeros) > -12


def test_a_dead_shoulder_leaves_seven_centimetres():
    module = solution("evaluation_robotics_circle")
    assert module.least_mean_distance() == pytest.approx(0.070, abs=5e-4)


def test_encoders_err_more_than_the_camera():
    across = np.hypot(0.21, 0.11) * 0.02
    assert 1e3 * across == pytest.approx(4.7, abs=0.05)
    together = [1e3 * np.hypot(one, other) for one, other in ((across, 0.002), (across / 2, 0.002), (across, 0.001))]
    assert together == pytest.approx([5.1, 3.1, 4.8], abs=0.06)


def test_the_worst_of_means_is_no_less_than_the_mean_of_worsts():
    shares = np.random.default_rng(0).uniform(size=(200, 4, 6))
    assert (shares.mean(axis=1).min(axis=1) >= shares.min(axis=2).mean(axis=1)).all()
    crossed = np.array([[0.0, 1.0], [1.0, 0.0]])
    assert (crossed.mean(axis=0).min(), crossed.min(axis=1).mean()) == (0.5, 0.0)


def test_the_budget_adds_little_to_the_bound():
    limit = VELOCITY_LIMITS["Hopper"]
    bound = 1_000 * (1 + limit)
    assert bound == pytest.approx(1740.2)
    fast = 1_000 + 975 * limit + 25 * 3.0
    assert (fast, fast / bound) == pytest.approx((1796.7, 1.032), abs=0.05)
    assert (1.2 * bound - 1_000 - 975 * limit) / 25 > 14
