"""SafeGrid's experiment: its exact yardsticks, one run's numbers, and what the stored tables say about the agents."""

import functools

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from ca14lib.cli import app
from ca14lib.evaluation.constrained import COST_TOLERANCE, whole_cycles
from ca14lib.experiments import read_results
from ca14lib.experiments.safe import grid
from ca14lib.experiments.safe.grid import (
    SAFE_GRID_AGENTS,
    SAFE_GRID_LIMITS,
    is_stochastic,
    safe_grid_evaluation,
    safe_grid_run,
    safe_grid_table,
    safe_grid_training,
    safe_grid_yardsticks,
)
from ca14lib.metrics import interquartile_mean
from ca14lib.training.sweep import sweep

PLACES = [(layout, limit) for layout, limits in SAFE_GRID_LIMITS.items() for limit in limits]
STOCHASTIC = {("original", 0.3), ("original", 0.5), ("bridges", 0.5)}
COLUMNS = {
    "return", "cost", "score", "excess", "within", "last_return", "last_cost", "last_score", "violations",
    "training_cost", "time_in_violation",
}  # fmt: skip
SHORT_OF_THE_BARS = {("shore", 2.5, "PPOLagrangian")}
BARS = ("PPOLagrangian", "PIDLagrangian", "CPO")  # the agents that have to meet both bars


