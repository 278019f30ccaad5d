"""The numbers and the code of the page on evaluation hold."""

import re
from pathlib import Path

import numpy as np
import pytest

from tests.book.test_solutions import solution

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "book" / "evaluation" / "framework.md").read_text("utf8")


def test_every_solution_that_the_page_prints_is_tested_here():
    printed = set(re.findall(r"tests/book/solutions/(\w+)\.py", PAGE))
    tested = set(re.findall(r'solution\("(\w+)"\)', Path(__file__).read_text("utf8")))
    assert printed == tested


def test_a_scale_that_is_relative_changes_a_ranking():
    module = solution("evaluation_company")
    assert module.alone[:2] == [0.75, 0.875]
    assert module.joined[:2] == pytest.approx([0.778, 0.986], abs=5e-4)
    assert module.overtaken[:2] == pytest.approx([0.524, 0.423], abs=5e-4)


def test_the_best_checkpoint_flatters():
    module = solution("evaluation_best")
    assert module.best_of(20, 10) == pytest.approx(111.8, abs=0.1)
    assert module.best_of(20, 1395) < 101.02
    assert 1.867 * 20 / np.sqrt(1394) > 1 > 1.867 * 20 / np.sqrt(1395)


def test_the_originals_threshold_depends_on_the_unit():
    module = solution("evaluation_threshold")
    rewards = [-50, -20, -12, -10]
    assert module.original(rewards) == 4
    moved = [reward + 100 for reward in (-50, -20, -10, -10)]
    assert module.original(moved) == 1
    for shift, scale in ((0, 1), (100, 1), (7, 0.3)):
        assert module.mended([shift + scale * value for value in rewards], shift - 60 * scale, shift) == 2


def test_profiles_cross():
    module = solution("evaluation_crossing")
    assert module.profiles[0].tolist() == [1, 1, 1, 0, 0, 0]
    assert module.profiles[1].tolist() == [0.5, 0.5, 0.5, 0.5, 0.5, 0]
    assert module.middles == pytest.approx([0.5, 0.45])
    assert module.gaps == pytest.approx([0.5, 0.55])
    assert module.improvement == 0.5


def test_a_limit_is_no_weight():
    module = solution("evaluation_law")
    assert module.lead(5 / 7) == pytest.approx(0)
    assert module.lead(0.72) > 0 > module.lead(0.71)
    assert module.lead(0.5, weight=0.35) == pytest.approx(0)
    assert module.lead(1e-6, weight=0.7) > 0 > module.lead(1e-6, weight=0.69)


def test_the_deviation_of_a_drawn_weight():
    assert np.sqrt(0.25 * 0.75 / 11) == pytest.approx(0.13, abs=5e-3)
    drawn = np.random.default_rng(0).dirichlet(10 * np.array([0.2, 0.25, 0.25, 0.2, 0.1]), 20_000)[:, 1]
    assert drawn.std() == pytest.approx(0.1306, abs=3e-3)
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert (low, high) == pytest.approx((0.06, 0.53), abs=0.02)
