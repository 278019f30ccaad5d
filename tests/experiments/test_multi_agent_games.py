"""The part of the multi-agent experiment on matrix games: what it measures, that it repeats, what its tables say."""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ca14lib.environments import game_payoffs
from ca14lib.experiments.multi_agent.games import (
    DYNAMICS,
    REACHED,
    TEAM_WEIGHTS,
    ZERO_SUM_GAMES,
    dilemma_run,
    games_part,
    random_start,
    team_run,
    zero_sum_play,
    zero_sum_run,
    zero_sum_table,
)
from ca14lib.metrics import intervals
from ca14lib.metrics.intervals import iqm_interval
from ca14lib.solvers import nash_conv
from ca14lib.training.sweep import sweep

RESULTS = Path(__file__).parents[2] / "results"
stored = pytest.mark.skipif(
    not (RESULTS / "multi_agent_games.csv").exists(),
    reason="results/multi_agent_games.csv comes with `ca14 run multi-agent --part games`",
)


@pytest.mark.parametrize("algorithm", DYNAMICS)
@pytest.mark.parametrize("game", ZERO_SUM_GAMES)
def test_rows_hold_the_nash_conv_of_the_play(algorithm, game):
    rows = zero_sum_run(algorithm, game, 1, steps=50)
    play, payoffs = zero_sum_play(algorithm, game, 1, steps=50), game_payoffs(game)
    for row in rows:
        for which in ("average", "last"):
            assert row[which] == pytest.approx(nash_conv(payoffs, play.at(row["step"] - 1, which)))
    late = [nash_conv(payoffs, play.at(record, "last")) for record in range(25, 50)]
    assert rows[-1]["late"] == pytest.approx(np.mean(late))
    assert [row["final"] for row in rows] == [0.0] * (len(rows) - 1) + [1.0]
    assert (rows[0]["step"], rows[-1]["step"]) == (1, 50)


def test_runs_repeat_with_their_seed_and_differ_with_another():
    first, again, other = (zero_sum_run("policy gradient", "rock_paper_scissors", seed, steps=20) for seed in (3, 3, 4))
    assert first == again
    assert first != other
    assert dilemma_run("stag_hunt", 0.3, 2, steps=20) == dilemma_run("stag_hunt", 0.3, 2, steps=20)


def test_starts_are_positive_distributions():
    for seed in range(5):
        for strategy in random_start(game_payoffs("climbing"), seed):
            assert (strategy > 0).all()
            assert strategy.sum() == pytest.approx(1.0)


def test_part_makes_its_tables(monkeypatch):
    monkeypatch.setattr(intervals, "iqm_interval", partial(iqm_interval, repetitions=20))

    def sweeps(function, grid):
        return sweep(function, grid | {"steps": [30]}, seeds=2, jobs=1, progress=False)

    tables = games_part(sweeps, True)
    assert list(tables) == [
        "multi_agent_games", "multi_agent_games_history", "multi_agent_games_runs", "multi_agent_dilemmas",
        "multi_agent_climbing",
    ]  # fmt: skip
    found = tables["multi_agent_games"]
    assert len(found) == len(DYNAMICS) * len(ZERO_SUM_GAMES)
    assert (found["seeds"] == 2).all()
    assert (found["steps"] == 30).all()
    assert len(tables["multi_agent_games_runs"]) == 2 * len(found)
    assert set(tables["multi_agent_dilemmas"]["team_weight"]) == {0.0, 0.5, 1.0}
    assert tables["multi_agent_climbing"]["optimal"].between(0, 2).all()
    history = tables["multi_agent_games_history"]
    assert history["step"].max() == 30
    assert (history["average_min"] <= history["average_median"]).all()
    assert (history["average_median"] <= history["average_max"]).all()


