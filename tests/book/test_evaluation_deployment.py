"""The numbers and the code of the page on deployment hold."""

import re
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from ca14lib.deployment.model_card import QUESTIONS
from tests.book.test_solutions import solution

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "book" / "evaluation" / "deployment.md").read_text("utf8")


def test_every_solution_that_the_page_prints_is_tested_here():
    printed = set(re.findall(r"tests/book/solutions/(\w+)\.py", PAGE))
    tested = set(re.findall(r'solution\("(\w+)"\)', Path(__file__).read_text("utf8")))
    assert printed == tested


def test_the_page_lists_the_factors_of_the_checklist():
    for factor in QUESTIONS:
        assert f"| {factor} |" in PAGE


def test_the_plain_quantile_is_exceeded_too_often():
    module = solution("evaluation_deployment_quantile")
    assert [round(module.plain_rate(count, 0.05), 3) for count in (19, 30, 99)] == [0.05, 0.065, 0.05]
    assert module.probability_of_more(99, 0.05, 0.08) == pytest.approx(0.09, abs=0.005)
    assert module.rank_of(99, 0.05) == 95
    rng = np.random.default_rng(0)
    exceeded = [rng.random() > np.sort(rng.random(30))[28] for _ in range(20_000)]
    assert np.mean(exceeded) == pytest.approx(2 / 31, abs=0.006)


def test_a_rate_per_step_is_no_rate_per_episode():
    module = solution("evaluation_deployment_steps")
    assert 3.4e-5 < 0.95**200 < 3.6e-5
    assert module.alarmed(0.0, per_episode=False, calibrations=5) > 0.999
    assert module.alarmed(0.95, per_episode=False, calibrations=10) == pytest.approx(0.72, abs=0.04)
    for memory in (0.0, 0.95):
        assert module.alarmed(memory, per_episode=True) == pytest.approx(0.05, abs=0.012)


def test_a_detector_calibrated_on_its_own_data_cries_wolf():
    module = solution("evaluation_deployment_fitted")
    assert module.false_alarms(True) == pytest.approx(0.61, abs=0.02)
    assert module.false_alarms(False) == pytest.approx(0.1, abs=0.02)


def test_a_watchdog_that_reacts_is_late_by_a_step_and_the_fallback():
    module = solution("evaluation_deployment_react")
    assert module.worst(2.0, look_ahead=False) == 2.0 + 1.0 + 0.5
    assert module.worst(2.0, look_ahead=True) == 2.0
    assert module.worst(0.5, look_ahead=False) == 2.0


def test_the_best_action_of_a_mixed_policy_may_break_its_limit():
    module = solution("evaluation_deployment_greedy")
    within = {limit: module.cost_of_program(limit) <= limit for limit in (0.0, 0.4, 0.6, 0.9, 1.0, 2.0)}
    assert within == {0.0: True, 0.4: True, 0.6: False, 0.9: False, 1.0: True, 2.0: True}
    assert module.mixed(0.6) @ [0, 1] == pytest.approx(0.6)


def test_repetitions_betray_a_stuck_sensor_at_once():
    module = solution("evaluation_deployment_stuck")
    assert set(module.first_alarms("none")) == {None}
    first = np.mean([alarm == 1 for alarm in module.first_alarms("stuck sensor")])
    assert scipy.stats.binomtest(round(400 * first), 400, 0.7).pvalue > 1e-3
