"""The velocity experiment: runs repeat, count what the environment counts, and the stored table keeps the limit."""

from pathlib import Path

import pytest

from ca14lib.experiments.results import read_results
from ca14lib.experiments.safe import velocity
from ca14lib.experiments.safe.velocity import (
    LIMIT,
    PUBLISHED,
    VELOCITY_AGENTS,
    observation_normalizer,
    published_table,
    velocity_part,
    velocity_run,
)
from ca14lib.training.sweep import sweep

pytest.importorskip("mujoco")
RESULTS = Path(__file__).parents[2] / "results"
STORED = (RESULTS / "safe_velocity.csv").exists()
TINY = {"steps": 8_192, "episodes": 3, "normalizer_episodes": 10}


@pytest.fixture(scope="module")
def run():
    return velocity_run("PIDLagrangian", 0, **TINY)


def test_a_run_repeats_and_reports_its_steps(run):
    assert velocity_run("PIDLagrangian", 0, **TINY) == run
    assert run["steps"] == 8_192
    assert 0 <= run["training_cost"] <= run["steps"]
    assert 0 <= run["cost"] <= run["length"] <= 1_000


def test_within_is_judged_by_the_published_limit_not_by_what_the_agent_aims_at(monkeypatch):
    assert all(config.cost_limits == (velocity.AIMED,) for _, config in VELOCITY_AGENTS.values())
    assert velocity.AIMED < LIMIT

    class Fixed:
        def __init__(self, task, episodes, seed, *, deterministic):
            self.deterministic = deterministic

        def __call__(self, agent):
            cost = 0.0 if self.deterministic else self.cost
            return {"return": 1.0, "length": 1.0, "cost_0": cost}

    monkeypatch.setattr(velocity, "RolloutEvaluation", Fixed)
    for cost, within in ((LIMIT, 1.0), (LIMIT + 0.02, 0.0)):
        Fixed.cost = cost
        found = velocity_run("PIDLagrangian", 0, **TINY)
        assert found["within"] == within, "the stochastic policy decides, whatever the greedy one does"
        assert found["greedy_cost"] == 0.0


def test_the_normaliser_leaves_room_for_what_random_episodes_do_not_show():
    normalizer = observation_normalizer(0, 10)
    assert normalizer.scale.max() < 1 / velocity.NORMALIZER_FLOOR
    assert normalizer.mean.shape == (11,)


def test_every_agent_has_its_row_and_the_published_figures_their_table():
    grid = {"agent": list(VELOCITY_AGENTS)} | {name: [value] for name, value in (TINY | {"steps": 4_096}).items()}
    tables = velocity_part(lambda function, _: sweep(function, grid, 2, jobs=1, progress=False), True)
    table = tables["safe_velocity"]
    assert table["agent"].tolist() == list(VELOCITY_AGENTS)
    assert {"task", "steps", "seeds", "return_iqm", "cost_high", "cost_max", "within"} <= set(table)
    assert len(tables["safe_velocity_runs"]) == 2 * len(VELOCITY_AGENTS)
    assert len(published_table()) == len(PUBLISHED)


def test_unknown_agents_are_refused():
    with pytest.raises(ValueError, match="agent must be one of PIDLagrangian, got 'TRPO'"):
        velocity_run("TRPO", 0)


@pytest.mark.skipif(not STORED, reason="results/safe_velocity.csv comes with `ca14 run safe --part velocity`")
def test_the_stored_runs_keep_the_limit_on_every_seed():
    runs = read_results("safe_velocity_runs")
    pid = runs[runs["agent"] == "PIDLagrangian"]
    assert pid["seed"].nunique() == 5
    assert (pid["cost"] <= LIMIT).all()
    assert (pid["within"] == 1).all()