def test_table_counts_the_seeds_at_an_equilibrium():
    runs = pd.DataFrame({
        "algorithm": "x", "game": "y", "seed": range(3), "average": [0.001, 0.01, 0.02], "late": [1.0, 1.5, 2.0],
        "last": 1.0, "final": 1.0, "step": 7,
    })  # fmt: skip
    row = zero_sum_table(pd.concat([runs, runs.assign(final=0.0, average=0.0)])).iloc[0]
    assert row["reached"] == 2
    assert row["average_worst"] == 0.02
    assert row["late_best"] == 1.0
    assert row["steps"] == 7


@pytest.mark.parametrize("game", ["matching_pennies", "rock_paper_scissors"])
def test_average_of_fictitious_play_is_an_equilibrium_from_every_start(game):
    payoffs = game_payoffs(game)
    for seed in range(10):
        play = zero_sum_play("fictitious play", game, seed, record=3)
        assert nash_conv(payoffs, play.at(-1)) <= REACHED
        assert nash_conv(payoffs, play.at(-1, "last")) >= 1.0


@pytest.mark.learning
def test_average_of_self_play_by_weights_is_an_equilibrium_while_it_cycles():
    row = zero_sum_run("multiplicative weights", "rock_paper_scissors", 0)[-1]
    assert row["average"] <= REACHED
    assert row["late"] > 0.5


def test_team_weight_turns_defectors_into_cooperators():
    for seed in range(3):
        selfish, social = (dilemma_run("prisoners_dilemma", weight, seed, steps=2_000) for weight in (0.0, 1.0))
        assert selfish["cooperation"] < 0.02
        assert social["cooperation"] > 0.98
        assert social["welfare"] > 0.98 > 0.5 > selfish["welfare"]


def test_between_the_thresholds_one_of_two_gives_in():
    # 2/5 < w < 4/5: each wants to do the opposite of the other
    assert dilemma_run("prisoners_dilemma", 0.6, 0, steps=2_000)["cooperation"] == pytest.approx(0.5, abs=0.02)


def test_joint_learner_climbs_where_independent_ones_stay_behind():
    joint = [team_run("climbing", "joint", seed, steps=1_000)["optimal"] for seed in range(5)]
    independent = [team_run("climbing", "independent", seed, steps=1_000) for seed in range(5)]
    assert joint == [1.0] * 5
    assert [run["optimal"] for run in independent].count(0.0) >= 2
    assert min(run["share"] for run in independent) < 0.65


# what the pages say


@stored
def test_stored_averages_are_equilibria_on_every_seed_and_last_strategies_cycle():
    runs = pd.read_csv(RESULTS / "multi_agent_games_runs.csv")
    for algorithm in ("fictitious play", "multiplicative weights"):
        for game in ("matching_pennies", "rock_paper_scissors"):
            chosen = runs[(runs["algorithm"] == algorithm) & (runs["game"] == game)]
            assert len(chosen) == 10
            assert (chosen["average"] <= REACHED).all()
            assert (chosen["late"] > 0.5).all()


@stored
def test_stored_table_is_made_of_its_runs():
    runs, found = pd.read_csv(RESULTS / "multi_agent_games_runs.csv"), pd.read_csv(RESULTS / "multi_agent_games.csv")
    for _, row in found.iterrows():
        values = runs.loc[(runs["algorithm"] == row["algorithm"]) & (runs["game"] == row["game"]), "average"]
        assert row["average_iqm"] == pytest.approx(iqm_interval(values).estimate, rel=1e-4)  # stored with six digits


@stored
def test_stored_dilemmas_change_at_their_thresholds():
    found = pd.read_csv(RESULTS / "multi_agent_dilemmas.csv")
    assert sorted(set(found["team_weight"])) == list(TEAM_WEIGHTS)
    prisoners = found[found["game"] == "prisoners_dilemma"].set_index("team_weight")["cooperation_iqm"]
    assert (prisoners[prisoners.index < 0.35] < 0.01).all()
    assert prisoners[[0.5, 0.6, 0.7]].tolist() == pytest.approx([0.5] * 3, abs=0.01)
    assert (prisoners[prisoners.index > 0.85] > 0.99).all()
