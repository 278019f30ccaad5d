"""The numbers and the code of the page on domain randomisation hold."""

import re
from pathlib import Path

import numpy as np
import pytest

from tests.book.test_solutions import solution

PAGE = (Path(__file__).parents[2] / "book" / "robust" / "domain_randomisation.md").read_text("utf8")


def test_every_solution_that_the_page_prints_is_tested_here():
    printed = set(re.findall(r"tests/book/solutions/(\w+)\.py", PAGE))
    tested = set(re.findall(r'solution\("(\w+)"\)', Path(__file__).read_text("utf8")))
    assert printed == tested


def test_memory_is_worth_something_where_the_prize_is_drawn_once():
    module = solution("robust_dr_doors")
    policies = module.stubborn, module.coin, module.remembering
    once, anew = ([module.expected_return(make(2, 2), 2, 2, redrawn) for make in policies] for redrawn in (False, True))
    assert once == pytest.approx([0.35, 0.6, 0.85])
    assert anew == pytest.approx([0.6, 0.6, 0.6])
    three = [module.expected_return(make(3, 3), 3, 3, False) for make in policies]
    assert three[1:] == pytest.approx([0.49, 0.8], abs=0.005)
    biased = {tried: np.array([0.6, 0.4]) for tried in module.histories(2, 2)}
    assert module.expected_return(biased, 2, 2, False) < 0.6


def test_a_noisy_boundary_settles_between_the_thresholds():
    module = solution("robust_dr_boundary")
    for buffer_size, low, place, scatter in (
        (1, 0.5, 0.4, 0.055), (10, 0.5, 0.4, 0.025), (100, 0.5, 0.4, 0.0), (10, 0.69, 0.305, 0.036),
        (100, 0.69, 0.301, 0.021),
    ):  # fmt: skip
        late = module.boundaries(buffer_size, low)[20_000:]
        assert late.mean() == pytest.approx(place, abs=0.005)
        assert late.std() == pytest.approx(scatter, abs=0.004)
    assert module.boundaries(10, 0.5, noise=0.0)[-1] == pytest.approx(0.3, abs=module.STEP + 1e-9)


def test_the_last_action_tells_whether_something_failed():
    def entropy(probability: float) -> float:
        outcomes = np.array([probability, 1 - probability])
        return float(-(outcomes[outcomes > 0] * np.log2(outcomes[outcomes > 0])).sum())

    failure, prior = np.array([0.0, 0.5]), np.array([0.5, 0.5])

    def bits(stays: np.ndarray) -> tuple[float, float]:
        """Posterior of the failing actuator after staying, and what a step tells on average."""
        left = 1.0
        for likelihood in (stays, 1 - stays):
            if (total := likelihood @ prior) > 0:
                left -= total * entropy(likelihood[1] * prior[1] / total)
        return float(stays[1] * prior[1] / (stays @ prior)), left

    blind, right, up = bits(0.5 + 0.5 * failure), bits(failure), bits(np.ones(2))
    assert (blind[0], right[0], up[0]) == pytest.approx((0.6, 1.0, 0.5))
    assert blind[1] == pytest.approx(0.049, abs=5e-4)
    assert (right[1], (right[1] + up[1]) / 2) == pytest.approx((0.311, 0.156), abs=5e-4)
