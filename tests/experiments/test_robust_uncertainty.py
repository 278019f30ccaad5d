"""The experiment on uncertainty: data whose truth is known, rows that mean what they say, and the claims it is for."""

import numpy as np
import pandas as pd
import pytest
import torch

from ca14lib.environments.domains import PendulumDomainVector
from ca14lib.experiments import read_results
from ca14lib.experiments.robust import uncertainty as experiment
from ca14lib.experiments.robust.uncertainty import TESTS, UNIT, examples, judged, uncertainty_part, uncertainty_run
from ca14lib.networks.uncertainty import Prediction
from ca14lib.training.sweep import sweep


def test_examples_are_steps_of_the_pendulum_with_the_noise_they_state():
    for name, where in TESTS.items():
        data = examples(20_000, where, seed=100)
        inputs = data.inputs.double().numpy()
        sine, speed, torque, length = inputs[:, 1], 4 * inputs[:, 2], 2 * inputs[:, 3], 1 + inputs[:, 4] / 5
        expected = 0.05 * (15 / length * sine + 3 / (where.mass * length**2) * torque)
        clipped = np.clip(speed + expected, -PendulumDomainVector.SPEED_LIMIT, PendulumDomainVector.SPEED_LIMIT) - speed
        np.testing.assert_allclose(UNIT * data.truth, clipped, atol=2e-6)
        np.testing.assert_allclose(UNIT * data.noise, 0.05 + 0.0125 * abs(speed), atol=1e-6)
        error = (data.target.squeeze(-1).double().numpy() - data.truth) / data.noise
        assert error.std() == pytest.approx(1.0, abs=0.02), name
        assert (abs(speed) >= where.speed[0] - 1e-6).all()
        assert (abs(speed) <= where.speed[1] + 1e-6).all()
        assert (inputs[:, 0] >= -1e-6).all()  # upright half


def test_another_mass_has_the_same_inputs_and_another_seed_has_not():
    held_out, heavier = (examples(50, TESTS[name], 100) for name in ("held out", "heavier"))
    assert torch.equal(held_out.inputs, heavier.inputs)
    assert not np.allclose(held_out.truth, heavier.truth)
    assert not torch.equal(held_out.inputs, examples(50, TESTS["held out"], 101).inputs)


def test_whoever_knows_the_truth_is_calibrated_and_has_no_epistemic_part():
    data = examples(5_000, TESTS["held out"], 100)
    truth = torch.as_tensor(data.truth)[:, None]
    noise = torch.as_tensor(data.noise**2)[:, None]
    perfect = Prediction(truth + 1e-9 * torch.randn(truth.shape), noise, torch.zeros_like(noise))
    row = judged(perfect, data, perfect, data)
    assert row["calibration_error"] < 0.015
    assert row["aleatoric"] == pytest.approx(row["noise"])
    assert row["epistemic"] == 0.0
    assert row["mean_error"] < 1e-6
    assert row["covered_0.9"] == pytest.approx(0.9, abs=0.015)
    assert row["abstaining"] == pytest.approx(1.0)  # all cases alike: no order


@pytest.mark.learning
def test_what_is_not_known_shows_far_away_and_shrinks_with_data_while_noise_stays(monkeypatch):
    monkeypatch.setattr(experiment, "TEST_EXAMPLES", 500)
    rows = (
        pd.concat([pd.DataFrame(uncertainty_run(count, 100, steps=500)).assign(count=count) for count in (100, 3_000)])
        .set_index(["count", "method", "test"])
        .sort_index()
    )
    for method in ("ensemble", "bootstrap", "dropout"):
        known = rows.loc[3_000, method]
        assert known["epistemic"]["faster"] > known["epistemic"]["held out"], method
        assert known["epistemic"]["longer"] > known["epistemic"]["held out"], method
        assert known["epistemic"]["heavier"] == pytest.approx(known["epistemic"]["held out"], rel=0.05), method
        assert known["aleatoric"]["held out"] == pytest.approx(known["noise"]["held out"], rel=0.25)
    few, many = (rows.loc[(count, "bootstrap", "held out")] for count in (100, 3_000))
    assert many["epistemic"] < few["epistemic"] / 2
    assert abs(many["aleatoric"] / few["aleatoric"] - 1) < 0.4
    few, many = (rows.loc[(count, "dropout", "held out")] for count in (100, 3_000))
    assert many["epistemic"] > few["epistemic"] / 2  # dropout's spread does not concentrate


@pytest.mark.learning
def test_part_returns_its_tables(monkeypatch):
    def quick(function, grid, **arguments):
        assert set(grid) == {"examples_seen", "steps"}
        return sweep(function, {"examples_seen": [100], "steps": [3]}, [100, 101], jobs=1, progress=False)

    monkeypatch.setattr(experiment, "TESTS", {name: TESTS[name] for name in ("held out", "heavier")})
    monkeypatch.setattr(experiment, "TEST_EXAMPLES", 50)
    monkeypatch.setattr(experiment, "SCORES", experiment.SCORES[:2])
    tables = uncertainty_part(quick, True)
    assert set(tables) == {"uncertainty", "uncertainty_runs"}
    table = tables["uncertainty"]
    assert len(table) == len(experiment.METHODS) * 2
    assert (table["seeds"] == 2).all()
    assert {"epistemic_iqm", "epistemic_low", "aleatoric_high"} <= set(table)
    assert set(experiment.SCORES) < set(tables["uncertainty_runs"])
    assert len(tables["uncertainty_runs"]) == 2 * len(table)
    assert table.notna().all().all()


def test_the_stored_spread_grows_with_the_shift_and_falls_with_data_while_the_noise_stays():
    table = read_results("uncertainty").set_index(["method", "examples_seen", "test"]).sort_index()
    for method in ("ensemble", "bootstrap"):
        for amount in table.index.unique("examples_seen"):
            rows = table.loc[(method, amount)]
            for shifted in ("faster", "longer"):
                assert rows.loc[shifted, "epistemic_low"] > rows.loc["held out", "epistemic_high"]
    few, many = (table.loc[("bootstrap", amount, "held out")] for amount in (100, 10_000))
    assert many["epistemic_high"] < 0.2 * few["epistemic_low"]
    for amount in (300, 1_000, 3_000, 10_000):
        aleatoric = table.loc[("bootstrap", amount, "held out"), "aleatoric_iqm"]
        assert aleatoric == pytest.approx(many["noise_iqm"], rel=0.1)
