"""The experiment on the microgrid: shares from bound to idle, held-out days, tables from end to end."""

import numpy as np
import pytest

from ca14lib.environments.applications.microgrid import Microgrid
from ca14lib.experiments.evaluation import energy as experiment
from ca14lib.experiments.evaluation.energy import ENERGY_TEAMS, SCRIPTED, energy, energy_run, exact_table, held_days
from ca14lib.training.sweep import sweep


def test_without_batteries_the_share_is_none_and_nobody_gets_more_than_all():
    rows = {method: energy_run(method, 100, days=4) for method in ("no battery", "uniform", "self-consumption")}
    for world in (0, 1):
        assert rows["no battery"][world]["share"] == 0
        assert rows["uniform"][world]["share"] < rows["self-consumption"][world]["share"] < 1
    usual, dull = rows["self-consumption"]
    assert usual["bound_bill"] < usual["bill"]
    assert dull["bound_bill"] > usual["bound_bill"]  # less sun costs


def test_held_out_days_are_of_their_seed_and_the_same_for_every_method():
    seeds = [held_days("usual", seed, 1)[1] for seed in range(20)]
    assert len(set(seeds)) == 20
    assert held_days("dull", 3, 1)[1] == seeds[3]
    assert held_days("dull", 3, 1)[0].sunshine == 0.4


def test_forecasts_have_not_seen_the_winter():
    winter, _ = held_days("dull", 0, 1)
    for method in ("MPC, mean day", "MPC, corrected"):
        np.testing.assert_array_equal(experiment.scripted(method, winter).mean_solar, Microgrid(1).mean_profiles()[1])


def test_unknown_methods_are_refused():
    with pytest.raises(ValueError, match="MAPPO"):
        experiment.scripted("hope", Microgrid(1))


def test_exact_table_comes_down_to_its_bound():
    table = exact_table({1: (7, 31), 2: (4, 7)})
    assert (table["gap"] > -1e-9).all()
    for _, rows in table.groupby("households"):
        assert rows["bill"].is_monotonic_decreasing


@pytest.mark.learning
def test_part_returns_its_tables(monkeypatch):
    def tiny(function, grid, **arguments):
        assert set(grid["method"]) == {*SCRIPTED, *ENERGY_TEAMS}
        small = {"method": ["no battery", "MPC, corrected", *ENERGY_TEAMS], "steps": [64], "days": [2]}
        return sweep(function, small, [100, 101], jobs=1, progress=False)

    monkeypatch.setattr(experiment, "SCORES", experiment.SCORES[1:2])
    loop = {"num_envs": 8, "rollout_steps": 4}
    for name, entry in ENERGY_TEAMS.items():
        monkeypatch.setitem(ENERGY_TEAMS, name, experiment.EnergyTeam(entry.agent_class, entry.config, loop))
    tables = energy(tiny, True)
    assert set(tables) == {"energy", "energy_runs", "energy_exact"}
    table = tables["energy"].set_index(["world", "method"])
    assert len(table) == 10
    assert (table["seeds"] == 2).all()
    assert table.notna().all().all()
    assert (table.loc[("usual", "MPC, corrected"), "share_iqm"] > table.loc[("usual", "MAPPO"), "share_iqm"]).all()


@pytest.mark.verify
def test_a_minute_of_training_beats_self_consumption():
    row, _ = energy_run("MAPPO", 100, steps=150_000, days=64)
    other, _ = energy_run("self-consumption", 100, days=64)
    assert row["share"] > other["share"] + 0.05
    assert row["unserved"] < other["unserved"]
