"""Rules, shield and exact values of the part on driving, and that its tables say what is said."""

import numpy as np
import pandas as pd
import pytest

from ca14lib.environments.applications.junction import junction_model
from ca14lib.experiments.evaluation import driving as part
from ca14lib.experiments.evaluation.driving import (
    DRIVERS,
    ROADS,
    TEAMS,
    TRAFFIC,
    both_go,
    driving,
    gap_ahead,
    joint_table,
    junction_run,
    motorway_run,
    right_of_way,
    time_gap_driver,
    time_gap_shield,
)
from ca14lib.experiments.offline.driving import FASTER, KEEP, LEFT, RIGHT, SLOWER
from ca14lib.solvers import policy_costs, policy_return, value_iteration
from ca14lib.training.sweep import sweep


def road(distance: float | None = None, closing: float = 0.0, *, side: int = 0, speed: float = 25.0) -> np.ndarray:
    """One observation with at most one other car."""
    seen = np.zeros((1, 5, 5))
    seen[0, 0] = (1, 1, 0.33, speed / 80, 0)
    if distance is not None:
        seen[0, 1] = (1, distance / 200, side * 4 / 12, -closing / 80, 0)
    return seen


def test_gap_is_to_the_nearest_car_ahead_on_the_own_lane():
    seen = road(60, 5)
    seen[0, 2] = (1, 30 / 200, 4 / 12, 0, 0)  # on the next lane
    seen[0, 3] = (1, -10 / 200, 0, 0, 0)  # behind
    seen[0, 4] = (1, 90 / 200, 0, 0, 0)
    np.testing.assert_allclose(gap_ahead(seen), [[60], [5]])
    assert gap_ahead(road())[0][0] == np.inf


def test_the_rule_brakes_holds_and_accelerates():
    assert time_gap_driver(road(40)) == SLOWER  # 8 m and 1.5 s at 25 m/s are 45.5 m
    assert time_gap_driver(road(60)) == KEEP
    assert time_gap_driver(road(60, 15)) == SLOWER, "it is reached within four seconds"
    assert time_gap_driver(road(200, speed=20.0)) == FASTER
    assert time_gap_driver(road(speed=25.0)) == KEEP, "never above the limit"


def allowed_actions(seen):
    return np.flatnonzero(time_gap_shield(seen, {})[0]).tolist()


def assert_shield_keeps_the_gap() -> None:
    assert allowed_actions(road()) == [LEFT, KEEP, RIGHT, FASTER, SLOWER]
    assert allowed_actions(road(40)) == [SLOWER], "to change lane is not to brake"
    assert allowed_actions(road(60)) == [LEFT, KEEP, RIGHT, SLOWER]
    assert allowed_actions(road(20, side=1)) == [LEFT, KEEP, FASTER, SLOWER]
    assert allowed_actions(road(-20, side=-1)) == [KEEP, RIGHT, FASTER, SLOWER]


def test_the_shield_keeps_the_gap_and_looks_beside():
    assert_shield_keeps_the_gap()


@pytest.mark.parametrize(
    "name, value", [("TIME_GAP", 0.0), ("METRES_PER_SECOND", 8.0), ("METRES", np.array([20.0, 12.0]))]
)
def test_wrong_units_are_noticed(name, value, monkeypatch):
    """Planted faults."""
    monkeypatch.setattr(part, name, value)
    with pytest.raises(AssertionError):
        assert_shield_keeps_the_gap()


@pytest.mark.parametrize("slip", [0.1, 0.3])
def test_the_right_of_way_is_optimal_and_free_of_crashes(slip):
    model = junction_model(slip)
    table = joint_table(right_of_way)
    assert policy_costs(model, table)[0] == 0
    assert policy_return(model, table) == pytest.approx(policy_return(model, value_iteration(model).policy), abs=1e-9)


def test_two_who_never_wait_crash_as_often_as_they_meet():
    """Without slips they meet if they start in the same cell: three of nine pairs."""
    assert policy_costs(junction_model(0.0), joint_table(both_go))[0] == pytest.approx(1 / 3)


def test_teams_are_valued_exactly_and_the_guarded_one_never_crashes():
    rows = junction_run("MAPPO + right of way", 0, steps=768)
    assert [row["road"] for row in rows] == list(ROADS)
    assert all(row["crashed"] == 0 for row in rows)
    assert all(row["share"] <= 1 + 1e-9 for row in rows)
    assert junction_run("optimum", 0)[0]["share"] == 1
    assert junction_run("both go", 0)[0]["share"] == 0


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="team must be one of optimum"):
        junction_run("QMIX", 0)
    with pytest.raises(ValueError, match="driver must be one of overtaking rule"):
        motorway_run("me", 0)
    with pytest.raises(ValueError, match="got 'rush hour'"):
        motorway_run("time gap", 0, traffics=("rush hour",))


def test_a_drive_repeats():
    pytest.importorskip("highway_env")
    first, again = (motorway_run("time gap", 0, episodes=1, traffics=("worse sensor",)) for _ in range(2))
    assert first == again
    assert 1 <= first[0]["length"] <= 20


def test_tables_have_a_row_for_each():
    def sweeps(function, grid):
        key, names = next(iter(grid.items()))
        worlds = ("traffic", TRAFFIC) if function is motorway_run else ("road", ROADS)
        numbers = ("return", "crashed", "share", "speeding", "length", "training_crashes")
        return pd.DataFrame(
            {key: name, worlds[0]: world, "seed": seed, "error": "", "seconds": 1.0} | dict.fromkeys(numbers, 1.0)
            for name in names
            for world in worlds[1]
            for seed in (0, 1)
        )

    tables = driving(sweeps, False)
    assert len(tables["evaluation_driving"]) == len(DRIVERS) * len(TRAFFIC)
    assert len(tables["evaluation_junction"]) == len(TEAMS) * len(ROADS)
    assert (tables["evaluation_junction"]["crashed_max"] == 1).all()


@pytest.mark.verify
def test_part_makes_its_tables():
    pytest.importorskip("highway_env")

    def sweeps(function, grid):
        return sweep(function, grid, seeds=2, jobs=1, progress=False)

    tables = driving(sweeps, True)
    exact = tables["evaluation_junction"].set_index(["team", "road"])
    assert exact.loc[("optimum", "nearly dry"), "share_iqm"] == 1
    assert exact.loc[("MAPPO + right of way", "slippery"), "crashed_max"] == 0
    assert len(tables["evaluation_driving"]) == 2 * len(DRIVERS)
