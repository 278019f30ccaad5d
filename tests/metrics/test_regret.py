"""Regret and the exponent of its growth, on curves whose answer is known."""

import numpy as np
import pandas as pd
import pytest

from ca14lib.metrics.regret import cumulative_regret, exponent_interval, regret_exponent, regret_table

STEPS = 20 * np.arange(1, 1001)


def test_regret_adds_up_what_each_policy_falls_short():
    assert cumulative_regret(2.0, [1.0, 2.0, 1.5]).tolist() == [1.0, 1.0, 1.5]
    assert cumulative_regret(2.0, np.ones((3, 4))).shape == (3, 4)
    assert cumulative_regret(1.0, [1.0 + 1e-12]).tolist() == [0.0], "rounding is no negative regret"


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("first", [0.0, 0.1, 0.5])
def test_the_exponent_of_a_power_is_its_power(power, first):
    assert regret_exponent(STEPS, 7 * STEPS**power, first=first) == pytest.approx(power, abs=1e-9)


def test_the_fit_weighs_the_curve_evenly_in_the_logarithm():
    """A regret that grows until half of the steps: by number of points that would be mostly flat."""
    curve = np.minimum(STEPS, 10_000).astype(float)
    found = regret_exponent(STEPS, curve)
    x = np.log(np.geomspace(2_000, 20_000, 50))
    assert found == pytest.approx(np.polyfit(x, np.minimum(x, np.log(10_000)), 1)[0], abs=0.02)


def test_the_interval_is_over_seeds():
    curves = np.stack([STEPS**power for power in (0.4, 0.5, 0.5, 0.6)])
    found = exponent_interval(STEPS, curves)
    assert found.estimate == pytest.approx(0.5)
    assert 0.39 < found.low < 0.5 < found.high < 0.61
    assert regret_exponent(STEPS, curves).shape == (4,)


def test_a_table_reads_the_last_episode_that_had_ended():
    curves = pd.DataFrame({"step": [20, 40, 60], "regret": [1.0, 2.0, 4.0], "agent": "x", "seed": 0})
    table = regret_table(curves, [20, 59, 100])
    assert table["regret"].tolist() == [1.0, 2.0, 4.0]
    assert table["step"].tolist() == [20, 59, 100]
    assert table["agent"].unique().tolist() == ["x"]


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: cumulative_regret(1.0, [1.1]), "exceed the optimum 1, got a return of 1.1"),
        (lambda: cumulative_regret(1.0, []), "not empty"),
        (lambda: cumulative_regret(1.0, [np.nan]), "finite"),
        (lambda: regret_exponent([1, 2], [0.0, 1.0], first=0.0), "positive regret"),
        (lambda: regret_exponent([2, 1], [1.0, 1.0]), "increasing"),
        (lambda: regret_exponent([1, 2], [1.0, 1.0], first=1.0), r"first must lie in \[0, 1\), got 1.0"),
        (lambda: regret_exponent([1, 2], [1.0]), "one per regret"),
        (lambda: regret_table(pd.DataFrame({"step": [20], "regret": [1.0], "run": 0}), [10]), "at least 20"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
