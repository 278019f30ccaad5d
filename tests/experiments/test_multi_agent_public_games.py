"""The multi-agent experiment on public games: what it measures, and that it repeats."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from ca14lib.experiments.multi_agent import PARTS, public_games
from ca14lib.experiments.multi_agent.public_games import PUBLIC_GAMES, PUBLIC_TEAMS, STEPS, UNIFORM

pytest.importorskip("lbforaging")

CASES = [(game, team) for game, teams in PUBLIC_TEAMS.items() for team in teams]
SMALL = {"num_envs": 8, "rollout_steps": 25}


@pytest.fixture
def tiny(monkeypatch):
    """Every team as small as possible, judged over few starts."""
    monkeypatch.setattr(public_games, "EPISODES", 20)
    monkeypatch.setattr(public_games, "NORMALIZER_COPIES", 4)
    public_games.public_game_normalizer.cache_clear()
    for game, team in CASES:
        entry = PUBLIC_TEAMS[game][team]
        loop = dict(entry.loop) | SMALL
        loop |= {"start_steps": 0, "batch_size": 2, "updates": 1} if "updates" in loop else {}
        config = dataclasses.replace(entry.config, hidden_sizes=(8,))
        monkeypatch.setitem(PUBLIC_TEAMS[game], team, dataclasses.replace(entry, config=config, loop=loop))
    yield
    public_games.public_game_normalizer.cache_clear()


def test_every_team_does_the_same_number_of_steps():
    for game, team in CASES:
        loop = PUBLIC_TEAMS[game][team].loop
        assert STEPS % (loop["num_envs"] * loop["rollout_steps"]) == 0, "whole iterations"


def test_teams_of_replay_learn_once_per_episode_or_more():
    for game, teams in PUBLIC_TEAMS.items():
        loop = teams["QMIX"].loop
        episodes = loop["num_envs"] * loop["rollout_steps"] / {"Spread": 25, "Foraging": 50}[game]
        assert loop["updates"] >= episodes


def test_every_team_trains_and_is_judged(tiny):
    rows = []
    for game, team in [*CASES, *((game, UNIFORM) for game in PUBLIC_GAMES)]:
        runs = [public_games.public_game_run(game, team, seed, steps=400) for seed in (0, 1)]
        assert runs[0]["return"] != runs[1]["return"]
        for run in runs:
            for name in ("return", "greedy_return"):
                assert (0 <= run[name] <= 1 if game == "Foraging" else run[name] < -20) or np.isnan(run[name])
        rows += [{"game": game, "team": team, "seed": seed} | run for seed, run in enumerate(runs)]
    table = public_games.public_games_table(pd.DataFrame(rows)).set_index(["game", "team"])
    assert len(table) == 6
    for game in PUBLIC_GAMES:
        uniform = table.loc[(game, UNIFORM)]
        assert uniform.isna().to_dict() == {name: not name.startswith(("return", "seeds")) for name in table.columns}
        assert (table.loc[[(game, "MAPPO"), (game, "QMIX")]].notna()).all(axis=None)
        assert table.loc[(game, "MAPPO"), "minutes"] > 0


def test_runs_repeat_with_their_seed(tiny):
    first, again = (public_games.public_game_run("Spread", "QMIX", 3, steps=400) for _ in range(2))
    kept = ("return", "greedy_return")
    assert [first[name] for name in kept] == [again[name] for name in kept]
    assert first["return"] != first["greedy_return"]


def test_returns_are_sums_over_agents_of_all_rewards(monkeypatch):
    """Of uniform play in Spread: 25 steps, each of which costs each of three agents about a unit."""
    monkeypatch.setattr(public_games, "EPISODES", 300)
    assert -84 < public_games.public_game_run("Spread", UNIFORM, 0)["return"] < -75
    assert 0.14 < public_games.public_game_run("Foraging", UNIFORM, 0)["return"] < 0.25


def test_the_part_is_run_by_the_command():
    assert PARTS["public_games"] is public_games.public_games_part
