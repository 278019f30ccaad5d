"""The numbers and the code of the page on posterior sampling hold."""

import re
from pathlib import Path

import numpy as np
import pytest

from ca14lib.agents.robust.tabular_baselines import UCBVIConfig, exploration_bonus
from ca14lib.environments import river_swim_model
from ca14lib.solvers import value_iteration
from tests.book.test_solutions import solution

PAGE = (Path(__file__).parents[2] / "book" / "robust" / "bayesian.md").read_text("utf8")


def test_every_solution_that_the_page_prints_is_tested_here():
    printed = set(re.findall(r"tests/book/solutions/(\w+)\.py", PAGE))
    tested = set(re.findall(r'solution\("(\w+)"\)', Path(__file__).read_text("utf8")))
    assert printed == tested


def test_the_optimum_of_twenty_steps_on_the_river():
    assert value_iteration(river_swim_model(), 1.0, 20).optimal_return == pytest.approx(4.677, abs=5e-4)


def test_the_bonus_of_the_theory_is_under_the_largest_reward_after_6800_visits():
    config = UCBVIConfig(bonus=1.0)
    before, after = exploration_bonus(np.array([6_780, 6_800]), config, 6, 2)
    assert after < 1 < before


def test_two_arms():
    module = solution("bayesian_two_arms")
    assert module.probability_of_second((0.5, 0.4), (0.1, 0.3)) == pytest.approx(0.376, abs=5e-4)
    assert module.probability_of_second((0.5, 0.4), (0.1, 0.03)) == pytest.approx(0.169, abs=5e-4)


def test_the_sampled_and_the_true_bias_have_the_same_value():
    module = solution("bayesian_same_law")
    truth, sampled, mean = module.values((1, 1))
    assert truth == pytest.approx(0.625, abs=2e-3)
    assert sampled == pytest.approx(0.625, abs=2e-3)
    assert mean == pytest.approx(0.6, abs=2e-3)
    truth, sampled, _ = module.values((5, 1))
    assert truth == pytest.approx(0.84, abs=6e-3)
    assert sampled == pytest.approx(0.73, abs=6e-3)


def test_the_bound_on_the_river():
    module = solution("bayesian_bound")
    assert np.log(4 * 12 * 20_000.0**2) == pytest.approx(23.7, abs=0.05)
    assert module.bound(6, 2, 20, 20_000) == pytest.approx(1.3e6, rel=0.05)
    assert module.doubling_at_which_it_says_something(6, 2, 20, 4.677) == 32


def test_coins_spread_like_resampling_unless_they_are_thrown_again():
    resampled, coins, again = solution("bayesian_coins").variances(np.random.default_rng(1).normal(size=200))
    assert resampled == pytest.approx(1, abs=0.12)
    assert coins == pytest.approx(1, abs=0.12)
    assert again < 0.06


def test_one_model_per_episode_arrives_before_one_per_step():
    module = solution("bayesian_per_step")
    whole, steps = (
        np.array([module.episodes_until_found(8, seed, per_step=per_step) for seed in range(40)])
        for per_step in (False, True)
    )
    assert set(whole) == {1, 2}
    assert abs(whole.mean() - 1.5) < 0.3
    assert 70 < steps.mean() < 200
