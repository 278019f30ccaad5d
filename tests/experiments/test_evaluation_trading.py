"""The trading experiment: what is measured is what is said, nothing looks ahead, and the tables come out of it."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ca14lib.environments.applications.trading import excess_limit, regime_model
from ca14lib.environments.applications.trading_check import check_rule
from ca14lib.environments.applications.trading_market import load_prices
from ca14lib.experiments import read_results
from ca14lib.experiments.evaluation import trading as part
from ca14lib.metrics.risk import conditional_value_at_risk
from ca14lib.training.sweep import sweep

TRAIN = part.FOLDS[0][0]


def test_folds_train_on_what_lies_before_their_test_and_leave_no_year_out():
    tested = []
    for (first, last), (begin, end) in part.FOLDS:
        assert first == 1999
        assert last + 1 == begin <= end
        tested += range(begin, end + 1)
    assert tested == list(range(2005, 2019))


def test_performance_by_hand():
    x, cash = np.array([1.0, -2.0, 0.5, 0.0]), np.full(4, 0.01)
    found = part.performance(x, cash, np.array([1.0, 0, 0, 1.0]))
    assert found["annual_return"] == pytest.approx(100 * np.expm1(-0.125 * 251 / 100))
    assert found["volatility"] == pytest.approx(np.std(x, ddof=1) * np.sqrt(251))
    assert found["sharpe"] == pytest.approx((x - cash).mean() / np.std(x, ddof=1) * np.sqrt(251))
    assert found["drawdown"] == pytest.approx(100 * (1 - np.exp(-0.02)))
    assert found["cvar"] == pytest.approx(2.0)
    assert found["turnover"] == pytest.approx(0.5 * 251)
    rising = part.performance(np.ones(3), np.ones(3), np.zeros(3))
    assert (rising["sharpe"], rising["drawdown"]) == (0.0, 0.0)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1_000), st.integers(20, 300))
def test_row_wise_tails_are_those_of_the_library(seed, days):
    rows = np.random.default_rng(seed).normal(size=(3, days))
    expected = [conditional_value_at_risk(-row, 0.95) for row in rows]
    np.testing.assert_allclose(part._cvar_rows(rows), expected, rtol=1e-9, atol=1e-12)


def test_blocks_keep_their_order_and_draw_every_day_equally_often():
    index = part.block_bootstrap_indices(100, 10, 2_000, seed=1)
    assert index.shape == (2_000, 100)
    steps = np.diff(index, axis=1) % 100
    assert (steps.reshape(-1, 99)[:, np.arange(99) % 10 != 9] == 1).all()
    assert np.bincount(index.ravel()).std() / 2_000 < 0.1
    assert part.block_bootstrap_indices(7, 3, 2).shape == (2, 7)
    with pytest.raises(ValueError, match="1 <= block <= days"):
        part.block_bootstrap_indices(5, 6, 10)


def test_a_gain_on_every_day_is_certain_and_one_that_varies_is_not():
    rng, dates = np.random.default_rng(0), pd.date_range("2005-01-03", periods=500)
    market = rng.normal(size=500)
    frames = [
        pd.DataFrame({"method": name, "seed": seed, "date": dates, "log_return": values})
        for name, values in (("rule", market), ("sure", market + 0.01), ("noise", rng.normal(size=500)))
        for seed in (0, 1)
    ]
    table = part.difference_table(pd.concat(frames), "rule", block=20, repetitions=300).set_index("method")
    assert list(table.index) == ["sure", "noise"]
    sure = table.loc["sure"]
    assert [sure["difference"], sure["difference_low"], sure["difference_high"]] == pytest.approx([2.51] * 3)
    assert sure["better"] == 1
    assert [sure["cvar_gain"], sure["cvar_gain_low"]] == pytest.approx([0.01] * 2)
    assert table.loc["noise", "difference_low"] < table.loc["noise", "difference_high"] - 20


@pytest.mark.parametrize("name", part.RULES)
def test_no_rule_looks_ahead(name):
    assert check_rule(part.RULES[name], TRAIN, days=[1_495, 1_700], futures=1)


def test_rules_hold_what_they_say():
    market = part.trading_environment(TRAIN).market
    cash = np.array([0.0, 0.0, 0.0, 1.0])
    day = 2_100  # a day on which both trade
    parity = part.risk_parity_rule(market)(day, cash)
    assert parity[:3] @ np.ones(3) == pytest.approx(1)
    assert np.ptp(parity[:3] * market.volatility[day]) < 1e-12
    target = part.volatility_target_rule(market)(day, cash)
    held = target[0] * market.volatility[day, 0]
    assert target.sum() == pytest.approx(1)
    assert target[0] == 1 or held * part.NORMAL_TAIL == pytest.approx(part.CVAR_LIMIT)
    normal = -np.random.default_rng(0).normal(size=400_000)
    assert conditional_value_at_risk(normal, 0.95) == pytest.approx(part.NORMAL_TAIL, abs=0.02)
    kept = np.array([0.4, 0.3, 0.3, 0.0])
    assert part.risk_parity_rule(market)(day + 1, kept) is kept


def test_the_plan_within_the_limit_keeps_it_in_the_model_and_costs_return():
    model = regime_model(part.trading_environment(TRAIN))
    free, limited = (part.model_numbers(model, part.plan(model, name)) for name in part.PLANS)
    assert free["model_share"] == pytest.approx(1)
    assert limited["model_share"] < 1
    assert limited["model_excess"] <= part.EXCESS_LIMIT + 1e-9 < free["model_excess"]
    assert pytest.approx(excess_limit(1.5, 1.0, 63)) == part.EXCESS_LIMIT


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match=r"method must be one of cash, .*got 'astrology'"):
        part.trading_run("astrology", 0)


def test_a_run_repeats_and_its_days_are_those_of_the_fold():
    arguments = {"folds": 1, "iterations": 1, "num_envs": 8}
    first, again = (part.trading_run("PPO-Lagrangian", 3, **arguments) for _ in range(2))
    pd.testing.assert_frame_equal(first, again)
    prices = load_prices()
    days = prices.days(part.FOLDS[0][1])
    np.testing.assert_array_equal(first["date"].to_numpy().astype("datetime64[D]"), prices.dates[days])
    np.testing.assert_allclose(first["cash"], 100 * np.log1p(prices.bill[days.start - 1 : days.stop - 1]))
    assert first["model_share"].nunique() == 1


def test_years_and_histories_over_the_limit_are_counted():
    dates = pd.date_range("2005-01-03", "2006-12-29", freq="B")
    rng = np.random.default_rng(0)
    bad = np.where(dates.year == 2005, 2.0, 0.1) * rng.normal(size=len(dates))
    frames = [
        pd.DataFrame({"method": "m", "seed": seed, "date": dates, "log_return": bad, "turnover": 0.0, "cash": 0.0})
        for seed in (0, 1)
    ]
    years = part.year_table(pd.concat(frames, ignore_index=True))
    assert years["year"].tolist() == [0, 2005, 2006] * 2
    assert (years.loc[years["year"] == 2005, "cvar"] > 3).all()
    table = part.summary_table(years)
    assert table.loc[0, ["years_broken", "seeds_broken"]].tolist() == [0.5, 1.0]


@pytest.mark.verify
def test_the_part_makes_its_tables(monkeypatch):
    monkeypatch.setattr(part, "METHODS", ("hold the index", "hold equal shares", "optimum of the model", "PPO"))

    def sweeps(function, grid):
        return sweep(function, grid | {"iterations": [1], "num_envs": [8]}, seeds=2, jobs=1, progress=False)

    tables = part.trading(sweeps, True)
    name = "evaluation_trading"
    assert list(tables) == [name, *(f"{name}_{each}" for each in ("difference", "model", "years", "runs"))]
    assert tables[name]["method"].tolist() == list(part.METHODS)
    assert tables[name].loc[0, ["years_broken", "seeds_broken"]].tolist() == pytest.approx([1 / 3, 1])
    assert set(tables[f"{name}_model"]["method"]) == {
        "uniform", "best single portfolio", "optimum of the model", "PPO",
    }  # fmt: skip
    assert len(tables[f"{name}_difference"]) == 2 * 3
    assert not tables[f"{name}_years"].isna().any(axis=None)


def test_stored_plans_are_what_they_are_called_and_no_agent_exceeds_the_optimum():
    table = read_results("evaluation_trading_model").set_index("method")
    assert table.loc["optimum of the model", "model_share_iqm"] == pytest.approx(1)
    assert table.loc["optimum within the limit", "excess_iqm"] <= 1 + 1e-6
    assert table.loc["uniform", "model_share_iqm"] == pytest.approx(0)
    assert (table["model_share_high"] <= 1 + 1e-6).all()
