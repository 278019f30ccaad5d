"""The numbers and the code of the page on foundation models hold."""

import re
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import beta

from tests.book.test_solutions import solution

PAGE = (Path(__file__).parents[2] / "book" / "evaluation" / "foundation_models.md").read_text("utf8")


def test_every_solution_that_the_page_prints_is_tested_here():
    printed = set(re.findall(r"tests/book/solutions/(\w+)\.py", PAGE))
    tested = set(re.findall(r'solution\("(\w+)"\)', Path(__file__).read_text("utf8")))
    assert printed == tested


def test_conditioning_on_survival_stays_with_the_clinicians():
    module = solution("foundation_conditioned")
    policy = module.conditioned()
    np.testing.assert_allclose(policy.sum(axis=1), 1.0)
    found = module.survival()
    assert list(found.values()) == pytest.approx([0.7818, 0.7830, 0.8618], abs=5e-5)
    alive = ~module.MODEL.terminal
    likelier = policy[alive] / np.maximum(module.CLINICIANS[alive], 1e-12)
    assert (likelier <= 1 / module.HELD.value[alive][:, None] + 1e-9).all()


def test_the_interval_of_84_of_100():
    low, high = beta.ppf(0.025, 84, 17), beta.ppf(0.975, 85, 16)
    assert (low, high) == pytest.approx((0.75, 0.91), abs=0.005)
