"""The page about trading: solutions run as printed, and what the page says of data, folds and exercises holds."""

import re
from pathlib import Path

import numpy as np
import pytest

from ca14lib.environments.applications.trading_market import load_prices
from ca14lib.experiments.evaluation import trading as part
from tests.book.test_solutions import solution

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "book" / "evaluation" / "trading.md").read_text("utf8")


def test_every_solution_that_is_printed_is_tested_here():
    printed = set(re.findall(r"tests/book/solutions/(\w+)\.py", PAGE))
    assert printed == set(re.findall(r'solution\("(\w+)"\)', Path(__file__).read_text("utf8")))


def test_folds_limit_and_settings_are_those_of_the_page():
    written = re.findall(r"(\d{4})–(\d{4}), test (\d{4})–(\d{4})", PAGE)
    assert tuple(((int(a), int(b)), (int(c), int(d))) for a, b, c, d in written) == part.FOLDS
    assert (part.CVAR_LIMIT, part.LOSS_THRESHOLD, part.HORIZON) == (1.5, 1.0, 63)
    assert f"| {part.NUM_ENVS}, {part.ITERATIONS} |" in PAGE
    config = part.AGENTS["PPO"][1]
    assert (config.learning_rate, config.gae_lambda, config.entropy_weight) == (0.001, 0.9, 0.03)
    market = part.trading_environment((1999, 2004)).market
    assert market.scale[0] == pytest.approx(1.26, abs=0.005)
    assert len(load_prices().dates) == 5_012


def test_one_day_of_look_ahead_is_worth_everything():
    module = solution("evaluation_trading_leak")
    leaky, honest = module.report(1), module.report(0)
    assert [leaky["annual_return"], leaky["drawdown"]] == pytest.approx([148, 0.2], abs=0.5)
    assert [honest["annual_return"], honest["turnover"]] == pytest.approx([-10, 133], abs=0.5)
    assert module.caught(1)
    assert not module.caught(0)


def test_a_threshold_near_the_value_at_risk_costs_little():
    module = solution("evaluation_trading_threshold")
    returns = [module.best_return(v) for v in (0.0, 0.4, 0.8, 1.0, 1.2, 1.4, 1.5)]
    assert returns == pytest.approx([1.12, 1.34, 1.67, 1.72, 1.73, 1.60, 0.72], abs=0.006)
    assert module.unlimited() == pytest.approx(2.85, abs=0.006)
    assert max(returns) - min(returns[2:5]) < 0.07


def test_blocks_widen_the_interval_of_the_tail_and_not_that_of_the_mean():
    module = solution("evaluation_trading_blocks")
    found = np.array([module.deviations(block) for block in (1, 21, 63, 251)])
    assert ((found[:, 0] > 4) & (found[:, 0] < 5)).all()
    assert found[:, 1] == pytest.approx([0.14, 0.29, 0.39, 0.56], abs=0.011)


def test_the_best_of_a_hundred_has_luck_and_keeps_none():
    module = solution("evaluation_trading_many")
    chosen_on, later = module.best_of(100)
    assert chosen_on == pytest.approx(0.65, abs=0.01)
    assert abs(later) < 0.05


def test_numbers_of_the_pencil_exercises():
    assert round((1.96 * 10 / 2) ** 2) == 96
    assert round(((1.96 + 0.84) * 10 / 2) ** 2) == 196
    assert round((2 * 1.2 / 0.02) ** 2) == 14_400
    days = load_prices().days(part.FOLDS[-1][0])
    assert len(days) == pytest.approx(4_500, abs=30)
