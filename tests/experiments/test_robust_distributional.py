"""The part about return distributions: what it compares, that it repeats, and that its tables say what is said."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import wasserstein_distance

from ca14lib.agents.robust.risk_choice import RiskChoice
from ca14lib.environments import SafeCliffVector, tabular_model
from ca14lib.experiments.robust import distributional
from ca14lib.experiments.robust.distributional import (
    CHOICES,
    DISTRIBUTIONAL_AGENTS,
    TAIL,
    distributional_part,
    distributional_run,
    distributional_yardsticks,
    gain_table,
    safe_cliff_model,
    static_optimum,
    stepwise_policy,
    wasserstein,
)
from ca14lib.solvers import policy_return, policy_return_distribution, value_iteration
from ca14lib.training.sweep import sweep

TINY = 5  # updates


def test_stepwise_policy_of_the_mean_has_the_best_mean():
    model = safe_cliff_model()
    best = policy_return(model, value_iteration(model, 1.0).policy)
    assert policy_return(model, stepwise_policy(model, RiskChoice())) == pytest.approx(best, abs=1e-9)
    assert policy_return(model, stepwise_policy(model, RiskChoice("cvar", 1.0))) == pytest.approx(best, abs=1e-9)


def test_stepwise_cvar_goes_round_and_is_worse_than_the_static_optimum():
    found = distributional_yardsticks().set_index("policy")
    detour = policy_return_distribution(safe_cliff_model(), SafeCliffVector(1).behaviours()["detour"])
    assert found.loc["CVaR at every step", "return"] == pytest.approx(float(detour[0] @ detour[1]), abs=1e-9)
    assert found.loc["CVaR at every step", "cvar"] == pytest.approx(4.9291, abs=1e-4)
    assert found.loc["static CVaR optimum", "cvar"] == pytest.approx(6.0342, abs=1e-4)
    assert found.loc["mean"].tolist() == pytest.approx([11.75, 2.8597], abs=1e-4)


def test_stepwise_policy_needs_a_horizon_and_whole_rewards():
    with pytest.raises(ValueError, match="model must have a horizon"):
        stepwise_policy(tabular_model("CA14/RiverSwim-v0"), RiskChoice())
    model = SafeCliffVector(1, goal_reward=0.5).tabular_model()
    with pytest.raises(ValueError, match=r"rewards must be whole numbers, got 0\.5"):
        stepwise_policy(model, RiskChoice())


def test_wasserstein_is_that_of_scipy():
    generator = np.random.default_rng(0)
    for n, m in ((1, 1), (5, 3), (40, 70)):
        x, y = generator.integers(-5, 5, n).astype(float), generator.normal(size=m)
        p, q = generator.dirichlet(np.ones(n)), generator.dirichlet(np.ones(m))
        assert wasserstein(x, p, y, q) == pytest.approx(wasserstein_distance(x, y, p, q), abs=1e-12)


@pytest.fixture
def _short(monkeypatch) -> None:
    monkeypatch.setattr(distributional, "EPISODES", 20)
    monkeypatch.setattr(distributional, "WALKS", 50)


@pytest.mark.usefixtures("_short")
def test_a_run_is_judged_against_the_optimum_and_repeats():
    tiny = distributional_run("QRDQN", "cvar", 3, updates=TINY)
    assert tiny["cvar"] <= static_optimum().value + 1e-9
    assert tiny["cvar"] <= tiny["return"]
    assert tiny["acting_cvar"] == tiny["cvar"], "it chose by CVaR already"
    assert tiny["learned_cvar"] <= tiny["learned_return"]
    assert tiny["monte_carlo_low"] <= tiny["monte_carlo"] <= tiny["monte_carlo_high"]
    assert tiny["agrees"] == float(tiny["monte_carlo_low"] <= tiny["learned_cvar"] <= tiny["monte_carlo_high"])
    assert distributional_run("QRDQN", "cvar", 3, updates=TINY) == tiny


def test_choices_differ_in_what_they_say():
    assert CHOICES["cvar"] == {"risk": "cvar", "risk_parameter": TAIL}
    assert CHOICES["cvar, mean in the target"] == CHOICES["cvar"] | {"risk_in_target": False}
    config = DISTRIBUTIONAL_AGENTS["C51"][1]
    step = (config.value_max - config.value_min) / (config.num_atoms - 1)
    assert step == 1, "all returns lie on points of the support"


def test_walks_try_both_ways_in_equal_number():
    data = distributional.walks(0, 400)
    reached = np.array(
        [
            row[:, :32].argmax(axis=1)
            for row in np.split(data.transitions.observation.numpy(), np.cumsum(data.episode_lengths())[:-1])
        ],
        dtype=object,
    )
    up, along = (np.mean([(np.asarray(cells) == cell).any() for cells in reached]) for cell in (2 * 4 + 3, 3 * 4 + 1))
    assert 0.3 < up < 0.7
    assert 0.3 < along < 0.8
    assert (data.episode_returns() > 0).mean() > 0.4, "many walks reach the goal"


@pytest.mark.usefixtures("_short")
def test_part_makes_its_tables():
    def sweeps(function, grid):
        return sweep(function, grid | {"updates": [TINY]}, seeds=2, jobs=1, progress=False)

    tables = distributional_part(sweeps, True)
    name = "robust_distributional"
    assert list(tables) == [name, f"{name}_gain", f"{name}_runs", f"{name}_yardsticks"]
    assert tables[name]["choice"].tolist() == ["mean", "cvar"]
    assert tables[name]["seeds"].tolist() == [2, 2]
    assert len(tables[f"{name}_runs"]) == 4


def test_the_gain_is_taken_seed_by_seed():
    runs = pd.DataFrame({
        "agent": ["QRDQN"] * 6, "choice": ["mean"] * 3 + ["cvar"] * 3, "seed": [0, 1, 2] * 2,
        "cvar": [1.0, 2.0, 3.0, 3.0, 4.0, 5.0], "return": [11.0, 10.0, 9.0, 9.0, 8.0, 7.0],
    })  # fmt: skip
    row = gain_table(runs).iloc[0]
    assert row[["cvar_gain_iqm", "cvar_gain_low", "cvar_gain_high"]].tolist() == [2.0, 2.0, 2.0]
    assert row["return_gain_iqm"] == -2.0
    assert row["seeds"] == 3
