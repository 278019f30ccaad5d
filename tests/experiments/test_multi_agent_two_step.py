"""The two-step game's part of the experiment, and the exact fits of its tables."""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ca14lib.environments.matrix_games import game_payoffs
from ca14lib.environments.two_step_game import RISKY_PAYOFF
from ca14lib.experiments.multi_agent.two_step import (
    CELLS,
    TWO_STEP_TEAMS,
    additive_fit,
    matrix_training,
    monotonic_fit,
    second_values,
    two_step_part,
    two_step_run,
    two_step_table,
    two_step_training,
)
from ca14lib.training.sweep import sweep

RESULTS = Path(__file__).parents[2] / "results"
stored = pytest.mark.skipif(
    not (RESULTS / "multi_agent_two_step.csv").exists(), reason="comes with `ca14 run multi-agent --part two_step`"
)
tables = st.integers(2, 3).flatmap(
    lambda size: st.lists(st.lists(st.integers(-9, 9), min_size=size, max_size=size), min_size=2, max_size=3)
)


def test_every_team_sees_uniform_actions_to_the_end() -> None:
    for entry in TWO_STEP_TEAMS.values():
        assert entry.config.epsilon_start == entry.config.epsilon_end == 1.0
        assert entry.config.discount == 1.0


@pytest.mark.parametrize("agent", TWO_STEP_TEAMS)
def test_every_team_runs_and_is_judged_against_the_optimum(agent: str) -> None:
    found = two_step_run(agent, 0, updates=2)
    assert found["return"] in (0.0, 1.0, 7.0, 8.0)
    assert found["share"] == found["return"] / 8
    assert found["optimal"] == float(found["return"] == 8.0)
    assert np.isnan([found[cell] for cell in CELLS]).all() == (agent == "IQLearners")


