"""The numbers and the code of the page on energy hold."""

import re
from pathlib import Path

import numpy as np
import pytest

from ca14lib.environments.applications.microgrid import Microgrid
from tests.book.test_solutions import solution

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "book" / "evaluation" / "energy.md").read_text("utf8")


def test_every_solution_that_the_page_prints_is_tested_here():
    printed = set(re.findall(r"tests/book/solutions/(\w+)\.py", PAGE))
    tested = set(re.findall(r'solution\("(\w+)"\)', Path(__file__).read_text("utf8")))
    assert printed == tested


def test_the_night_pays():
    full, out = 6 / np.sqrt(0.9), 6 * np.sqrt(0.9)
    assert (round(full, 2), round(out, 2)) == (6.32, 5.69)
    assert round(out * 0.42 - full * 0.20, 2) == 1.13
    assert [round(second / first, 1) for first, second in ((0.20, 0.28), (0.20, 0.42), (0.28, 0.42))] == [1.4, 2.1, 1.5]


def test_all_in_the_same_hour():
    module = solution("energy_same_hour")
    assert Microgrid(1).mean_profiles()[0][:, 1].sum() == pytest.approx(1.2, abs=0.01)
    assert module.first_hour(1) == pytest.approx(0.2 * 3.7, abs=0.01)
    assert module.first_hour(3) == pytest.approx(6.40 + 1.10, abs=0.02)


def test_one_variable_delivers_too_much():
    module = solution("energy_one_variable")
    assert round(module.delivered(True), 2) == 6.32
    assert round(module.delivered(False), 2) == 5.69
    assert round(0.42 * (module.delivered(True) - module.delivered(False)), 2) == 0.27


def test_two_ways_to_average():
    module = solution("energy_ratio")
    assert round(module.ratio_of_means, 2) == 0.88
    assert round(module.mean_of_ratios, 2) == -0.05


def test_a_forecast_is_worth_something_only_if_days_differ():
    module = solution("energy_forecast")
    still, noisy = module.mean_bills(0.0, days=2), module.mean_bills(1.0, days=6)
    assert still["mean"] == pytest.approx(still["perfect"], abs=0.02)
    assert still["bound"] < still["perfect"] < still["idle"]
    assert noisy["bound"] < noisy["perfect"] < noisy["mean"] < noisy["idle"]


def test_the_sizes_that_the_page_states():
    assert 31**3 == 29_791
    assert round(29_791**2 / 1e6) == 888
    assert 500_000 // 24 == 20_833
