"""The part on delivered reactors: what it compares, that counts are of the true state, and that its tables add up."""

import numpy as np
import pandas as pd
import pytest

from ca14lib.agents.safe.control_barrier import reactor_barrier
from ca14lib.environments import ReactorVector
from ca14lib.environments.applications.industrial import DeployedReactorVector, Deployment
from ca14lib.experiments.evaluation.industrial import (
    CONTROLLERS,
    EPISODE_STEPS,
    LEARNED,
    PLANTS,
    REFERENCES,
    SETTINGS,
    deployed,
    evaluation_seed,
    industrial,
    industrial_run,
    with_shares,
)
from ca14lib.training.sweep import sweep

TINY = {"steps": 3_200, "candidates": 4, "episodes": 2}


def heat(seen):
    return np.ones((len(seen), 1))


def test_counts_are_those_of_the_true_state_in_every_step(monkeypatch):
    seen, step = [], DeployedReactorVector._transition

    def remember(self, action):
        result = step(self, action)
        seen.append(self._x.copy())
        return result

    monkeypatch.setattr(DeployedReactorVector, "_transition", remember)
    found = deployed(heat, Deployment(sensor_noise=2.0, delay=1), 3, episodes=3)
    states = np.array(seen)
    assert len(states) == EPISODE_STEPS
    assert found["overheated"] == pytest.approx((states[..., 1] > 355).sum() / 3)
    assert found["unreacted"] == pytest.approx((states[..., 0] > 0.65).sum() / 3)
    assert found["hottest"] == states[..., 1].max()
    assert found["violating"] == 1
    assert found["tracking_error"] == pytest.approx(-found["return"] / 2_000)


def test_the_barrier_holds_on_the_plant_as_designed_and_not_on_every_other():
    barrier = reactor_barrier(ReactorVector(1))
    assert deployed(heat, Deployment(), 0, episodes=4, barrier=barrier)["overheated"] == 0
    assert deployed(heat, Deployment(cooling=0.8), 0, episodes=4, barrier=barrier)["overheated"] > 0


def test_all_controllers_meet_the_same_starts_and_no_training_does():
    seeds = [evaluation_seed(seed) for seed in range(5)]
    assert len(set(seeds)) == 5
    assert min(seeds) > 1_000


def test_a_run_repeats_but_for_its_time():
    first, again = (industrial_run("PID", 0, plants=("as designed",), **TINY)[0] for _ in range(2))
    assert first.pop("milliseconds") > 0
    again.pop("milliseconds")
    assert first == again


def test_who_knows_the_delay_is_measured_where_there_is_one():
    (row,) = industrial_run("adaptive MPC told the delay", 0, plants=("as designed", "1 step late"), **TINY)
    assert row["plant"] == "1 step late"


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match=r"setting must be one of uniform, .*got 'hope'"):
        industrial_run("hope", 0)
    with pytest.raises(ValueError, match=r"plants must be of as designed, .*got 'on Mars'"):
        industrial_run("PID", 0, plants=("on Mars",))


def test_shares_are_by_seed():
    runs = pd.DataFrame(
        {"setting": name, "seed": seed, "return": value * (seed + 1)}
        for seed in (0, 1)
        for name, value in (("uniform", -10.0), ("foresight", -2.0), ("PID", -4.0))
    )
    found = with_shares(runs).set_index("setting")["share"]
    assert found["PID"].tolist() == [0.75, 0.75]
    assert found["uniform"].tolist() == [0, 0]
    assert found["foresight"].tolist() == [1, 1]


def test_every_controller_has_its_row_at_every_plant():
    def sweeps(function, grid):
        assert function is industrial_run
        assert grid["setting"] == list(SETTINGS)
        numbers = ("tracking_error", "overheated", "unreacted", "overheating", "violating", "hottest", "milliseconds")
        trained = ("training_overheated", "training_unreacted")
        return pd.DataFrame(
            {"setting": setting, "plant": plant, "seed": seed, "error": "", "seconds": 1.0}
            | {"return": -float(len(setting)), **dict.fromkeys(numbers + trained, 1.0)}
            for setting in grid["setting"]
            for plant in (PLANTS if setting not in REFERENCES else ["as designed"])
            for seed in (0, 1)
        )

    tables = industrial(sweeps, False)
    table = tables["evaluation_industrial"]
    assert len(table) == len(REFERENCES) + len(CONTROLLERS) * len(PLANTS)
    assert table.groupby("setting")["plant"].nunique().loc["PID"] == len(PLANTS)
    assert (table["seeds"] == 2).all()
    assert set(LEARNED) < set(table["setting"])


def test_at_no_plant_that_is_cooled_at_once_the_temperature_limit_is_exceeded():
    """With the starts of seed 0; with others single episodes of two plants cannot be helped."""
    rows = industrial_run("full cooling", 0, episodes=16)
    assert [row["plant"] for row in rows] == list(PLANTS)
    prompt = [row["overheating"] for row in rows if PLANTS[row["plant"]].delay == 0]
    assert prompt == [0.0] * len(prompt)


@pytest.mark.verify
def test_part_makes_its_tables():
    def sweeps(function, grid):
        return sweep(function, grid, seeds=2, jobs=1, progress=False)

    table = industrial(sweeps, True)["evaluation_industrial"].set_index(["setting", "plant"])
    assert table.loc[("foresight", "as designed"), "share_iqm"] == 1
    assert table.loc[("foresight", "as designed"), "overheated_iqm"] == 0
    assert table.loc[("PPO + barrier", "all at once"), "training_overheated"] == 0
    assert ("adaptive MPC told the delay", "all at once") in table.index