def test_a_run_repeats_with_its_seed_and_differs_with_another() -> None:
    first, again, other = (two_step_run("QMIX", seed, updates=2) for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_learned_tables_are_those_of_the_second_step() -> None:
    team, _ = two_step_training("VDN", 0, updates=1)
    found = second_values(team)
    observation = np.repeat(np.eye(3, dtype=np.float32)[[2]][:, None], 2, axis=1)
    assert found["risky"] == pytest.approx(team.joint_values(observation, np.eye(3, dtype=np.float32)[[2]])[0])
    assert found["safe"] != pytest.approx(found["risky"])


def test_part_makes_its_tables() -> None:
    def sweeps(function, grid):
        return sweep(function, {"agent": ["VDN", "IQLearners"], "updates": [1]}, seeds=2, jobs=1, progress=False)

    found = two_step_part(sweeps, True)
    assert list(found) == ["multi_agent_two_step", "multi_agent_two_step_runs", "multi_agent_two_step_values"]
    assert found["multi_agent_two_step"]["agent"].tolist() == ["VDN", "IQLearners"]
    assert found["multi_agent_two_step"]["seeds"].tolist() == [2, 2]
    assert len(found["multi_agent_two_step_runs"]) == 4
    values = found["multi_agent_two_step_values"]
    assert values["agent"].tolist() == ["VDN"], "independent learners have no value of a joint action"
    assert values[CELLS].notna().all(axis=None)


def test_table_counts_the_seeds_that_reach_the_optimum() -> None:
    runs = pd.DataFrame({"agent": ["QMIX"] * 3, "seed": range(3), "return": [8.0, 8.0, 7.0]})
    runs = runs.assign(share=runs["return"] / 8, optimal=[1.0, 1.0, 0.0], **dict.fromkeys(CELLS, 1.0))
    assert two_step_table(runs)["optimal"].tolist() == [2]


# exact fits


@given(tables)
def test_additive_fit_is_the_least_squares_solution(rows: list[list[int]]) -> None:
    table = np.array(rows, dtype=float)
    left = np.kron(np.eye(len(table)), np.ones((table.shape[1], 1)))
    design = np.hstack([left, np.tile(np.eye(table.shape[1]), (len(table), 1))])
    solution = np.linalg.lstsq(design, table.ravel(), rcond=None)[0]
    assert additive_fit(table).ravel() == pytest.approx(design @ solution, abs=1e-8)


@settings(max_examples=25, deadline=None)
@given(rows=tables, seed=st.integers(0, 1000))
def test_monotonic_fit_is_orderly_and_no_orderly_table_is_closer(rows: list[list[int]], seed: int) -> None:
    table, draw = np.array(rows, dtype=float), np.random.default_rng(seed)
    fit = monotonic_fit(table)
    assert orderly(fit)
    error = np.square(fit - table).sum()
    assert error <= np.square(additive_fit(table) - table).sum() + 1e-6
    for _ in range(100):  # others nearby, made orderly by ordering their rows and columns
        other = np.sort(np.sort(fit + draw.normal(size=fit.shape), axis=0), axis=1)
        rows_, columns = draw.permutation(len(fit)), draw.permutation(fit.shape[1])
        assert np.square(other[np.ix_(rows_, columns)] - table).sum() >= error - 1e-6


def orderly(table: np.ndarray) -> bool:
    return any(
        (np.diff(table[np.ix_(rows, columns)], axis=0) >= -1e-6).all()
        and (np.diff(table[np.ix_(rows, columns)], axis=1) >= -1e-6).all()
        for rows in itertools.permutations(range(table.shape[0]))
        for columns in itertools.permutations(range(table.shape[1]))
    )


def test_fits_of_the_known_tables() -> None:
    assert additive_fit(RISKY_PAYOFF).tolist() == [[-1.5, 2.5], [2.5, 6.5]]
    assert monotonic_fit(RISKY_PAYOFF) == pytest.approx(RISKY_PAYOFF)
    climbing = game_payoffs("climbing").sum(axis=0)
    fit = monotonic_fit(climbing)
    assert np.square(fit - climbing).sum() == pytest.approx(997.4, abs=0.05)
    assert np.unravel_index(fit.argmax(), fit.shape) == (2, 2)
    penalty = game_payoffs("penalty").sum(axis=0)
    for found in (additive_fit(penalty), monotonic_fit(penalty)):
        assert np.unravel_index(found.argmax(), found.shape) == (1, 1)
    assert np.square(monotonic_fit(penalty) - penalty).mean() > 800
    # a monotonic table in another order of rows and columns is found as well
    assert monotonic_fit(RISKY_PAYOFF[::-1]) == pytest.approx(RISKY_PAYOFF[::-1])


def test_bad_tables_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 5 actions"):
        monotonic_fit(np.zeros((6, 2)))


def test_a_team_is_trained_on_a_matrix_game() -> None:
    team, history = matrix_training("QMIX", "penalty", 0, updates=2)
    assert history.last("team_return") in (-100.0, 0.0, 2.0, 10.0)
    assert team.num_actions == 3
    with pytest.raises(ValueError, match="unknown matrix game"):
        matrix_training("QMIX", "no game", 0, updates=2)


# what the page says


@stored
def test_stored_runs_say_what_the_page_says() -> None:
    runs = pd.read_csv(RESULTS / "multi_agent_two_step_runs.csv")
    returns = runs.pivot(index="seed", columns="agent", values="return")
    assert len(returns) == 10
    assert (returns[["QMIX", "ParallelQMIX"]] == 8).all(axis=None)
    assert (returns[["IQLearners", "VDN", "ParallelVDN", "ParallelQMIX (λ = 0.65)"]] == 7).all(axis=None)
    assert set(pd.read_csv(RESULTS / "multi_agent_two_step.csv")["agent"]) == set(TWO_STEP_TEAMS)
    found = pd.read_csv(RESULTS / "multi_agent_two_step_values.csv").set_index("agent")
    for agent, table in {"VDN": additive_fit(RISKY_PAYOFF), "QMIX": RISKY_PAYOFF}.items():
        assert found.loc[agent, CELLS[4:]].tolist() == pytest.approx(table.ravel().tolist(), abs=0.3)
