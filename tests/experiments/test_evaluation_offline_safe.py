"""Limits learned from a log: what is compared, that runs repeat, and the tables."""

import numpy as np
import pandas as pd
import pytest

from ca14lib.agents.hybrid.constrained_bcq import ConstrainedBCQ
from ca14lib.experiments.evaluation import offline_safe as experiment
from ca14lib.solvers import policy_costs, policy_return
from ca14lib.training.sweep import sweep

TINY = 5  # updates


@pytest.fixture
def _short(monkeypatch) -> None:
    monkeypatch.setattr(experiment, "EPISODES", 120)


def test_settings_have_the_known_optima_and_a_log_that_breaks_every_limit(monkeypatch):
    monkeypatch.setattr(experiment, "SETTINGS", experiment.SETTINGS[:2])
    table = experiment.offline_safe_yardsticks().set_index("setting")
    assert table["optimal_return"][:2].tolist() == pytest.approx([5.0, 6.5])
    assert (table["log_cost"] > table["limit"] + 0.5).all()
    assert (table["log_return"] < table["optimal_return"]).all()
    assert 1 - 1e-6 <= table["multiplier"]["bridges 1.0"] <= 3 + 1e-6, "the fixed price 2 is right there"
    assert table["multiplier"]["bridges 0.5"] == pytest.approx(3)


def test_the_log_follows_the_policy_that_the_yardsticks_judge():
    data, model = experiment.recorded("bridges", 0, 1_500), experiment.safe_grid_model("bridges")
    behaviour = experiment.logging_policy("bridges")
    assert np.allclose(behaviour.sum(axis=-1), 1)
    assert data.episode_returns().mean() == pytest.approx(policy_return(model, behaviour), abs=0.4)
    assert experiment.episode_costs(data).mean() == pytest.approx(float(policy_costs(model, behaviour)[0]), abs=0.15)


def test_safe_episodes_are_those_within_the_limit():
    data = experiment.recorded("bridges", 0, 120)
    kept = experiment.within_limit(data, 1.0)
    costs = experiment.episode_costs(data)
    assert kept.num_episodes == (costs <= 1.0).sum() < data.num_episodes
    assert experiment.episode_costs(kept).max() <= 1.0
    with pytest.raises(ValueError, match=r"no episode of the log has a cost of at most -1, the least is 0\.0"):
        experiment.within_limit(data, -1)


def test_the_policy_table_is_what_the_agent_shows_at_every_time():
    data, model = experiment.recorded("bridges", 0, 20), experiment.safe_grid_model("bridges")
    entry = experiment.OFFLINE_SAFE_AGENTS["ConstrainedBCQ"]
    agent = ConstrainedBCQ(data.observation_space, data.action_space, entry.config(0.5), seed=0)
    table = experiment.timed_policy_table(agent, model)
    assert table.shape == (model.horizon, model.num_states, model.num_actions)
    np.testing.assert_allclose(table[7], agent.probabilities(model.timed_observation(7)), atol=1e-6)


@pytest.mark.usefixtures("_short")
@pytest.mark.parametrize("agent", experiment.OFFLINE_SAFE_AGENTS)
def test_a_run_reports_every_number_and_repeats(agent):
    first = experiment.offline_safe_run("bridges 1.0", agent, 3, updates=TINY)
    again = experiment.offline_safe_run("bridges 1.0", agent, 3, updates=TINY)
    pd.testing.assert_series_equal(pd.Series(first), pd.Series(again))
    assert first["excess"] == pytest.approx((first["cost"] - 1.0) / 2.0)
    assert first["within"] == float(first["excess"] <= 0.02)
    priced = agent in ("ConstrainedBCQ", "fixed penalty")
    assert np.isfinite(first["multiplier"]) == np.isfinite(first["estimate_error"]) == priced
    if agent == "fixed penalty":
        assert first["multiplier"] == 2.0


@pytest.mark.verify
@pytest.mark.usefixtures("_short")
def test_the_part_makes_its_tables():
    def sweeps(function, grid):
        return sweep(function, grid | {"updates": [TINY]}, seeds=2, jobs=1, progress=False)

    tables = experiment.offline_safe(sweeps, True)
    name = "evaluation_offline_safe"
    assert list(tables) == [name, f"{name}_runs", f"{name}_yardsticks"]
    assert tables[name]["agent"].tolist() == ["DiscreteBC, safe episodes", "ConstrainedBCQ"]
    assert (tables[name]["seeds"] == 2).all()
    assert tables[name]["within"].between(0, 2).all()
    assert tables[name]["optimal_return"].tolist() == pytest.approx([6.5, 6.5])
    assert len(tables[f"{name}_yardsticks"]) == 3
    assert "seconds" not in tables[f"{name}_runs"]
