"""The experiment on the operator's grid: days are counted whole, shares are of their seed; all of it on a stand-in."""

import gymnasium as gym
import numpy as np
import pandas as pd
import pytest

from ca14lib.environments.applications.anm import GridOperator
from ca14lib.experiments.evaluation import anm as experiment
from ca14lib.experiments.evaluation.anm import METHODS, anm, anm_table, controller, episodes, uncontrolled
from ca14lib.training.sweep import sweep


class Line(gym.Env):
    """The first action is the power of a line: overloaded beyond 5, it collapses at 9."""

    def __init__(self) -> None:
        self.observation_space = gym.spaces.Box(np.array([-10.0, 0.0]), np.array([10.0, 95.0]), dtype=np.float64)
        self.action_space = gym.spaces.Box(0.0, 10.0, (6,), np.float64)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.clock = int(self.np_random.integers(96))
        return np.array([0.0, self.clock]), {}

    def step(self, action):
        self.clock = (self.clock + 1) % 96
        self.e_loss, self.penalty = 0.1, 10.0 * float(action[0] > 5)
        over = bool(action[0] >= 9)
        return np.array([action[0], self.clock]), -20_000.0 if over else -self.e_loss - self.penalty, over, False, {}


def test_a_day_that_ends_early_pays_for_the_steps_that_are_missing():
    grid = GridOperator(Line(), time_limit=10)
    calm = episodes(lambda seen: np.full(6, 4.0), grid, 0, (0, 8))
    assert calm == pytest.approx({"return": -1.0, "cost": 0, "energy_loss": 1.0, "violated": 0, "collapsed": 0})
    collapsed = episodes(lambda seen: np.full(6, 9.5), grid, 0, (0, 8))
    assert collapsed["return"] == -2_000.0
    assert collapsed["collapsed"] == 1.0
    overloaded = episodes(lambda seen: np.full(6, 6.0), grid, 0, (0, 8))
    assert overloaded["cost"] == pytest.approx(100.0)
    assert collapsed["return"] < overloaded["return"] < calm["return"]


def test_without_control_generators_give_all_they_can():
    np.testing.assert_array_equal(uncontrolled(GridOperator(Line())), [10, 10, 0, 0, 0, 0])


def test_unknown_methods_are_refused():
    with pytest.raises(ValueError, match="MPC, perfect forecast"):
        controller("hope", GridOperator(Line()), 0)


def test_shares_are_of_the_same_seed(monkeypatch):
    monkeypatch.setattr(experiment, "SCORES", ("return", "share"))
    rows = [{"method": method, "seed": seed} | dict.fromkeys(("cost", "energy_loss", "violated", "collapsed"), 0.0)
            | {"return": value * (seed + 1), "training_seconds": 0.0, "milliseconds": 1.0}
            for seed in (0, 1)
            for method, value in zip(METHODS, (-200.0, -100.0, -50.0, -20.0, -60.0))]  # fmt: skip
    table = anm_table(pd.DataFrame(rows)).set_index("method")
    shares = dict(zip(METHODS, (-1.25, 0.0, 0.625, 1.0, 0.5)))
    for method, share in shares.items():
        assert table.loc[method, ["share_low", "share_iqm", "share_high"]].tolist() == pytest.approx([share] * 3)


@pytest.mark.learning
def test_part_returns_its_tables(monkeypatch):
    def tiny(function, grid, **arguments):
        small = {"method": grid["method"], "steps": [8], "time_limit": [3], "hours": [(8,)]}
        return sweep(function, small, [100, 101], jobs=1, progress=False)

    monkeypatch.setattr(experiment, "SCORES", ("collapsed", "share"))
    monkeypatch.setattr(experiment, "grid_operator", lambda time_limit: GridOperator(Line(), time_limit))
    monkeypatch.setattr(
        experiment, "model_predictive_agent",
        lambda grid, forecast, **settings: lambda: np.full(6, 4.0 if forecast == "perfect" else 5.5),
    )  # fmt: skip
    gym.register("StandIn-v0", entry_point=lambda reward_scale: GridOperator(Line(), 5, -200.0, reward_scale))
    monkeypatch.setattr(experiment, "TASK", "StandIn-v0")
    try:
        tables = anm(tiny, True)
    finally:
        del gym.registry["StandIn-v0"]
    table = tables["anm"].set_index("method")
    assert list(table.index) == list(METHODS)
    assert table.loc["MPC, perfect forecast", "share_iqm"] == 1
    assert table.loc["no control", "collapsed_iqm"] == 1
    assert set(tables) == {"anm", "anm_runs"}
