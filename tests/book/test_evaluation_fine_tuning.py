"""The exercises on going on online hold as the page prints them."""

import re
from pathlib import Path

import pytest

from ca14lib.data.symmetric_replay import log_rows
from ca14lib.experiments.evaluation.fine_tuning import recorded
from ca14lib.metrics.unlearning import dip_area, lost_area
from tests.book.test_solutions import solution

PAGE = (Path(__file__).parents[2] / "book" / "evaluation" / "fine_tuning.md").read_text("utf8")


def test_every_solution_that_the_page_prints_is_tested_here():
    printed = set(re.findall(r"tests/book/solutions/(\w+)\.py", PAGE))
    tested = set(re.findall(r'solution\("(\w+)"\)', Path(__file__).read_text("utf8")))
    assert printed == tested
    for name in printed:
        assert '__name__ == "__main__"' in (Path(__file__).parent / "solutions" / f"{name}.py").read_text("utf8")


def test_areas_by_hand():
    steps, shares = [0, 10, 20, 40], [0.6, 0.2, 0.6, 1.0]
    assert dip_area(steps, shares) == pytest.approx(0.1)
    assert lost_area(steps, shares) == pytest.approx(0.4) == lost_area([0, 40], [0.6, 0.6])


def test_rows_of_a_batch():
    assert len(recorded(100)) == 552
    new_rows = 64 * 50 / 602
    assert new_rows == pytest.approx(5.3, abs=0.05)
    assert 64 - log_rows(64, 0.5) == 32
    assert 32 / new_rows == pytest.approx(6, rel=0.01)


def test_recorded_actions_under_the_reference_rest_at_their_mean_plus_the_weight():
    module = solution("fine_tuning_rest")
    calibrated = module.rest([-1.0, -1.3, 0.0], [9, 1, 0], alpha=0.2, reference=0.5)
    assert calibrated.tolist() == pytest.approx([-0.8, -1.1, -2.0], abs=1e-3)
    plain = module.rest([-1.0, -1.3, 0.0], [9, 1, 0], alpha=0.2, reference=-float("inf"))
    assert plain[2] < -5, "an unrecorded action sinks"
    assert plain[0] - plain[1] > 0.5, "the rarer action is pushed down more"
    # the better action is the rarer one: CQL turns the order round, calibration does not
    assert module.rest([-1.3, -1.0], [9, 1], alpha=0.2, reference=0.5).argmax() == 1
    assert module.rest([-1.3, -1.0], [9, 1], alpha=0.2, reference=-float("inf")).argmax() == 0


def test_another_normalizer_makes_another_policy():
    module = solution("fine_tuning_normalizer")
    pairs = [module.shares(seed) for seed in range(3)]
    assert all(abs(before - after) > 0.1 for before, after in pairs)
    assert sum(after < 0 for _, after in pairs) == 2
