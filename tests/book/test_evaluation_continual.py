"""The exercises on changing goals hold as the page prints them."""

import re
from pathlib import Path

import pytest
import torch

from ca14lib.experiments.evaluation import continual as experiment
from ca14lib.metrics.continual import (
    average_share,
    backward_transfer,
    forgetting,
    forward_transfer,
    unavoidable_forgetting,
)
from tests.book.test_solutions import solution

PAGE = (Path(__file__).parents[2] / "book" / "evaluation" / "continual.md").read_text("utf8")


def test_every_solution_that_the_page_prints_is_tested_here():
    printed = set(re.findall(r"tests/book/solutions/(\w+)\.py", PAGE))
    tested = set(re.findall(r'solution\("(\w+)"\)', Path(__file__).read_text("utf8")))
    assert printed == tested
    for name in printed:
        assert '__name__ == "__main__"' in (Path(__file__).parent / "solutions" / f"{name}.py").read_text("utf8")


def test_numbers_by_hand():
    shares, order = [[0.9, 0.2, 0.0], [0.5, 1.0, 0.3], [0.6, 0.7, 0.8]], [0, 1, 2]
    found = average_share(shares), forgetting(shares, order), backward_transfer(shares, order)
    assert found == pytest.approx((0.7, 0.3, -0.3))
    assert forward_transfer(shares, order, [0.0, 0.1, 0.1]) == pytest.approx(0.15)


def test_what_the_page_says_of_the_corners():
    yardsticks = experiment.yardstick_table().set_index("policy")["average"]
    assert yardsticks["best of all, with memory"] == pytest.approx(0.738, abs=5e-4)
    assert yardsticks["the shortest way to one goal"] == pytest.approx(0.114, abs=5e-4)
    assert unavoidable_forgetting(experiment.best_single_share(), 4) == pytest.approx(0.35, abs=0.005)
    assert unavoidable_forgetting(0.5, 2) == 1


def test_a_hidden_goal_is_not_chance():
    shares = sorted(solution("continual_mean_model").shares())
    assert shares == pytest.approx([-0.18] * 3 + [1.0], abs=0.005)
    assert sum(shares) / 4 == pytest.approx(0.11, abs=0.005)


def test_slopes_of_both_signs_cancel():
    module = solution("continual_fisher")
    assert module.both(torch.tensor([[1.0], [-1.0]])) == (1.0, 0.0)
    right, cheap = module.both(torch.tensor([[1.0], [3.0]]))
    assert (right, cheap) == (5.0, 4.0)
