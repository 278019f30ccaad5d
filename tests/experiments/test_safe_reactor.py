"""The reactor experiment: overheated steps are all counted, the barrier prevents them, the table says what is said."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from ca14lib.environments import ReactorVector
from ca14lib.experiments.results import read_results
from ca14lib.experiments.safe import reactor
from ca14lib.experiments.safe.reactor import (
    SETTINGS,
    fitted_safety_layer,
    reactor_part,
    reactor_run,
    scaled_temperature,
)

RESULTS = Path(__file__).parents[2] / "results"
STORED = (RESULTS / "safe_reactor.csv").exists()
TINY = {"steps": 3_200, "episodes": 2}


@pytest.fixture(scope="module")
def watched():
    """A short training of PPO alone, and what the reactor itself says of every step of it."""
    seen, step = [], ReactorVector._transition

    def remember(self, action):
        result = step(self, action)
        if self.num_envs == reactor.NUM_ENVS:  # not the evaluation's copies
            seen.append(self._x.copy())
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ReactorVector, "_transition", remember)
        found = reactor_run("PPO", 0, **TINY)
    return found, np.concatenate(seen)


def test_all_steps_of_training_are_counted(watched):
    found, states = watched
    assert len(states) == found["steps"] == 3_200
    assert found["overheated"] == (states[:, 1] > 355).sum() > 0
    assert found["unreacted"] == (states[:, 0] > 0.65).sum() > 0
    assert found["hottest"] == pytest.approx(states[:, 1].max(), abs=1e-3)


def test_behind_the_barrier_nothing_overheats_in_training_or_after_it(watched):
    found = reactor_run("PPO + barrier", 0, **TINY)
    assert found["overheated"] == found["final_overheated"] == 0
    assert found["hottest"] < 355
    assert 0 < found["corrected"] < 1
    assert watched[0]["corrected"] == 0


def test_the_count_notices_a_filter_that_does_not_work(monkeypatch):
    """A planted fault: the right filter, asked about another state than the present one."""
    healthy = reactor.reactor_barrier

    def stale(environment):
        barrier = healthy(environment)
        state = barrier.state
        barrier.state = lambda seen: np.broadcast_to(state(np.zeros_like(seen[:1])), (len(seen), 3))
        return barrier

    monkeypatch.setattr(reactor, "reactor_barrier", stale)
    found = reactor_run("PPO + barrier", 0, **TINY)
    assert found["overheated"] > 0
    assert found["hottest"] > 355


def test_tracking_error_is_the_mean_distance_to_the_set_point(monkeypatch):
    class Constant:
        def __init__(self, *args, **keywords):
            pass

        def __call__(self, agent):
            return {"return": -100.0, "length": 200.0, "cost_0": 3.0, "cost_1": 0.0}

    monkeypatch.setattr(reactor, "RolloutEvaluation", Constant)
    found = reactor_run("PPO", 0, **TINY)
    # the reward is ten times the distance: 100 in 200 steps are 0.05 mol/L a step
    assert found["tracking_error"] == pytest.approx(0.05)
    assert found["final_overheated"] == 3


def test_the_safety_layer_predicts_the_next_temperature_near_the_limit():
    layer, overheated = fitted_safety_layer(0)
    assert overheated > 0, "random actions overheat: the layer's data have their price"
    environment = ReactorVector(256)
    observation, _ = environment.reset(seed=1)
    action = np.random.default_rng(0).uniform(-1, 1, (256, 1)).astype(np.float32)
    following = environment.step(action)[0]
    predicted = layer(torch.as_tensor(observation), torch.as_tensor(action)).detach().numpy()[:, 0]
    assert np.abs(predicted - scaled_temperature(following)).max() < 0.1, "1 K"


def test_a_run_repeats_and_unknown_settings_are_refused(watched):
    assert reactor_run("PPO", 0, **TINY) == watched[0]
    with pytest.raises(ValueError, match=r"setting must be one of PPO, .*got 'hope'"):
        reactor_run("hope", 0)


def test_the_layer_pays_for_its_data_and_corrects():
    found = reactor_run("PPO + safety layer", 0, **TINY)
    assert found["data_overheated"] > 0
    assert found["corrected"] > 0


def test_every_setting_has_its_row_with_its_worst_seed():
    columns = {"steps", "unreacted", "corrected", "tracking_error", "final_unreacted", "seconds"}
    worst = {"overheated": 7.0, "hottest": 400.0, "final_overheated": 2.0, "data_overheated": 1.0}

    def sweeps(function, grid):
        assert function is reactor_run
        return pd.DataFrame(
            {"setting": setting, "seed": seed, "error": ""}
            | dict.fromkeys(columns, 1.0)
            | {name: value * seed for name, value in worst.items()}
            for setting in grid["setting"]
            for seed in (0, 1)
        )

    tables = reactor_part(sweeps, False)
    table = tables["safe_reactor"]
    assert table["setting"].tolist() == list(SETTINGS)
    assert (table["seeds"] == 2).all()
    assert len(tables["safe_reactor_runs"]) == 2 * len(SETTINGS)
    for name, value in worst.items():
        assert (table[f"{name}_max"] == value).all()


@pytest.mark.skipif(not STORED, reason="results/safe_reactor.csv comes with `ca14 run safe --part reactor`")
def test_the_stored_table_shows_that_only_the_barrier_never_overheats():
    runs = read_results("safe_reactor_runs").set_index("setting")
    assert (runs.loc["PPO + barrier", ["overheated", "final_overheated"]] == 0).all(axis=None)
    assert runs.loc["PPO + barrier", "hottest"].max() < 355
    for other in set(SETTINGS) - {"PPO + barrier"}:
        assert runs.loc[other, "overheated"].min() > 1_000
        assert runs.loc[other, "hottest"].min() > 400, "a runaway in every training"
