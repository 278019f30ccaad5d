"""Driving from logged data: the drivers do what the page says, logs repeat, and every agent has its row."""

import sys

import numpy as np
import pytest
import torch

from ca14lib.experiments.offline import driving
from ca14lib.experiments.offline.driving import (
    DRIVING_AGENTS,
    FASTER,
    KEEP,
    LEFT,
    RIGHT,
    SLOWER,
    LoggedDriver,
    driving_environment,
    driving_part,
    driving_scores,
    log_driving,
    rule_driver,
)
from ca14lib.training.sweep import sweep


def scene(lane=1, others=()):
    """One observation: the own lane, and for each other car metres ahead, lanes to the right, and m/s it is faster."""
    observation = np.zeros((1, 5, 5), np.float32)
    observation[0, 0, :4] = 1, 1, lane * 4 / 12, 25 / 80
    for row, (ahead, right, faster) in enumerate(others, start=1):
        observation[0, row, :4] = 1, ahead / 200, right * 4 / 12, faster / 80
    return observation


@pytest.mark.parametrize(
    "observation, action",
    [
        (scene(), FASTER),
        (scene(others=[(60, 0, 0)]), FASTER),
        (scene(others=[(30, 0, 2)]), KEEP),
        (scene(others=[(30, 0, -10)]), LEFT),  # reached in 2.5 seconds
        (scene(lane=0, others=[(30, 0, -10)]), RIGHT),
        (scene(others=[(10, 0, 0), (5, -1, 0)]), RIGHT),
        (scene(others=[(10, 0, 0), (5, -1, 0), (-10, 1, 0)]), SLOWER),
        (scene(lane=2, others=[(10, 0, 0), (20, -1, 0)]), SLOWER),
        (scene(lane=0, others=[(10, 1, -5), (-10, 0, 0)]), FASTER),  # nobody ahead in the own lane
    ],
)
def test_the_rule_driver_overtakes_brakes_and_accelerates_as_described(observation, action):
    assert rule_driver(observation).tolist() == [action]


def test_one_decision_in_ten_of_the_logged_driver_is_a_careless_lane_change():
    calm = np.repeat(scene(others=[(30, 0, 2)]), 20_000, axis=0)
    action = LoggedDriver(0)(calm)
    shares = np.bincount(action, minlength=5) / len(action)
    assert shares[[LEFT, RIGHT]] == pytest.approx([0.05, 0.05], abs=0.008)
    assert shares[KEEP] == pytest.approx(0.9, abs=0.01)
    assert (LoggedDriver(0)(calm) == action).all()
    assert (LoggedDriver(1)(calm) != action).any()
    assert (LoggedDriver(0, share=0.0)(calm) == KEEP).all()
    with pytest.raises(ValueError, match=r"share must lie in \[0, 1\], got 1.5"):
        LoggedDriver(0, share=1.5)


def test_without_highway_env_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "highway_env", None)
    with pytest.raises(ImportError, match=r"needs highway-env: pip install 'ca14lib\[applications\]'"):
        driving_environment()


@pytest.fixture(scope="module")
def log():
    pytest.importorskip("highway_env")
    return log_driving(8, seed=3)


def test_a_log_repeats_with_its_seed(log):
    again, other = log_driving(8, seed=3), log_driving(8, seed=4)
    for name in ("observation", "action", "reward"):
        assert torch.equal(getattr(log.transitions, name), getattr(again.transitions, name))
    assert len(log) != len(other) or not torch.equal(log.transitions.observation, other.transitions.observation)


def test_a_log_ends_in_crashes_or_at_the_limit(log):
    rows, lengths = log.transitions, log.episode_lengths()
    assert log.num_episodes == 8
    assert lengths.max() <= driving.CONFIGURATION["duration"]
    assert (lengths[(rows.truncated[rows.terminated | rows.truncated]).numpy()] == 20).all()
    assert ((rows.reward >= 0) & (rows.reward <= 1)).all()
    assert (log.environment_id, log.policy) == ("highway-fast-v0", "LoggedDriver")
    assert log.environment_arguments["config"] == driving.CONFIGURATION


def test_scores_are_those_of_the_episodes(monkeypatch, log):
    monkeypatch.setattr(driving, "collect", lambda environment, policy, episodes, seed: log)
    scores = driving_scores(rule_driver, 8, 0)
    assert scores["return"] == pytest.approx(log.episode_returns().mean())
    assert scores["collisions"] == log.transitions.terminated.sum() / 8
    assert 10 < scores["speed"] < 31
    assert scores["lane_changes"] == pytest.approx(log.action_distribution()[[LEFT, RIGHT]].sum())


def test_every_agent_and_both_drivers_have_a_row():
    pytest.importorskip("highway_env")
    tiny = {"episodes": [4], "evaluation_episodes": [1], "updates": [3]}
    table = driving_part(lambda function, grid: sweep(function, tiny, 2, jobs=1, progress=False), True)
    table = table["offline_driving"]
    assert table["agent"].tolist() == ["LoggedDriver", "RuleDriver", *DRIVING_AGENTS]
    assert (table["seeds"] == 2).all()
    assert table["collisions_iqm"].between(0, 1).all()
    assert {"return_iqm", "speed_low", "lane_changes_high"} <= set(table)
