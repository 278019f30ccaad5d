"""Histories of multipliers: their shape, that they repeat, and that the stored ones show what the pages say."""

import numpy as np
import pytest

from ca14lib.experiments import read_results
from ca14lib.experiments.safe.multipliers import AGENTS, LIMIT, multiplier_history, multipliers_part
from ca14lib.training.sweep import sweep


def test_history_holds_the_numbers_of_every_second_update():
    frame = multiplier_history("PIDLagrangian", 0, steps=25_600)
    assert frame.columns.tolist() == ["step", "exact_return", "exact_cost", "multiplier"]
    assert frame["step"].tolist() == [12_800, 25_600]
    assert frame.notna().all(axis=None)
    assert (frame["multiplier"] > 0).all()
    again = multiplier_history("PIDLagrangian", 0, steps=25_600)
    assert frame.equals(again)


def test_an_agent_without_a_multiplier_is_refused():
    with pytest.raises(ValueError, match="agent must be one of PPOLagrangian, PIDLagrangian, got 'CPO'"):
        multiplier_history("CPO", 0)


@pytest.mark.slow
def test_part_makes_a_row_per_agent_seed_and_step(tmp_path):
    def sweeps(function, grid):
        return sweep(function, grid, 2, jobs=1, progress=False)

    (table,) = multipliers_part(sweeps, quick=True).values()
    assert table.groupby(["agent", "seed"]).size().tolist() == [2, 2, 2, 2]
    assert set(table["agent"]) == set(AGENTS)


def test_stored_histories_show_a_swing_and_a_price_that_is_found():
    history = read_results("safe_multiplier_history")
    late = history[history["step"] > history["step"].max() / 2]
    groups = late.groupby(["agent", "seed"])
    assert groups.ngroups >= 4
    assert (groups["exact_cost"].mean() - LIMIT).abs().max() < 0.04
    prices = groups["multiplier"].mean()
    assert prices["PIDLagrangian"].between(26, 31).all()
    assert (groups["multiplier"].min()["PPOLagrangian"] < 10).all(), "an integral alone stays with no price"
    assert (groups["multiplier"].max()["PPOLagrangian"] > 50).all()
    swing = groups["exact_cost"].agg(np.ptp).groupby("agent").mean()
    assert swing["PPOLagrangian"] > 2 * swing["PIDLagrangian"]
