"""The numbers and the code of the page on value decomposition hold."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from ca14lib.experiments.multi_agent.two_step import monotonic_fit
from tests.book.test_solutions import solution

PAGE = (Path(__file__).parents[2] / "book" / "multi_agent" / "value_decomposition.md").read_text("utf8")


def test_every_solution_that_the_page_prints_is_tested_here() -> None:
    printed = set(re.findall(r"tests/book/solutions/(\w+)\.py", PAGE))
    tested = set(re.findall(r'solution\("(\w+)"\)', Path(__file__).read_text("utf8")))
    assert printed == tested


def test_long_returns_of_exploring_agents() -> None:
    module = solution("multi_agent_long_returns")
    assert module.target(0.65, 1.0) == pytest.approx(0.65 * 2.5 + 0.35 * 8)
    assert module.target(1 / 5.5, 1.0) == pytest.approx(7)
    assert module.largest_epsilon(0.65) == pytest.approx(0.231, abs=5e-4)
    assert module.target(0.65, module.largest_epsilon(0.65)) == pytest.approx(7)
    assert module.target(0.65, 0.5) == pytest.approx(6.0, abs=0.05)
    assert module.largest_epsilon(1.0) == pytest.approx(0.148, abs=5e-4)
    for decay, epsilon in ((0.65, 0.5), (1.0, 0.2)):
        assert module.simulated(decay, epsilon) == pytest.approx(module.target(decay, epsilon), abs=0.03)


def test_a_mask_that_multiplies() -> None:
    module = solution("multi_agent_multiplying_mask")
    assert module.values(module.right).tolist() == [-5, -4, -3, -2, -1]
    assert module.values(module.wrong).tolist() == [-1] * 5
    assert (module.right(np.array([-2.0, -1.0])), module.wrong(np.array([-2.0, -1.0]))) == (-2, 0)
    q, mask = torch.tensor([-2.0, -1.0]), torch.tensor([True, False])
    assert (q * mask).max() == 0, "the line of the exercise"


def test_three_tables() -> None:
    module = solution("multi_agent_tables")
    assert module.errors("sum") == pytest.approx([0, 0], abs=1e-9)
    assert module.errors("and") == pytest.approx([0.25, 0], abs=1e-9)
    assert module.errors("either") == pytest.approx([1, 2 / 3], abs=1e-6)
    table, fit = np.array(module.TABLES["either"], dtype=float), monotonic_fit(module.TABLES["either"])
    kinds = ([[0, 2 / 3], [2 / 3, 2 / 3]], [[1 / 3, 1], [1 / 3, 1 / 3]])
    assert [np.square(np.array(kind) - table).sum() for kind in kinds] == pytest.approx([2 / 3] * 2)
    assert any(np.sort(fit, axis=None) == pytest.approx(np.sort(kind, axis=None), abs=1e-6) for kind in kinds)
    assert module.fit_of_the_best(26 / 3) == pytest.approx(7)
    assert module.fit_of_the_best(8) == pytest.approx(6.5)
