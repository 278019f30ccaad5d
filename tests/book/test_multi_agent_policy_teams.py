"""The pages on PPO for teams and on communication: the programs they print, and the numbers they state."""

import re
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

from tests.book.test_solutions import solution

PAGES = [Path(__file__).parents[2] / "book" / "multi_agent" / f"{name}.md" for name in ("mappo", "communication")]


def test_every_solution_that_these_pages_print_is_tested_here():
    printed = set(re.findall(r"tests/book/solutions/(\w+)\.py", "".join(page.read_text("utf8") for page in PAGES)))
    tested = set(re.findall(r'solution\("(\w+)"\)', Path(__file__).read_text("utf8")))
    assert printed == tested


def test_joint_ratios_are_products_of_the_agents():
    module, agents = solution("multi_agent_joint_ratio"), np.array([1, 2, 4, 32])
    clip = module.clip_for(agents)
    assert clip == pytest.approx([0.2, 0.0954, 0.0466, 0.0057], abs=5e-5)
    assert (1 - clip) ** agents == pytest.approx([0.8, 0.818, 0.826, 0.832], abs=5e-4)
    assert pytest.approx([0.41, 2.07], abs=5e-3) == [0.8**4, 1.2**4]
    assert module.joint_deviation(4, 0.1, together=False) == pytest.approx(0.2, abs=0.003)
    assert module.joint_deviation(4, 0.1, together=True) == pytest.approx(0.4, abs=0.006)


def test_normalised_values_leave_the_rewards_without_a_baseline():
    module = solution("multi_agent_two_units")
    assert module.advantage(100.0) == pytest.approx(0.0, abs=0.01)
    assert module.advantage(0.0) == pytest.approx(16.8, abs=0.05)
    assert np.log(0.5) / np.log(0.99 * 0.95) == pytest.approx(11.3, abs=0.05)


def test_noise_asks_for_clear_bits():
    module = solution("multi_agent_dial_noise")
    assert -2 * norm.ppf(0.01) == pytest.approx(4.65, abs=0.005)
    assert module.error(6.2, 2.0) == pytest.approx(1e-3, rel=0.05)
    assert module.error(10.0, 2.0) == pytest.approx(3e-7, rel=0.1)
    assert module.mean(4.65, 2.0) == pytest.approx(0.958, abs=5e-4)
    assert module.mean(4.65, 1e-9) == pytest.approx(0.991, abs=5e-4)
    slopes = [module.slope(logit, deviation) for logit in (0.5, 10.0) for deviation in (1e-9, 2.0)]
    assert slopes == pytest.approx([0.235, 0.149, 0.00005, 0.00033], rel=0.1)
    draws = 1 / (1 + np.exp(-(4.65 + 2 * np.random.default_rng(0).normal(size=200_000))))
    assert draws.mean() == pytest.approx(0.958, abs=2e-3)
