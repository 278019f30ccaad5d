"""The numbers and the code of the page on healthcare hold."""

import re
from pathlib import Path

import numpy as np
import pytest

from tests.book.test_solutions import solution

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "book" / "evaluation" / "healthcare.md").read_text("utf8")


def test_every_solution_that_the_page_prints_is_tested_here():
    printed = set(re.findall(r"tests/book/solutions/(\w+)\.py", PAGE))
    tested = set(re.findall(r'solution\("(\w+)"\)', Path(__file__).read_text("utf8")))
    assert printed == tested


def test_theory_asks_for_a_hundred_thousand_visits():
    module = solution("healthcare_theory")
    assert module.visits_needed(716, 0.1, 17_825) == pytest.approx(101_800, abs=50)
    assert module.visits_needed(85, 0.1, 17_825) == pytest.approx(14_300, abs=50)
    stays = module.visits_needed(716, 0.1, 17_825) * 17_825 / 9
    assert stays == pytest.approx(2e8, rel=0.02)


def test_a_decision_takes_ten_thousand_stays_and_eight_comparisons_nearly_twice_as_many():
    module = solution("healthcare_power")
    both = np.hypot(0.4, 0.41)
    found = [module.stays_needed(0.01, deviation, k) for deviation in (0.4, both) for k in (1, 8)]
    assert found == pytest.approx([9_900, 17_800, 20_300, 36_600], rel=0.01)


def test_a_gate_does_not_make_up_for_what_is_submitted():
    def harmful(share: float, level: float, power: float) -> float:
        return share * level / (share * level + (1 - share) * power)

    found = [harmful(*case) for case in ((0.9, 0.05, 0.3), (0.9, 0.005, 0.3), (0.9, 0.05, 0.9), (0.5, 0.05, 0.3))]
    assert found == pytest.approx([0.6, 0.13, 0.33, 0.14], abs=0.005)


def test_an_alarm_takes_about_a_thousand_patients():
    module = solution("healthcare_monitor")
    growth = [module.growth(rate) for rate in (0.75, 0.70)]
    assert growth == pytest.approx([0.00254, 0.0109], abs=5e-5)
    assert [np.log(20) / each for each in growth] == pytest.approx([1_180, 275], rel=0.01)
    assert module.standstill() == pytest.approx(0.765, abs=5e-4)
    stays = module.stays_until_alarm(0.75)
    assert np.median(stays) == pytest.approx(970, rel=0.1)
    assert np.median(stays) < np.log(20) / growth[0]
    assert np.isfinite(module.stays_until_alarm(0.775, 500)).mean() < 0.3
