"""What holds for every team: it is listed, refuses bad settings and foreign files, and is loaded whole."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from ca14lib.agents import AGENTS, TEAMS, MultiAgent, agent_class, load_agent
from ca14lib.agents.multi_agent import check
from ca14lib.agents.multi_agent.base import team_normalizer

OUT_OF_RANGE = {
    "hidden_sizes": (0,), "learning_rate": 0.0, "discount": 1.5, "reward_scale": 0.0, "epsilon_end": 1.5,
    "epsilon_updates": -1, "target_rate": 0.0, "target_every": 0, "trace_decay": 1.1, "embed_dim": 0, "epochs": 0,
    "minibatches": 0, "clip": 1.0, "gae_lambda": -0.1, "entropy_weight": -1.0, "max_gradient_norm": 0.0,
    "value_memory": 1.0, "temperature": 0.0, "logit_penalty": -1.0, "exploration": -1.0, "actor_actions": "none",
    "heads": 0, "own_actions": "none", "message_size": 0, "channel": "scrambled", "communication_weight": -1.0,
    "learning_rate_decay": 0.0, "critic_input": "nothing",
}  # fmt: skip
SETTINGS = [
    (name, setting, value)
    for name, team in TEAMS.items()
    for setting, value in OUT_OF_RANGE.items()
    if setting in {item.name for item in dataclasses.fields(team.config_class)}
]


def build(name: str) -> check.TeamBuild:
    team = TEAMS[name]
    return check.TeamBuild(team, team.config_class(hidden_sizes=(8, 8)), check.ACTIONS)


def test_teams_are_listed_apart_from_single_agents_and_found_by_name():
    assert not TEAMS.keys() & AGENTS.keys()
    for name, team in TEAMS.items():
        assert issubclass(team, MultiAgent)
        assert agent_class(name) is team
    with pytest.raises(ValueError, match="QMIX"):
        agent_class("QMIXX")


@pytest.mark.parametrize("name, setting, value", SETTINGS)
def test_settings_out_of_range_are_refused_by_name(name, setting, value):
    with pytest.raises(ValueError, match=setting):
        TEAMS[name].config_class(**{setting: value})


@pytest.mark.parametrize("name", TEAMS)
def test_a_loaded_team_is_the_saved_one_with_its_spaces_and_scale(name, tmp_path):
    make = build(name)
    team = make(seed=1, normalizer=team_normalizer(make.observations(64)))
    team.update(make.batch())
    team.save(tmp_path / "team")
    loaded = load_agent(tmp_path / "team")
    assert type(loaded) is type(team)
    assert loaded.state_space == team.state_space
    assert loaded.config == team.config
    assert check.same(team, loaded)
    observation = make.observations()
    torch.testing.assert_close(
        torch.as_tensor(check.acted(team, observation)), torch.as_tensor(check.acted(loaded, observation))
    )


@pytest.mark.parametrize("first, second", list(itertools.pairwise([*TEAMS, next(iter(TEAMS))])))
def test_teams_refuse_the_checkpoints_of_other_algorithms(first, second, tmp_path):
    build(first)().save(tmp_path / "team")
    with pytest.raises(ValueError, match="the checkpoint's agent"):
        build(second)().load(tmp_path / "team")


def test_statistics_of_observations_are_those_of_all_agents_together():
    observation = np.random.default_rng(0).normal(loc=[[1.0], [3.0]], size=(100, 2, 4))
    normalizer = team_normalizer(observation)
    assert torch.equal(normalizer.mean[0], normalizer.mean[1])
    np.testing.assert_allclose(normalizer.mean[0], observation.reshape(-1, 4).mean(axis=0), rtol=1e-5)
    with pytest.raises(ValueError, match="n, features"):
        team_normalizer(np.zeros((5, 3)))