@pytest.fixture(scope="module", autouse=True)
def one_front_a_layout():
    """Every front is computed once, not once for each limit."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grid, "pareto_front", functools.cache(grid.pareto_front))
        yield


def test_every_layout_has_three_limits_and_every_agent_settings_for_all_of_them():
    assert all(len(set(limits)) >= 3 for limits in SAFE_GRID_LIMITS.values())
    assert set(BARS) < set(SAFE_GRID_AGENTS)
    for entry in SAFE_GRID_AGENTS.values():
        for layout, limit in PLACES:
            assert entry.config(layout, limit).cost_limits == (limit,)


@pytest.mark.parametrize("layout, limit", PLACES)
def test_the_optimum_mixes_where_no_deterministic_policy_comes_near_it(layout, limit):
    assert is_stochastic(layout, limit) == ((layout, limit) in STOCHASTIC)


def test_yardsticks_of_the_original_layout_are_the_known_ones():
    table = safe_grid_yardsticks()
    assert [tuple(row) for row in table[["layout", "limit"]].itertuples(index=False)] == PLACES
    original = table[table["layout"] == "original"]
    assert original["optimal_return"].tolist() == pytest.approx([0.64, 6.28, 9.1])
    assert original["safe_return"].tolist() == pytest.approx([-5.0] * 3, abs=1e-5)
    assert original["cost_range"].tolist() == pytest.approx([0.5] * 3)
    assert original["multiplier"].tolist()[:2] == pytest.approx([28.2] * 2)


def test_more_is_allowed_by_a_larger_limit():
    for _, group in safe_grid_yardsticks().groupby("layout"):
        assert (np.diff(group["optimal_return"]) > 0.1).all()
        assert (group["optimal_return"] > group["safe_return"] + 0.1).all()


@pytest.mark.parametrize("agent", SAFE_GRID_AGENTS)
def test_a_run_reports_every_number_and_repeats_with_its_seed(agent):
    first, again, other = (safe_grid_run(agent, "bridges 0.5", seed, steps=20_000) for seed in (4, 4, 5))
    assert first.keys() == COLUMNS
    assert first == again
    assert first != other
    assert all(np.isfinite(value) for value in first.values())
    assert 0 <= first["time_in_violation"] <= 1
    assert first["cost"] >= 0
    evaluation = safe_grid_evaluation("bridges", 0.5)
    assert first["excess"] == pytest.approx((first["cost"] - 0.5) / evaluation.cost_range)
    assert first["within"] == (first["score"] >= 0.90 and first["excess"] <= COST_TOLERANCE)


def test_lagrangian_methods_are_judged_by_their_average_where_the_optimum_mixes_and_by_the_last_policy_elsewhere():
    steps = 30_000
    _, history = safe_grid_training("PPOLagrangian", "original", 0.5, 0, steps=steps)
    used = history.series("multiplier_0").to_numpy()
    returns = history.series("exact_return").to_numpy()[-len(used) :]
    averaged = safe_grid_run("PPOLagrangian", "original 0.5", 0, steps=steps)
    assert averaged["return"] == pytest.approx(returns[whole_cycles(used)].mean())
    assert averaged["last_return"] == returns[-1] != averaged["return"]
    for agent, setting in (("PPOLagrangian", "original 0.6"), ("CPO", "original 0.5")):
        last = safe_grid_run(agent, setting, 0, steps=steps)
        assert (last["return"], last["cost"]) == (last["last_return"], last["last_cost"])


def fabricated(scores: dict[str, list[float]]) -> pd.DataFrame:
    rows = [
        {"setting": setting, "agent": "CPO", "seed": seed, "score": score, "within": float(score >= 0.95)}
        | dict.fromkeys(("cost", "return", "last_score", "last_cost", "violations"), score)
        for setting, values in scores.items()
        for seed, score in enumerate(values)
    ]
    return pd.DataFrame(rows)


def test_the_table_counts_the_seeds_that_meet_both_bars():
    table = safe_grid_table(fabricated({"shore 0.5": [0.96, 0.97, 0.2], "original 0.3": [0.1, 0.2, 0.3]}))
    assert table[["layout", "limit", "within", "stochastic"]].to_numpy().tolist() == [
        ["shore", 0.5, 2, False],
        ["original", 0.3, 0, True],
    ]
    assert table["optimal_return"].iloc[1] == pytest.approx(0.64)
    assert "setting" not in table


def test_the_parts_tables_hold_every_agent_at_every_limit(monkeypatch):
    monkeypatch.setattr(grid, "SAFE_GRID_LIMITS", {"shore": (0.25, 0.5)})
    monkeypatch.setattr(grid, "SAFE_GRID_AGENTS", {name: SAFE_GRID_AGENTS[name] for name in ("CPO", "FixedPenalty")})
    tables = grid.grid_part(lambda function, points: sweep(function, points | {"steps": [6_400]}, 2, jobs=1,
                                                           progress=False), False)  # fmt: skip
    assert set(tables) == {"safe_grid", "safe_grid_runs", "safe_grid_yardsticks"}
    assert len(tables["safe_grid_runs"]) == 2 * 2 * 2
    assert tables["safe_grid"][["limit", "agent"]].to_numpy().tolist() == [
        [0.25, "CPO"], [0.25, "FixedPenalty"], [0.5, "CPO"], [0.5, "FixedPenalty"],
    ]  # fmt: skip
    assert len(tables["safe_grid_yardsticks"]) == 2
    assert "seconds" not in tables["safe_grid_runs"]


@pytest.mark.verify
def test_the_command_makes_the_quick_tables(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["run", "safe", "--quick", "--part", "grid", "--seeds", "2", "--jobs", "1", "--cache", "cache"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert "safe_grid" in result.output
    table = read_results("safe_grid", tmp_path / "runs" / "quick")
    assert table["agent"].tolist() == ["PPOLagrangian", "CPO"]
    assert table[["score_iqm", "cost_iqm", "violations_iqm"]].notna().all(axis=None)


# The stored tables


@pytest.fixture(scope="module")
def stored() -> pd.DataFrame:
    return read_results("safe_grid")


@pytest.fixture(scope="module")
def runs() -> pd.DataFrame:
    return read_results("safe_grid_runs")


def test_stored_tables_hold_every_agent_at_every_limit_and_are_made_of_the_stored_runs(stored, runs):
    assert sorted(zip(stored["layout"], stored["limit"], stored["agent"])) == sorted(
        (layout, limit, agent) for layout, limit in PLACES for agent in SAFE_GRID_AGENTS
    )
    groups = runs.groupby(["setting", "agent"])
    for row in stored.itertuples():
        own = groups.get_group((f"{row.layout} {row.limit}", row.agent))
        assert row.seeds == len(own) == runs["seed"].nunique()
        assert row.within == own["within"].sum()
        assert row.score_low <= row.score_iqm <= row.score_high
        for column in ("score", "cost", "return", "last_score", "violations"):
            assert getattr(row, f"{column}_iqm") == pytest.approx(interquartile_mean(own[column]), rel=1e-4, abs=1e-4)


def test_stored_yardsticks_are_those_of_the_solver():
    table = safe_grid_yardsticks()
    pd.testing.assert_frame_equal(read_results("safe_grid_yardsticks"), table, check_dtype=False, rtol=1e-4, atol=1e-4)


def test_agents_of_the_bars_meet_them_on_nine_seeds_of_ten_but_where_the_status_page_says_so(stored, runs):
    assert runs["seed"].nunique() == 10
    judged = stored[stored["agent"].isin(BARS)]
    assert len(judged) == len(BARS) * len(PLACES)
    short = judged[judged["within"] < 9]
    assert set(zip(short["layout"], short["limit"], short["agent"])) == SHORT_OF_THE_BARS
    assert (judged.loc[judged["agent"] == "PIDLagrangian", "within"] == 10).all()


def test_what_counts_as_within_keeps_the_limit_and_scores(runs):
    assert (runs["within"].isin([0, 1])).all()
    within = runs[runs["within"] == 1]
    assert (within["score"] >= 0.90).all()
    assert (within["excess"] <= COST_TOLERANCE + 1e-6).all()


def test_no_score_beats_the_optimum_within_the_limit(runs):
    """The score is at most 1 up to what an excess of cost buys: the slope of the exact front at the limit."""
    for row in runs.itertuples():
        layout, limit = grid.setting_of(row.setting)
        evaluation = safe_grid_evaluation(layout, limit)
        steepest = 28.2 if layout == "original" else 10.0
        bought = steepest * max(row.cost - limit, 0.0) / (evaluation.optimal_return - evaluation.safe_return)
        assert row.score <= 1 + bought + 1e-4


def test_one_price_does_not_fit_all_limits(runs):
    """A fixed penalty learns the same policy at every limit: too dear at some, needlessly poor at others."""
    fixed = runs[runs["agent"] == "FixedPenalty"]
    layouts = fixed["setting"].str.split().str[0]
    assert (fixed.groupby([layouts, "seed"])["cost"].nunique() == 1).all()
    assert (fixed[fixed["setting"].isin(["original 0.3", "original 0.5"])]["excess"] > COST_TOLERANCE).all()
    assert (fixed[layouts == "bridges"]["score"] < 0.1).all()
