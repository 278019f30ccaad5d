"""From a log to the world: the routes, their curves and areas, and the tables."""

import numpy as np
import pandas as pd
import pytest

from ca14lib.agents.hybrid.cal_ql import DiscreteCalQL
from ca14lib.experiments.evaluation import fine_tuning as experiment
from ca14lib.metrics.unlearning import dip_area, lost_area
from ca14lib.solvers import policy_return
from ca14lib.training.sweep import sweep

TINY = {"updates": 4, "steps": 100}


@pytest.fixture(autouse=True)
def _three_points(monkeypatch) -> None:
    monkeypatch.setattr(experiment, "POINTS", 3)


def test_the_log_goes_a_way_twice_as_long_as_the_best():
    model = experiment.grid_model()
    assert policy_return(model, experiment.long_way()) == pytest.approx(1 - 2.7)
    evaluation = experiment.greedy_evaluation()
    assert evaluation.optimum == pytest.approx(1 - 1.3)
    assert evaluation.of_policy(experiment.long_way())["share"] == pytest.approx(0.696, abs=0.01)
    data = experiment.recorded(0)
    assert data.num_episodes == experiment.EPISODES
    assert data.quality(model)["pairs_share"] < 0.5, "most pairs are not in the log"


@pytest.mark.parametrize("route", experiment.ROUTES)
def test_a_run_reports_its_curve_and_the_areas_of_it(route):
    found = experiment.fine_tuning_run(route, 1, **TINY)
    curve = [found[f"share_{step}"] for step in (0, 50, 100)]
    assert (curve[0], curve[-1], min(curve)) == (found["start"], found["last"], found["lowest"])
    assert found["lost"] == pytest.approx(float(lost_area([0, 50, 100], curve)))
    assert found["dip"] == pytest.approx(float(dip_area([0, 50, 100], curve)))
    assert max(curve) <= 1
    if route == "offline only":
        assert found["dip"] == 0
        assert found["lost"] == pytest.approx(1 - found["start"])


def test_runs_repeat_and_pre_training_is_the_same_for_routes_that_share_it():
    first, again = (experiment.fine_tuning_run("CQL, then DQN", 2, **TINY) for _ in range(2))
    assert first == again
    other = experiment.fine_tuning_run("CQL, half from the log", 2, **TINY)
    assert other["start"] == first["start"] == experiment.fine_tuning_run("offline only", 2, **TINY)["start"]


def test_a_route_goes_on_with_its_own_agent_or_with_what_was_handed_over():
    agent, history = experiment.fine_tuning_training("Cal-QL, half from the log", 0, **TINY)
    assert isinstance(agent, DiscreteCalQL)
    agent, _ = experiment.fine_tuning_training("Cal-QL, then DQN", 0, **TINY)
    assert type(agent).__name__ == "DQN"
    assert history.series("share").index.tolist() == [0, 50, 100]


def test_gains_are_taken_seed_by_seed():
    runs = pd.DataFrame({
        "route": ["offline only"] * 3 + ["online only"] * 3 + ["CQL, then DQN"] * 3, "seed": [0, 1, 2] * 3,
        "lost": [0.3, 0.3, 0.3, 0.2, 0.3, 0.4, 0.1, 0.2, 0.3],
    })  # fmt: skip
    row = experiment.gain_table(runs).set_index("route").loc["CQL, then DQN"]
    assert row[["over_online_only_iqm", "over_online_only_low", "over_online_only_high"]].tolist() == pytest.approx(
        [0.1] * 3
    )
    assert row["over_offline_only_iqm"] == pytest.approx(0.1)


@pytest.mark.verify
def test_the_part_makes_its_tables():
    def sweeps(function, grid):
        return sweep(function, grid | {key: [value] for key, value in TINY.items()}, seeds=2, jobs=1, progress=False)

    tables = experiment.fine_tuning(sweeps, True)
    name = "evaluation_fine_tuning"
    assert list(tables) == [name, f"{name}_gain", f"{name}_curves", f"{name}_runs"]
    assert tables[name]["route"].tolist() == tables[f"{name}_gain"]["route"].tolist()
    assert (tables[name]["seeds"] == 2).all()
    assert tables[f"{name}_curves"]["step"].unique().tolist() == [0, 50, 100]
    assert np.isfinite(tables[f"{name}_curves"]["share_iqm"]).all()
