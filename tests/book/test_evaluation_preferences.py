"""The exercises on comparisons hold as the page prints them."""

import math
import re
from pathlib import Path

import numpy as np
import pytest

from ca14lib.agents.hybrid.preferences import PreferenceConfig, fitted_reward, reward_ensemble
from ca14lib.experiments.evaluation import preferences as experiment
from tests.book.test_solutions import solution

PAGE = (Path(__file__).parents[2] / "book" / "evaluation" / "preferences.md").read_text("utf8")


def test_every_solution_that_the_page_prints_is_tested_here():
    printed = set(re.findall(r"tests/book/solutions/(\w+)\.py", PAGE))
    tested = set(re.findall(r'solution\("(\w+)"\)', Path(__file__).read_text("utf8")))
    assert printed == tested
    for name in printed:
        assert '__name__ == "__main__"' in (Path(__file__).parent / "solutions" / f"{name}.py").read_text("utf8")


def test_thirty_of_forty():
    difference, answers = np.tile([1.0, -1.0], (40, 1)), np.repeat([1.0, 0.0], [30, 10])
    for error, expected in ((0.0, 0.55), (0.2, 0.73)):
        config = PreferenceConfig(inverse_temperature=2.0, error_rate=error, ridge=1e-6)
        reward = fitted_reward(difference, answers, config)
        assert reward[0] - reward[1] == pytest.approx(expected, abs=0.005)


def test_the_shift_of_gridworld():
    table = experiment.shift_table().set_index("shift")["return"]
    assert table[0.09] == pytest.approx(0.3)
    assert table[0.11] == pytest.approx(1 - 4.9)


def test_the_worth_follows_the_covariance():
    prior, learnt, true = np.array([0.2, 0.5, 0.3]), np.array([1.0, 0.2, -0.5]), np.array([-0.3, 0.8, 0.1])

    def tilted(temperature):
        weight = prior * np.exp(learnt / temperature)
        return weight / weight.sum()

    policy, step = tilted(0.7), 1e-5
    for signal in (learnt, true):
        slope = (tilted(0.7 + step) - tilted(0.7 - step)) @ signal / (2 * step)
        covariance = policy @ (signal * learnt) - (policy @ signal) * (policy @ learnt)
        assert slope == pytest.approx(-covariance / 0.7**2, rel=1e-5)


def test_promise_and_worth():
    module = solution("preferences_curse")
    plain, shrunk = module.promise_and_worth(False), module.promise_and_worth(True)
    assert plain == pytest.approx((2.09, 0.42), abs=0.02)
    assert shrunk == pytest.approx((0.42, 0.42), abs=0.02)


def test_turned_answers_fit_as_well_and_plan_the_worst():
    (loss, share), (turned_loss, turned_share) = solution("preferences_turned").fits()
    assert turned_loss == pytest.approx(loss)
    assert share > 0.5
    assert turned_share < 0


def test_members_agree_on_what_was_never_seen():
    draws = np.random.default_rng(0)
    difference = np.column_stack([draws.integers(-2, 3, 50), np.zeros(50)]).astype(float)
    ensemble = reward_ensemble(difference, draws.integers(0, 2, 50).astype(float), PreferenceConfig(), draws)
    assert (ensemble[:, 1] == 0).all()
    assert ensemble[:, 0].std() > 0
    assert math.isfinite(ensemble.sum())
