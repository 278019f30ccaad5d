"""The code solutions of the page on driving run as printed, and what it claims about them holds."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from ca14lib.environments.applications.junction import junction_model
from ca14lib.experiments.evaluation.driving import both_go, joint_table
from ca14lib.solvers import policy_costs

SOLUTIONS = Path(__file__).parent / "solutions"
PAGE = Path(__file__).parents[2] / "book" / "evaluation" / "driving.md"


def solution(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, SOLUTIONS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_solution_that_is_printed_is_tested_here():
    printed = set(re.findall(r"tests/book/solutions/(\w+)\.py", PAGE.read_text("utf8")))
    tested = set(re.findall(r'solution\("(\w+)"\)', Path(__file__).read_text("utf8")))
    assert printed == tested


def test_on_a_dry_road_the_right_of_way_costs_something():
    module = solution("evaluation_driving_slip")
    assert module.gap(0.0) == pytest.approx((0.778, 0.0), abs=0.001)
    assert module.gap(0.02) == pytest.approx((0.486, 0.0152), abs=0.001)
    assert module.gap(0.1) == pytest.approx((0.0, 0.0), abs=1e-9)
    assert module.threshold() == pytest.approx(0.057)


def test_drives_without_a_crash_prove_little():
    module = solution("evaluation_driving_confidence")
    assert module.upper_limit(30) == pytest.approx(0.095, abs=0.0005)
    assert module.drives_needed(1e-3) == 2_995


def test_a_gap_without_units_brakes_twice_as_early():
    module = solution("evaluation_driving_units")
    assert module.braking_distance(module.brakes_in_metres, 25.0) == 45
    assert module.braking_distance(module.brakes_without_units, 25.0) == 93


def test_numbers_of_the_text():
    assert policy_costs(junction_model(0.0), joint_table(both_go))[0] == pytest.approx(1 / 3)
    assert policy_costs(junction_model(0.1), joint_table(both_go))[0] == pytest.approx(0.32, abs=0.005)
