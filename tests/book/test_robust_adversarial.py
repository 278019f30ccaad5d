"""The code solutions of the page on attacks run as printed, and what it claims about them holds."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

SOLUTIONS = Path(__file__).parent / "solutions"
PAGE = Path(__file__).parents[2] / "book" / "robust" / "adversarial.md"


def solution(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, SOLUTIONS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_solution_that_is_printed_is_tested_here():
    printed = set(re.findall(r"tests/book/solutions/(\w+)\.py", PAGE.read_text("utf8")))
    tested = set(re.findall(r'solution\("(\w+)"\)', Path(__file__).read_text("utf8")))
    assert printed == tested


def test_entropy_is_raised_where_it_costs_least():
    module = solution("adversarial_entropy")
    assert module.choices() == {"entropy": -1.0, "value": 1.0}
    left, centre, right = module.value(torch.tensor([-1.0, 0.0, 1.0])).tolist()
    assert centre - left == pytest.approx(0.05, abs=0.01)
    assert centre - right == pytest.approx(11, abs=0.1)


def test_from_the_centre_nothing_moves_and_from_elsewhere_either_end_is_reached():
    module = solution("adversarial_centre")
    centre, points = module.reached()
    assert centre == 0
    np.testing.assert_allclose(points.unique(), [0.3, 0.7])
    assert 0.3 < float((points < 0.5).double().mean()) < 0.7
    ends = torch.tensor([[0.3], [0.7]], dtype=torch.float64)
    found = module.divergence(ends, torch.full((2, 1), 0.5, dtype=torch.float64))
    np.testing.assert_allclose(found, [0.030, 0.024], atol=0.0005)


def test_the_divergence_vanishes_with_the_scale_and_the_flips_do_not():
    module = solution("adversarial_scale")
    assert module.worst_divergence(0.01) == pytest.approx(0.01**2 * 0.2**2 / 8, rel=0.01)
    assert module.share_flipped(3.0) == module.share_flipped(0.01) == pytest.approx(0.2, abs=0.005)


def test_bounds_without_the_exchange_are_violated():
    module = solution("adversarial_intervals")
    assert module.share_violated(module.sound_bounds) == 0
    assert module.share_violated(module.faulty_bounds) > 0.95


def test_the_tree_grows_as_the_page_says():
    assert np.log(4096) / np.log(1.05) == pytest.approx(170, abs=1)
    assert np.log(1000) / np.log(1.05) == pytest.approx(142, abs=1)
