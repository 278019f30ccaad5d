"""SafeCliff's part of the experiment: what it compares, that it repeats, and that its tables say what is said."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from ca14lib.experiments.safe import PARTS
from ca14lib.experiments.safe.cliff import (
    BUDGET,
    CLIFF_AGENTS,
    TAIL,
    WITHIN,
    cliff_evaluation,
    cliff_model,
    cliff_optimum,
    cliff_part,
    cliff_run,
    cliff_table,
    cliff_training,
    cliff_yardsticks,
)
from ca14lib.metrics.intervals import iqm_interval
from ca14lib.training.sweep import sweep

RESULTS = Path(__file__).parents[2] / "results"
TINY = {"updates": 1, "num_envs": 8}
AGENT = "CVaRPolicyGradient"
stored = pytest.mark.skipif(
    not (RESULTS / "safe_cliff.csv").exists(), reason="results/safe_cliff.csv comes with `ca14 run safe --part cliff`"
)


def table(name: str) -> pd.DataFrame:
    path = RESULTS / f"{name}.csv"
    assert path.exists(), "run `ca14 run safe --part cliff`"
    return pd.read_csv(path)


def test_budget_of_the_agent_is_the_exact_optimums_and_what_it_observes():
    assert cliff_optimum().budget == BUDGET
    assert cliff_optimum().tail == TAIL
    entry = CLIFF_AGENTS[AGENT]
    assert entry.config.budget == entry.arguments["observe_budget"] == BUDGET
    assert entry.config.tail == TAIL


def test_hidden_budget_is_the_only_difference_between_two_of_the_agents():
    hidden = CLIFF_AGENTS[f"{AGENT} (budget hidden)"]
    assert replace(hidden, budget=BUDGET) == CLIFF_AGENTS[AGENT]
    learner, _ = cliff_training(f"{AGENT} (budget hidden)", 0, **TINY)
    assert learner.observation_space.shape == (33,)
    coordinates = CLIFF_AGENTS[f"{AGENT} (coordinates)"]
    assert replace(coordinates, environment={"one_hot": True}) == CLIFF_AGENTS[AGENT]


@pytest.mark.parametrize("agent", CLIFF_AGENTS)
def test_every_agent_runs_and_is_judged_against_the_optimum(agent):
    found = cliff_run(agent, 0, **TINY)
    assert found["cvar"] <= cliff_optimum().value + 1e-9
    assert found["share"] == pytest.approx(found["cvar"] / cliff_optimum().value)
    assert found["within"] == float(found["share"] >= WITHIN)
    assert found["cvar"] <= found["return"]


def test_a_run_repeats_with_its_seed_and_differs_with_another():
    first, again, other = (cliff_run(AGENT, seed, **TINY) for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_part_makes_its_tables():
    def sweeps(function, grid):
        return sweep(function, {"agent": [AGENT, "PPO"]} | {k: [v] for k, v in TINY.items()}, seeds=2, jobs=1,
                     progress=False)  # fmt: skip

    tables = cliff_part(sweeps, True)
    assert list(tables) == ["safe_cliff", "safe_cliff_runs", "safe_cliff_yardsticks"]
    assert tables["safe_cliff"]["agent"].tolist() == [AGENT, "PPO"]
    assert tables["safe_cliff"]["seeds"].tolist() == [2, 2]
    assert len(tables["safe_cliff_runs"]) == 4
    assert PARTS["cliff"] is cliff_part


def test_table_counts_the_seeds_within_the_bar():
    runs = pd.DataFrame({
        "agent": [AGENT] * 3, "seed": range(3), "cvar": [6.0, 6.03, 2.9], "return": [9.6, 9.6, 11.7],
        "share": [0.99, 1.0, 0.47], "stochastic_cvar": [5.0, 5.1, 2.5], "within": [1.0, 1.0, 0.0],
    })  # fmt: skip
    assert cliff_table(runs)["within"].tolist() == [2]


def test_yardsticks_order_the_plain_policies():
    found = cliff_yardsticks().set_index("policy")
    assert found.loc["CVaR optimum", "cvar"] == pytest.approx(6.0342, abs=1e-4)
    assert found.loc["risk-neutral optimum"].tolist() == pytest.approx([2.8597, 11.75], abs=1e-4)
    assert found.loc["detour", "cvar"] == pytest.approx(4.9291, abs=1e-4)
    numbers = cliff_evaluation().of_distribution(cliff_optimum().values, cliff_optimum().probabilities)
    assert numbers["exact_cvar"] == pytest.approx(cliff_optimum().value, abs=1e-9)
    assert cliff_model().num_states == 32


# what the pages say


@stored
def test_stored_cvar_agent_is_within_five_per_cent_on_every_seed_and_beats_the_risk_neutral_one():
    runs = table("safe_cliff_runs").pivot(index="seed", columns="agent", values="cvar")
    assert len(runs) == 10
    assert (runs[AGENT] >= WITHIN * cliff_optimum().value).all()
    assert (runs[AGENT] <= cliff_optimum().value + 1e-9).all()
    assert (runs[AGENT] > runs["PPO"]).all()
    found = table("safe_cliff").set_index("agent")
    assert found.loc[AGENT, "within"] == found.loc[AGENT, "seeds"] == 10
    assert found.loc["PPO", "return_low"] > found.loc[AGENT, "return_high"]


@stored
def test_stored_agent_that_does_not_see_its_budget_stays_below_the_bar():
    runs = table("safe_cliff_runs").pivot(index="seed", columns="agent", values="share")
    assert (runs[f"{AGENT} (budget hidden)"] < WITHIN).all()


@stored
def test_stored_table_is_made_of_its_runs():
    runs, found = table("safe_cliff_runs"), table("safe_cliff")
    assert set(found["agent"]) == set(CLIFF_AGENTS)
    for _, row in found.iterrows():
        values = runs.loc[runs["agent"] == row["agent"], "cvar"]
        assert row["cvar_iqm"] == pytest.approx(iqm_interval(values).estimate)
