"""Learning from comparisons: worlds, segments, judges, and the tables."""

import numpy as np
import pytest

from ca14lib.environments import uniform_policy
from ca14lib.experiments.evaluation import preferences as experiment
from ca14lib.solvers import occupancy_measure
from ca14lib.training.sweep import sweep


def test_segments_are_pieces_of_walks():
    model, _ = experiment.world(0)
    states, actions = experiment.segments(model, 400, 0)
    assert states.shape == actions.shape == (400, experiment.SEGMENT)
    np.testing.assert_array_equal(experiment.cells()[states[:, :-1], actions[:, :-1]], states[:, 1:])
    seen = experiment.visits(states, actions)
    assert (seen.sum(axis=1) == experiment.SEGMENT).all()
    assert (experiment.visits(states, actions) @ np.arange(36) == experiment.cells()[states, actions].sum(axis=1)).all()


def test_walk_weights_are_the_occupancy_of_entered_cells():
    model, _ = experiment.world(0)
    occupancy = occupancy_measure(model, uniform_policy(model))
    entered = np.zeros(36)
    np.add.at(entered, experiment.cells(), occupancy)
    np.testing.assert_allclose(experiment.walk_weights(), entered / entered.sum())


def test_a_shift_changes_the_plan_only_past_the_price_of_a_step():
    table = experiment.shift_table().set_index("shift")["share"]
    assert table[[-1.0, -0.1, 0.0, 0.09]].tolist() == pytest.approx([1.0] * 4)
    assert (table[[0.11, 0.5]] < 0.1).all()


def test_judges_are_as_sure_as_they_say():
    draws, difference = np.random.default_rng(0), np.tile([[1.0, 0.0]], (20_000, 1))
    reward = np.array([100.0, 0.0])
    said = {judge: experiment.answers(difference, reward, judge, draws).mean() for judge in experiment.JUDGES}
    assert said["sure"] == said["unsure"] == 1.0
    assert said["one answer in five a coin's"] == pytest.approx(0.9, abs=0.01)


def test_a_run_is_bounded_by_the_optimum_and_repeats():
    first, again = (experiment.preferences_run(30, "sure", "prior as ridge", 1, worlds=2) for _ in range(2))
    assert first == again
    shares = ["point", "mean", "pessimistic", "win_rates", "cloned", "regressed", "peak"]
    assert all(first[name] <= 1 for name in shares)
    assert first["peak"] - first["excess"] == pytest.approx(first[f"true_{len(experiment.TEMPERATURES) - 1}"])
    proxy = [first[f"proxy_{index}"] for index in range(len(experiment.TEMPERATURES))]
    assert proxy == sorted(proxy), "what is promised rises along the path"


def test_the_part_makes_its_tables(monkeypatch):
    # an interval costs a fifth of a second: two scores and two temperatures are enough here
    monkeypatch.setattr(experiment, "SCORES", ["point", "excess"])
    monkeypatch.setattr(experiment, "TEMPERATURES", (1.0, 0.1))

    def sweeps(function, grid):
        return sweep(function, grid, seeds=2, jobs=1, progress=False)

    tables = experiment.preferences(sweeps, True)
    name = "evaluation_preferences"
    assert list(tables) == [name, f"{name}_path", f"{name}_shift", f"{name}_runs"]
    assert len(tables[name]) == 4
    assert (tables[name]["seeds"] == 2).all()
    assert len(tables[f"{name}_path"]) == 2 * len(experiment.TEMPERATURES)
    assert np.isfinite(tables[name].select_dtypes("number").to_numpy()).all()
