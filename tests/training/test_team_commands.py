"""The commands for several agents: what they list, train, resume and judge, and what they refuse."""

import json

import pytest
from typer.testing import CliRunner

from ca14lib.cli import app

runner = CliRunner()
SMALL = ["--num-envs", "8", "--rollout-steps", "8", "--set", "hidden_sizes=8"]


def run(*arguments: str):
    return runner.invoke(app, [str(argument) for argument in arguments])


def test_games_and_teams_are_listed():
    games, agents = run("list", "games"), run("list", "agents")
    assert games.exit_code == agents.exit_code == 0
    for name in ("TargetGrid", "MatrixGame", "TwoStepGame", "Spread", "MPE2/"):
        assert name in games.output
    assert "MAPPO" in agents.output


@pytest.mark.slow
def test_a_team_is_trained_resumed_and_judged(tmp_path):
    team = tmp_path / "team"
    train = ["train-team", "IPPO", "TwoStepGame", "--output", team, *SMALL]
    first = run(*train, "--steps", 128)
    assert first.exit_code == 0, first.output
    more = run(*train, "--steps", 256, "--history", tmp_path / "history.csv")
    assert more.exit_code == 0, more.output
    fewer = run(*train, "--steps", 128)
    assert "more than" in str(fewer.exception)
    assert "episode_return" in (tmp_path / "history.csv").read_text("utf8")
    judged = run("evaluate", team, "TwoStepGame", "--episodes", 20, "--output", tmp_path / "numbers.json")
    assert judged.exit_code == 0, judged.output
    numbers = json.loads((tmp_path / "numbers.json").read_text("utf8"))
    assert 0 <= numbers["team_return"] <= 8
    assert numbers["episodes"] == 20


def test_what_is_no_team_or_no_game_is_refused(tmp_path):
    team = run("train-team", "PPO", "TargetGrid", "--output", tmp_path / "team")
    assert team.exit_code == 1
    assert "not a team" in str(team.exception)
    game = run("train-team", "IPPO", "TargetGridd", "--output", tmp_path / "team")
    assert "unknown game" in str(game.exception)
    setting = run("train-team", "IPPO", "TargetGrid", "--output", tmp_path / "team", "--set", "clip=2")
    assert "clip must be" in str(setting.exception)
    assert not (tmp_path / "team").exists()
