"""The part on exploration: what it compares, that it repeats, and what its tables say."""

from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from ca14lib.experiments.robust.regret import (
    CHECKPOINTS,
    REFERENCE,
    REGRET_AGENTS,
    SEA_AGENTS,
    final_table,
    regret_part,
    river_optimum,
    river_regret,
    river_run,
    sea_run,
)
from ca14lib.training.sweep import sweep

RESULTS = Path(__file__).parents[2] / "results"
stored = pytest.mark.skipif(
    not (RESULTS / "river_regret_final.csv").exists(), reason="the table comes with `ca14 run robust --part regret`"
)


def test_the_optimum_of_twenty_steps():
    assert river_optimum() == pytest.approx(4.677, abs=5e-4)


@pytest.mark.parametrize("agent", REGRET_AGENTS)
def test_every_planner_runs_and_its_regret_is_tabled(agent):
    runs = river_run(agent, 0, episodes=30)
    assert runs["step"].tolist() == [200, 500, 600]
    assert (runs["regret"].diff().dropna() >= 0).all()
    assert runs["regret"].iloc[-1] <= 30 * river_optimum()
    assert runs["regret"].iloc[-1] == river_regret(agent, 0, 30)["regret"].iloc[-1], "the same seed, the same run"


@pytest.mark.parametrize("agent", SEA_AGENTS)
def test_every_diver_runs(agent):
    found = sea_run(agent, 0, size=3, episodes=8)
    assert set(found) == {"first", "found", "share", "return"}
    assert 1 <= found["first"] <= 9
    assert found == sea_run(agent, 0, size=3, episodes=8)


def test_the_final_table_compares_equal_seeds():
    runs = pd.DataFrame(
        [
            {"agent": agent, "seed": seed, "step": step, "regret": regret * (seed + 1), "exponent": 0.5}
            for agent, regret in ((REFERENCE, 2.0), ("ε-greedy", 8.0))
            for seed in range(3)
            for step in (100, 200)
        ]
    )
    table = final_table(runs).set_index("agent")
    assert table.loc["ε-greedy", "factor_iqm"] == pytest.approx(4.0)
    assert table.loc[REFERENCE, "factor_iqm"] == 1.0
    assert (table["step"] == 200).all()
    assert CHECKPOINTS[-1] == 20_000


@pytest.mark.slow
def test_the_quick_part_makes_every_table():
    tables = regret_part(partial(sweep, seeds=2, jobs=1, progress=False), True)
    assert set(tables) == {"river_regret", "river_regret_final", "river_regret_runs", "deep_sea", "deep_sea_runs"}
    assert tables["river_regret_final"]["agent"].tolist() == ["PSRL", "ε-greedy"]
    assert tables["deep_sea"]["seeds"].tolist() == [2, 2]


@stored
def test_the_bar_on_river_swim():
    """Regret of posterior sampling is sublinear, and a third of that of every ε-greedy planner at most."""
    table = pd.read_csv(RESULTS / "river_regret_final.csv").set_index("agent")
    assert table.loc[REFERENCE, "seeds"] >= 20
    assert table.loc[REFERENCE, "exponent_high"] < 0.5
    for agent in ("ε-greedy", "ε-greedy, constant", "ε-greedy Q-learning"):
        assert table.loc[agent, "factor_low"] > 3
