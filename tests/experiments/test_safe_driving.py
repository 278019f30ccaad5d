"""Driving within limits: agents and rules run, runs repeat, and the stored table says what its caption says."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("highway_env")

from ca14lib.experiments.safe import driving
from ca14lib.experiments.safe.driving import (
    DRIVING_AGENTS,
    DRIVING_RULES,
    LIMITS,
    ScriptedDriver,
    driving_agent,
    driving_part,
    driving_run,
)
from ca14lib.training.sweep import sweep

RESULTS = Path(__file__).parents[2] / "results"
MEASURED = {"return", "collisions", "speeding", "length"}


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(driving, "NUM_ENVS", 2)
    monkeypatch.setattr(driving, "ROLLOUT_STEPS", 4)


def test_who_always_slows_down_is_never_above_the_limit():
    scores = driving_run("AlwaysSlower", 0, evaluation_episodes=1)
    assert scores["speeding"] == 0
    assert set(scores) >= MEASURED
    assert np.isnan(scores["training_collisions"])


def test_a_rule_sees_the_observation_and_draws_nothing():
    driver = ScriptedDriver(lambda observation: np.arange(len(observation)))
    observation = np.zeros((3, 5, 5), np.float32)
    assert (driver.act(observation) == driver.act(observation, deterministic=False)).all()
    assert driver.observation_space.shape == (5, 5)


@pytest.mark.usefixtures("short")
def test_a_training_repeats_and_counts_what_it_cost():
    first, second = (driving_run("PPOLagrangian", 3, steps=16, evaluation_episodes=1) for _ in range(2))
    assert first == second
    assert first["training_collisions"] >= 0
    assert 0 <= first["training_speeding"] <= 1
    assert first["price_0"] >= 0
    assert first["price_1"] >= 0


def test_both_agents_differ_in_their_multipliers_only():
    plain, priced = (driving_agent(name, 0) for name in DRIVING_AGENTS)
    assert plain.config.cost_limits == priced.config.cost_limits == LIMITS
    shared = set(vars(plain.config))
    assert {name: getattr(plain.config, name) for name in shared} == {
        name: getattr(priced.config, name) for name in shared
    }
    with pytest.raises(ValueError, match="agent must be one of"):
        driving_agent("DQN", 0)


@pytest.mark.slow
def test_the_quick_part_has_a_row_for_everybody(short):
    def sweeps(function, grid):
        return sweep(function, grid, seeds=2, jobs=1, progress=False)

    tables = driving_part(sweeps, quick=True)
    assert list(tables["safe_driving"]["agent"]) == [*DRIVING_AGENTS, *DRIVING_RULES]
    assert len(tables["safe_driving_runs"]) == 2 * len(tables["safe_driving"])


@pytest.mark.skipif(
    not (RESULTS / "safe_driving.csv").exists(),
    reason="results/safe_driving.csv comes with `ca14 run safe --part driving`",
)
def test_the_stored_table_holds_everybody_on_the_same_seeds():
    table = pd.read_csv(RESULTS / "safe_driving.csv").set_index("agent")
    assert set(table.index) == {*DRIVING_AGENTS, *DRIVING_RULES}
    assert table["seeds"].nunique() == 1
    assert (table["collisions_iqm"].between(0, 1)).all()
    assert table.loc["AlwaysSlower", "speeding_iqm"] == 0
    assert (table.loc["PPO", ["price_0", "price_1"]] == 0).all()
    runs = pd.read_csv(RESULTS / "safe_driving_runs.csv")
    trained = runs[runs["agent"].isin(DRIVING_AGENTS)]
    assert (trained["training_collisions"] > 0).all()
