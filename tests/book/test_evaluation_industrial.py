"""The code solutions of the page on industrial control run as printed, and what it claims about them holds."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from ca14lib.environments.reactor import reaction_rate
from ca14lib.solvers.reactor_control import MPCConfig

SOLUTIONS = Path(__file__).parent / "solutions"
PAGE = Path(__file__).parents[2] / "book" / "evaluation" / "industrial.md"


def solution(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, SOLUTIONS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_solution_that_is_printed_is_tested_here():
    printed = set(re.findall(r"tests/book/solutions/(\w+)\.py", PAGE.read_text("utf8")))
    tested = set(re.findall(r'solution\("(\w+)"\)', Path(__file__).read_text("utf8")))
    assert printed == tested


def test_two_steps_late_no_proportional_gain_holds_the_reactor():
    module = solution("evaluation_industrial_delay")
    assert module.stable_gains(0) == pytest.approx((0.064, 0.482))
    assert module.stable_gains(1) == pytest.approx((0.099, 0.151))
    assert module.stable_gains(2) is None
    eigenvalues = np.sort(np.linalg.eigvals(module.linearised()[0]))
    np.testing.assert_allclose(eigenvalues, (-0.454, 2.833), atol=0.001)
    assert np.exp(2.833 * 1.6) == pytest.approx(93, abs=0.5)
    assert np.exp(2.833 * 0.1) == pytest.approx(1.33, abs=0.005)


def test_an_integral_that_winds_up_comes_back_late():
    module = solution("evaluation_industrial_windup")
    assert (module.minutes_beyond(True), module.minutes_beyond(False)) == (35, 221)


def test_two_factors_need_two_sensors():
    module = solution("evaluation_industrial_factors")
    np.testing.assert_allclose(module.deviations(200, (1,)), (0.071, 0.071), atol=0.001)
    np.testing.assert_allclose(module.deviations(200, (0, 1)), (0.011, 0.010), atol=0.001)


def test_a_margin_costs_set_points():
    module = solution("evaluation_industrial_margin")
    found = [(module.least_set_point(355 - m), module.unreachable(355 - m)) for m in (0, 1, 2)]
    np.testing.assert_allclose(found, [(0.413, 0.25), (0.430, 0.32), (0.447, 0.39)], atol=0.005)


def test_numbers_of_the_text():
    assert MPCConfig().rollouts == 56
    assert MPCConfig().horizon == 16
    ratio = np.exp(0.01 * 8750 / 350)
    assert ratio == pytest.approx(1.284, abs=0.001)
    assert reaction_rate(np.array(350.0)) == pytest.approx(1.0, abs=1e-3)
