"""The numbers and the code of the page on risk measures hold."""

import re
from pathlib import Path

import numpy as np
import pytest

from ca14lib.metrics import conditional_value_at_risk, entropic_risk, mean_variance_risk, value_at_risk
from tests.book.test_solutions import solution
from tests.metrics.test_risk import COVERED, PERCENTILE

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "book" / "safe" / "risk.md").read_text("utf8")


def test_every_solution_that_the_page_prints_is_tested_here():
    printed = set(re.findall(r"tests/book/solutions/(\w+)\.py", PAGE))
    tested = set(re.findall(r'solution\("(\w+)"\)', Path(__file__).read_text("utf8")))
    assert printed == tested


def test_three_formulas_for_one_tail():
    module = solution("risk_atoms")
    losses, probabilities = module.LOSSES, module.PROBABILITIES
    assert value_at_risk(losses, 0.8, probabilities) == 2
    numbers = (module.from_the_quantile_on(0.8), 5.5, module.beyond_the_quantile(0.8))
    assert numbers == pytest.approx((3.75, 5.5, 6.67), abs=0.005)
    assert conditional_value_at_risk(losses, 0.8, probabilities) == pytest.approx(5.5)
    for alpha in np.linspace(0.01, 0.99, 99).round(2):
        exact = conditional_value_at_risk(losses, alpha, probabilities)
        assert module.from_the_quantile_on(alpha) <= exact + 1e-12
        assert (module.from_the_quantile_on(alpha) == pytest.approx(exact)) == (alpha > 0.95)
        if alpha <= 0.95:
            assert exact <= module.beyond_the_quantile(alpha) + 1e-12
            assert (module.beyond_the_quantile(alpha) == pytest.approx(exact)) == (alpha in (0.60, 0.85, 0.95))
    tail = [v + probabilities @ np.maximum(losses - v, 0) / 0.3 for v in (0, 2, 5)]
    assert tail == pytest.approx([5, 4.33, 5.83], abs=0.005)
    assert conditional_value_at_risk(losses, 0.7, probabilities) == pytest.approx(min(tail))


def test_a_plan_that_is_not_kept():
    module = solution("risk_two_stages")
    assert module.risk_of_plan("sure", "bet") == module.risk_of_plan("bet", "bet") == pytest.approx(4.9)
    assert module.risk_of_plan("sure", "sure") == module.risk_of_plan("bet", "sure") == pytest.approx(5)
    assert module.choice_when_asked_again() == "sure"


def test_weights_without_the_quantile_climb():
    module = solution("risk_without_baseline")
    right, wrong = module.descend(module.right), module.descend(module.wrong)
    assert right < 0.01
    assert module.risk(right) == pytest.approx(5, abs=0.02)
    assert wrong == pytest.approx(2 / 3, abs=0.03)
    assert module.risk(wrong) > module.risk(0.5) > module.risk(right)
    assert max(module.risk(p) for p in np.linspace(0, 1, 101)) == pytest.approx(6)


def test_two_loans():
    one, both = [0.0, 1.0], [0.0, 1.0, 2.0]
    alone, together = [0.96, 0.04], [0.9216, 0.0768, 0.0016]
    assert value_at_risk(one, 0.95, alone) == 0
    assert value_at_risk(both, 0.95, together) == 1
    wrong = np.average(both[1:], weights=together[1:])
    assert wrong == pytest.approx(0.08 / 0.0784)
    assert 12 < wrong / (2 * 0.04) < 13


def test_numbers_of_the_counterexamples():
    assert entropic_risk([0, 1], 1.0) == pytest.approx(0.620, abs=5e-4)
    assert entropic_risk([0, 2], 1.0) == pytest.approx(1.434, abs=5e-4)
    assert mean_variance_risk([0, -3], 1.0, [3, 1]) == pytest.approx(0.94, abs=0.005)
    assert conditional_value_at_risk([0, 10], 0.95, [0.99, 0.01]) == pytest.approx(2)


NAMES = {
    r"$\operatorname{CVaR}_{0.9}$": "conditional_value_at_risk",
    r"$\operatorname{VaR}_{0.9}$": "value_at_risk",
    r"$\operatorname{Ent}_{0.5}$": "entropic_risk",
    r"$\operatorname{MV}_{0.5}$": "mean_variance_risk",
}


def test_coverages_on_the_page_are_those_that_simulations_are_held_to():
    rows = re.findall(r"^\| (normal|exponential) \| (\S+) \| ([\d.]+) \| ([\d.]+|none) \|$", PAGE, re.MULTILINE)
    printed = {}
    for losses, measure, percentile, studentized in rows:
        printed[True, losses, NAMES[measure]] = float(percentile)
        if studentized != "none":
            printed[False, losses, NAMES[measure]] = float(studentized)
    held = {(interval is PERCENTILE, losses, measure): share for interval, losses, measure, _, share in COVERED}
    assert len(rows) == 8
    assert printed == held


def test_the_tests_that_the_page_names_exist():
    for path in re.findall(r"`(tests/[\w/]+\.py)`", PAGE):
        assert (ROOT / path).exists()
