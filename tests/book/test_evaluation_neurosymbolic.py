"""The numbers and the code of the page on neurosymbolic methods hold."""

import re
from pathlib import Path

import numpy as np
import pytest

from ca14lib.environments import tabular_model
from ca14lib.solvers import occupancy_measure, policy_return, value_iteration
from tests.book.test_solutions import solution

PAGE = (Path(__file__).parents[2] / "book" / "evaluation" / "neurosymbolic.md").read_text("utf8")


def test_every_solution_that_the_page_prints_is_tested_here():
    printed = set(re.findall(r"tests/book/solutions/(\w+)\.py", PAGE))
    tested = set(re.findall(r'solution\("(\w+)"\)', Path(__file__).read_text("utf8")))
    assert printed == tested


def test_fewest_mistakes_walk_over_the_cliff():
    module = solution("neurosymbolic_split")
    assert module.split(np.ones(6)) == (4, ("right", "left"), pytest.approx(10.0))
    assert module.split(module.LOSS) == (1, ("left", "right"), pytest.approx(0.2))


def test_losses_add_up_over_the_visits_of_the_imitator():
    model = tabular_model("CA14/GridWorld-v0")
    best = value_iteration(model, 0.9)
    policy = np.random.default_rng(0).dirichlet(np.ones(model.num_actions), size=model.num_states)
    loss = best.value[:, None] - best.q
    lost = (occupancy_measure(model, policy, 0.9) * loss).sum()
    assert best.optimal_return - policy_return(model, policy, 0.9) == pytest.approx(lost)
