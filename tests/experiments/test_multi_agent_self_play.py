"""The self-play part of the experiment: what it compares, that it repeats, that its tables say what is said."""

import numpy as np
import pandas as pd
import pytest
import torch

from ca14lib.agents.multi_agent.opponent_model import BestResponder
from ca14lib.experiments.multi_agent import self_play as module
from ca14lib.experiments.multi_agent.self_play import (
    FORGETTING,
    GAMES,
    SELF_PLAY,
    PlainIPPO,
    opponent_run,
    population_run,
    population_table,
    seeded_team,
    self_play_part,
    self_play_run,
    self_play_table,
    self_play_training,
)
from ca14lib.training.sweep import sweep


def test_starts_differ_between_seeds_and_can_be_exploited():
    losses = []
    for seed in range(3):
        _, judge, history = self_play_training("IPPO", "rock_paper_scissors", seed, iterations=1)
        losses.append(history.series("nash_conv").iloc[0])
        assert judge.calls == 2
    assert min(losses) > 0.2
    assert len(set(losses)) == 3


def test_plain_gradients_step_along_the_gradient_alone():
    entry = SELF_PLAY["IPPO, plain gradients"]
    agent, _ = seeded_team("matching_pennies", 0, entry.config, entry.agent_class)
    assert isinstance(agent, PlainIPPO)
    assert isinstance(agent.optimizers["policy"], torch.optim.SGD)
    assert isinstance(agent.optimizers["value"], torch.optim.Adam)
    assert agent.policy_optimizer is agent.optimizers["policy"]


def test_runs_repeat_and_end_with_the_last_iteration():
    for algorithm in SELF_PLAY:
        one, same = (self_play_run(algorithm, "matching_pennies", 3, iterations=12) for _ in range(2))
        assert one == same
        assert [row["iteration"] for row in one] == list(range(13))


def test_table_takes_the_end_and_counts_the_seeds_within_the_bar():
    rows = [
        {"algorithm": "a", "game": "g", "seed": seed, "iteration": step, "nash_conv": 1.0 + step,
         "nash_conv_average": 0.02 / (step + 1 + seed), "first": 0.5}
        for seed in range(3) for step in range(3)
    ]  # fmt: skip
    table = self_play_table(pd.DataFrame(rows))
    assert table["nash_conv_last_iqm"].item() == 3.0
    assert table["nash_conv_second_half_iqm"].item() == 2.5
    assert table["within"].item() == 3
    assert table["iterations"].item() == 2


def test_population_tells_every_member_of_every_generation():
    rows = population_run("matching_pennies", 0, size=4, generations=2, updates=3)
    assert len(rows) == 8
    frame = pd.DataFrame(rows)
    assert (frame[frame["generation"] == 0]["parent"] == frame[frame["generation"] == 0]["member"]).all()
    assert (frame[frame["generation"] == 1]["parent"] != frame[frame["generation"] == 1]["member"]).sum() == 1
    table = population_table(pd.concat([frame.assign(game="g", seed=seed) for seed in range(2)]))
    assert (table["best_iqm"] <= table["median_iqm"]).all()
    first = frame[frame["generation"] == 0]
    assert table["learning_rate"].iloc[0] == first["learning_rate"].median()
    assert table["median_iqm"].iloc[0] == first["nash_conv"].median()


def test_forgetting_pays_after_the_change_and_costs_little_before():
    faithful, forgetful = (
        pd.DataFrame([opponent_run(value, seed) for seed in range(3)]).mean() for value in (1.0, 0.95)
    )
    assert forgetful["regret_after"] < 0.5 * faithful["regret_after"]
    assert forgetful["rounds_to_follow"] < 50 < faithful["rounds_to_follow"]
    assert 1.0 in FORGETTING


def test_planted_an_opponent_that_never_changes_is_noticed(monkeypatch):
    monkeypatch.setattr(module, "AFTER", module.BEFORE)
    assert opponent_run(1.0, 0)["rounds_to_follow"] == 0


def test_planted_an_opponent_that_is_known_has_no_regret(monkeypatch):
    class Seer(BestResponder):
        rounds = 0

        def act(self):
            self.rounds += 1
            return 1 if self.rounds <= 100 else 2

    monkeypatch.setattr(module, "BestResponder", Seer)
    assert np.isclose(opponent_run(1.0, 0, rounds=200)["regret"], 0.0)


@pytest.mark.slow
def test_quick_part_makes_all_tables():
    def few(function, grid):
        return sweep(function, grid, seeds=2, jobs=1, progress=False)

    tables = self_play_part(few, quick=True)
    assert set(tables) == {
        "multi_agent_self_play", "multi_agent_self_play_history", "multi_agent_population", "multi_agent_opponent",
    }  # fmt: skip
    assert set(tables["multi_agent_self_play"]["game"]) == set(GAMES)
    assert not any(table.isna().any().any() for table in tables.values())
