"""The part on robust decision processes: what its tables hold, and what the pages say about them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ca14lib.environments import SafeCliffVector, river_swim_model
from ca14lib.experiments.robust import robust_mdp
from ca14lib.experiments.robust.robust_mdp import (
    CAREFUL,
    RIVER_DISCOUNT,
    SEPSIS_SETS,
    WIND,
    cliff_model,
    cliff_solution,
    cliff_table,
    cliff_way,
    drawn_model,
    draws_table,
    river_table,
    robust_mdp_part,
    sepsis_table,
    wind_table,
)
from ca14lib.solvers import policy_return, value_iteration

RESULTS = Path(__file__).parents[2] / "results"
stored = pytest.mark.skipif(
    not (RESULTS / "robust_mdp_cliff.csv").exists(),
    reason="results/robust_mdp_cliff.csv comes with `ca14 run robust --part mdp`",
)


def test_nominal_model_is_the_environments():
    assert SafeCliffVector(1).wind == WIND
    behaviours = SafeCliffVector(1).behaviours()
    timed = {name: np.broadcast_to(behaviours[name], (25, 32, 4)) for name in ("ledge", "detour")}
    assert {name: cliff_way(policy) for name, policy in timed.items()} == {"ledge": "ledge", "detour": "detour"}


def test_cliff_table_states_price_and_gain():
    table = cliff_table((0.0, 0.1, 0.2))
    assert table.columns.tolist() == [
        "support", "radius", "way", "guarantee", "nominal_return", "price", "nominal_guarantee", "gain",
    ]  # fmt: skip
    assert (table["price"] >= -1e-9).all()
    assert (table["gain"] >= -1e-9).all()
    assert (table["guarantee"] <= table["nominal_return"] + 1e-9).all()
    nominal = table[table["support"] == "nominal"].set_index("radius")
    assert nominal.loc[0.0, "guarantee"] == pytest.approx(value_iteration(cliff_model()).optimal_return)
    assert nominal["way"].tolist() == ["ledge", "ledge", "detour"]
    assert nominal.loc[0.2, "gain"] == pytest.approx(1.047, abs=0.001)
    simplex = table[table["support"] == "simplex"]
    assert set(simplex["way"]) == {"ledge"}
    assert (simplex["guarantee"].to_numpy() <= nominal["guarantee"].to_numpy() + 1e-9).all()


def test_winds_cross_between_a_tenth_and_an_eighth():
    table = wind_table((0.05, 0.1, 0.125)).set_index("wind")
    assert np.sign(table["gain"]).tolist() == [-1, -1, 1]
    assert (table[["nominal", "robust"]].max(axis=1) <= table["optimum"] + 1e-9).all()


def test_drawn_models_lie_in_the_ball_and_differ():
    generator = np.random.default_rng(0)
    nominal = cliff_model()
    models = [drawn_model(nominal, 0.4, generator) for _ in range(5)]
    for model in models:
        assert abs(model.transition - nominal.transition).sum(axis=-1).max() <= 0.4 + 1e-12
        assert not model.transition[nominal.transition == 0].any()
    assert len({policy_return(model, cliff_solution(CAREFUL, "nominal").policy) for model in models}) == 5


def test_no_draw_is_worse_than_the_guarantee_and_draws_repeat():
    table = draws_table((0.2,), draws=20)
    assert (table["least"] >= table["guarantee"] - 1e-9).all()
    assert (table["least"] <= table["tenth"]).all()
    assert (table["tenth"] <= table["mean"]).all()
    pd.testing.assert_frame_equal(table, draws_table((0.2,), draws=20))
    assert not table.equals(draws_table((0.2,), draws=20, seed=1))


def test_river_table_turns_back_with_the_radius():
    table = river_table((0.0, 0.4, 0.6))
    nominal = table[table["support"] == "nominal"]
    assert nominal["swims_right"].tolist() == [6, 6, 3]
    assert nominal["nominal_return"].iloc[0] == value_iteration(river_swim_model(), RIVER_DISCOUNT).optimal_return
    assert (table["guarantee"] >= table["right_guarantee"] - 1e-9).all()


def test_part_makes_its_tables(monkeypatch):
    seen = []
    monkeypatch.setattr(robust_mdp, "sepsis_table", lambda sets: seen.append(sets) or pd.DataFrame({"ball": ["l1"]}))
    tables = robust_mdp_part(None, True)
    assert list(tables) == [f"robust_mdp_{name}" for name in ("cliff", "wind", "draws", "river", "sepsis")]
    assert all(len(table) for table in tables.values())
    assert seen == [SEPSIS_SETS[2:3]]


@pytest.mark.slow
def test_intensive_care_takes_seconds_and_loses_little_in_the_nominal_model():
    table = sepsis_table((("l1", "nominal", 0.0), ("l1", "nominal", 0.1)))
    assert (table["cpu_seconds"] < 10).all()
    assert (table["error_bound"] <= 1e-9).all()
    sure, careful = table["nominal_return"]
    assert 0 < sure - careful < 0.02
    assert table["guarantee"].iloc[0] == pytest.approx(sure)
    assert table["guarantee"].iloc[1] < 0.6


# what the pages say


@stored
def test_stored_sepsis_takes_under_ten_seconds_for_every_set():
    table = pd.read_csv(RESULTS / "robust_mdp_sepsis.csv")
    assert len(table) == len(SEPSIS_SETS)
    assert (table["cpu_seconds"] < 10).all()
    assert (table["error_bound"] <= 1e-9).all()


@stored
def test_stored_draws_show_what_caution_is_good_for():
    table = pd.read_csv(RESULTS / "robust_mdp_draws.csv").set_index(["radius", "policy"])
    assert table.loc[(0.2, "robust"), "mean"] < table.loc[(0.2, "nominal"), "mean"]
    assert table.loc[(0.2, "robust"), "least"] > table.loc[(0.2, "nominal"), "least"]
    assert table.loc[(0.4, "robust"), "mean"] > table.loc[(0.4, "nominal"), "mean"]
