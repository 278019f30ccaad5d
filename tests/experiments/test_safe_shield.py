"""The shield experiment: no step of training goes uncounted, and the stored table says what the page says."""

from pathlib import Path

import numpy as np
import pytest

from ca14lib.agents.ppo import PPOConfig
from ca14lib.environments import SafeGridVector
from ca14lib.environments.safe_grid import SAFE_GRID_LAYOUTS
from ca14lib.experiments.results import read_results
from ca14lib.experiments.safe import shield
from ca14lib.experiments.safe.shield import (
    SETTINGS,
    CountingPPO,
    shield_part,
    shield_run,
)
from ca14lib.training.on_policy import train_on_policy
from ca14lib.training.sweep import sweep

RESULTS = Path(__file__).parents[2] / "results"
STORED = (RESULTS / "safe_shield.csv").exists()
TINY = 6_400


def entries_of_steps(steps, seed=0):
    """What a training counts, and what the environment itself says, asked at every step."""
    environment = SafeGridVector(1)
    spaces = environment.single_observation_space, environment.single_action_space
    agent = CountingPPO(*spaces, PPOConfig(hidden_sizes=(8,), cost_limits=(1.0,)), seed=seed)
    entered, step = 0, SafeGridVector._transition

    def watched(self, action):
        nonlocal entered
        result = step(self, action)
        entered += int(self.hazard[self._cell].sum())
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SafeGridVector, "_transition", watched)
        train_on_policy(agent, shield.ENVIRONMENT, steps, num_envs=16, rollout_steps=60, seed=seed, progress=False)
    return agent.counted, entered


def test_every_entry_of_a_hazard_is_counted_those_that_end_an_episode_too():
    counted, entered = entries_of_steps(2_880)
    assert counted == entered > 50


@pytest.mark.parametrize(
    "fault",
    [
        lambda rollout: int((rollout.cost[..., 0] > 0).sum()),  # borders count too
        lambda rollout: int(rollout.cost.sum()),  # costs added up instead of entries
        lambda rollout: int((rollout.episode_cost[:, 0] > shield.HAZARD_COST).sum()),  # episodes, not steps
        lambda rollout: int((rollout.cost[-1, :, 0] > shield.HAZARD_COST).sum()),  # a sample of the steps
    ],
)
def test_the_count_notices_the_fault(monkeypatch, fault):
    monkeypatch.setattr(shield, "hazard_entries", fault)
    counted, entered = entries_of_steps(960)
    assert counted != entered


def test_hazards_and_borders_are_told_apart_by_their_cost():
    layout = SAFE_GRID_LAYOUTS["original"]
    costs = set(np.round(SafeGridVector(1).cell_cost, 6))
    assert costs == {0.0, layout.border_cost, layout.hazard_cost}
    assert layout.border_cost < shield.HAZARD_COST < layout.hazard_cost


def test_a_model_shield_lets_nobody_in_and_a_counted_one_learns_from_the_first_rollout():
    model, free = (shield_run(setting, 3, steps=2 * TINY) for setting in ("model shield", "no shield"))
    assert model["hazard_entries"] == model["hazards"] == 0
    assert free["hazard_entries"] > 300
    counted = shield_run("counted shield", 3, steps=3 * TINY)
    assert 0 < counted["hazard_entries"] < free["hazard_entries"]
    assert counted["late_entries"] == counted["hazards"] == 0
    assert model["steps"] == 2 * TINY


def test_a_run_repeats():
    assert shield_run("counted shield", 5, steps=TINY) == shield_run("counted shield", 5, steps=TINY)


def test_unknown_settings_are_refused():
    with pytest.raises(ValueError, match=r"setting must be one of no shield, .*got 'umbrella'"):
        shield_run("umbrella", 0)


def test_every_setting_has_its_row():
    grid = {"setting": list(SETTINGS), "steps": [TINY]}
    tables = shield_part(lambda function, _: sweep(function, grid, 2, jobs=1, progress=False), True)
    table, runs = tables["safe_shield"], tables["safe_shield_runs"]
    assert table["setting"].tolist() == list(SETTINGS)
    assert len(runs) == 2 * len(SETTINGS)
    assert (table["seeds"] == 2).all()
    assert (table["steps"] == TINY).all()
    assert (table["hazard_entries_max"] >= table["hazard_entries_mean"]).all()
    assert (table["hazard_entries_mean"] >= table["hazard_entries_min"]).all()


@pytest.mark.skipif(not STORED, reason="results/safe_shield.csv comes with `ca14 run safe --part shield`")
def test_the_stored_table_shows_zero_entries_behind_the_model_shield():
    runs = read_results("safe_shield_runs")
    counts = runs.set_index("setting")
    assert (counts.loc["model shield", "hazard_entries"] == 0).all()
    assert (counts.loc["model shield", "hazards"].abs() < 1e-12).all()
    assert runs.groupby("setting")["seed"].nunique().eq(10).all()
    assert counts.loc["model shield", "steps"].sum() >= 1_000_000
    assert (counts.loc["counted shield", "late_entries"] == 0).all()
    assert counts.loc["no shield", "hazard_entries"].min() > 3_000
    assert counts.loc["multiplier", "hazard_entries"].min() > counts.loc["counted shield", "hazard_entries"].max()
    assert counts.loc["model shield", "return"].min() > 8.5
