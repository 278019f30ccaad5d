"""The multi-agent experiment on TargetGrid and on communication: what its parts measure, and that it repeats."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from ca14lib.agents.multi_agent import MAPPO, MAPPOConfig, TarMAC, TarMACConfig
from ca14lib.environments import multi_agent_environment
from ca14lib.experiments.multi_agent import PARTS, communication, scaling, target_grid
from ca14lib.experiments.multi_agent.target_grid import TARGET_GRID_TEAMS, TeamEntry

SMALL = {"num_envs": 16, "rollout_steps": 4}
TINY = TeamEntry(MAPPO, MAPPOConfig(hidden_sizes=(8,), epochs=1, minibatches=1), 256, SMALL)


@pytest.fixture(autouse=True)
def few_episodes(monkeypatch):
    for module in (target_grid, communication, scaling):
        monkeypatch.setattr(module, "EPISODES", 20)


@pytest.fixture
def tiny(monkeypatch):
    """Every team of the comparison, as small as possible."""
    for name, entry in TARGET_GRID_TEAMS.items():
        sizes = {"hidden_sizes": (8, 8)} | ({"heads": 2} if hasattr(entry.config, "heads") else {})
        loop = dict(entry.loop) | SMALL | ({"start_steps": 0, "batch_size": 2} if "batch_size" in entry.loop else {})
        small = dataclasses.replace(entry, config=dataclasses.replace(entry.config, **sizes), steps=192, loop=loop)
        monkeypatch.setitem(TARGET_GRID_TEAMS, name, small)


def test_every_team_of_the_comparison_trains_and_is_judged(tiny):
    rows = []
    for name in TARGET_GRID_TEAMS:
        run = target_grid.target_grid_run(name, 0)
        assert -3 < run["share"] < 1
        assert 0 <= run["finished"] <= 1
        assert run["minutes"] > 0
        rows += [{"team": name, "seed": seed} | run for seed in (0, 1)]
    table = target_grid.target_grid_table(pd.DataFrame(rows))
    assert table["team"].tolist() == list(TARGET_GRID_TEAMS)
    assert table.set_index("team").loc["IQLearners", "gain"] == pytest.approx(0)
    assert (table["worst_share"] <= table["share_iqm"] + 1e-9).all()


def test_runs_repeat_with_their_seed_and_differ_with_another(tiny):
    first, again, other = (target_grid.target_grid_run("MAPPO", seed) for seed in (3, 3, 4))
    same = [name for name in first if not name.startswith("minutes")]
    assert {name: first[name] for name in same} == {name: again[name] for name in same}
    assert first["share"] != other["share"]


def test_training_has_its_own_time_limit_and_judging_the_games():
    entry = dataclasses.replace(TINY, time_limit=7)
    _, history = target_grid.target_grid_training(entry, 0)
    assert history.series("episode_length").max() <= 7
    assert entry.training_arguments({"view_radius": 2}) == {"time_limit": 7, "view_radius": 2}


def test_observations_have_the_same_scale_for_every_agent():
    normalizer = target_grid.uniform_play_normalizer()
    assert (normalizer.mean == normalizer.mean[0]).all()
    assert (normalizer.scale == normalizer.scale[0]).all()


def test_planner_attains_the_bound_and_uniform_play_does_not():
    table = target_grid.target_grid_yardsticks().set_index("policy")
    assert table.loc["planner", "share"] > 0.99
    assert table.loc["uniform", "share"] < 0.5


def test_channels_are_compared_with_the_same_agents(monkeypatch):
    config = TarMACConfig(hidden_sizes=(8,), epochs=1, minibatches=1, message_size=4)
    deaf = dataclasses.replace(config, channel="cut")
    teams = {
        "TarMAC": TeamEntry(TarMAC, config, 256, SMALL),
        "TarMAC trained deaf": TeamEntry(TarMAC, deaf, 256, SMALL),
    }
    monkeypatch.setattr(communication, "VIEW_TEAMS", teams)
    rows = [
        {"team": team, "seed": seed} | row
        for team in teams
        for seed in (0, 1)
        for row in communication.view_run(team, seed)
    ]
    runs = pd.DataFrame(rows)
    assert runs.groupby("team")["channel"].unique().map(list).to_dict() == {
        "TarMAC": ["open", "cut", "scrambled"], "TarMAC trained deaf": ["none"],
    }  # fmt: skip
    table = communication.view_table(runs).set_index(["team", "channel"])
    gap = runs[(runs.channel == "open")]["return"].mean() - runs[(runs.channel == "cut")]["return"].mean()
    assert table.loc[("TarMAC", "cut"), "worth"] == pytest.approx(gap)
    assert np.isnan(table.loc[("TarMAC", "open"), "worth"])
    assert communication.deaf_table(runs)["seeds"].tolist() == [2]


def test_language_is_read_off_for_every_meaning():
    size = "2 attributes, 3 values"
    game = multi_agent_environment("ReferentialGame", 1, **communication.REFERENTIAL_SIZES[size])
    team = MAPPO.for_game(game, MAPPOConfig(hidden_sizes=(8,)), seed=1)
    meanings, messages = communication.spoken(team, size)
    assert len({tuple(meaning) for meaning in meanings}) == 9
    assert messages.shape == (9, 2)
    assert ((messages >= 0) & (messages < 3)).all()
    run = communication.referential_run(size, 0, steps=2_048)
    assert 0 <= run["right"] <= 1
    table = communication.referential_table(pd.DataFrame([{"size": size, "seed": seed} | run for seed in (0, 1)]))
    assert table["meanings"].tolist() == [9]


def test_teams_of_every_size_are_trained_on_grids_that_grow(monkeypatch):
    monkeypatch.setattr(scaling, "SCALING_TEAM", TINY)
    for agents, size in scaling.SIZES.items():
        assert 12 < size**2 / agents < 20, "about as many cells per agent as in the game of four"
        if agents <= 8:
            assert scaling.scaling_run(agents, 0, steps=128)["milliseconds"] > 0


def test_parts_are_listed_for_the_command():
    assert list(PARTS) == [
        "games", "two_step", "target_grid", "scaling", "public_games", "credit", "communication", "self_play",
    ]  # fmt: skip
