"""A card says what is in the checkpoint and nothing else; the checklist notices what does not fit."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from ca14lib.agents import DQN, MAPPO, CommNet
from ca14lib.agents.offline.iql import DiscreteIQL, DiscreteIQLConfig
from ca14lib.agents.safe.ppo_lagrangian import PPOLagrangian, PPOLagrangianConfig
from ca14lib.deployment import Alarm, Evidence, Ranges, RuntimeMonitor, Watchdog, checklist, export_policy, model_card
from ca14lib.deployment import model_card as name_of_function
from ca14lib.deployment.export import example_agent
from ca14lib.deployment.model_card import NOT_RECORDED, QUESTIONS, _frame_markdown
from ca14lib.environments import SafeGridVector
from ca14lib.training import collect, train_offline, train_on_policy

FACTORS = [
    "Safety first",
    "Data availability",
    "Coordination requirements",
    "Environment uncertainty",
    "Regulatory compliance",
]


@pytest.fixture(scope="module")
def data():
    return collect("CA14/GridWorld-v0", "random", 20, seed=3)


@pytest.fixture(scope="module")
def offline(tmp_path_factory, data):
    """Checkpoint of a short offline training."""
    path = tmp_path_factory.mktemp("card") / "iql.safetensors"
    agent = DiscreteIQL(data.observation_space, data.action_space, DiscreteIQLConfig(hidden_sizes=(8,), expectile=0.8))
    train_offline(agent, data, 4, batch_size=8, seed=5, checkpoint=path, checkpoint_every=2, progress=False)
    return path


@pytest.fixture(scope="module")
def safe(tmp_path_factory):
    """Checkpoint of a short on-policy training with a cost limit."""
    path = tmp_path_factory.mktemp("card") / "safe.safetensors"
    spaces = SafeGridVector(1)
    agent = PPOLagrangian(
        spaces.single_observation_space, spaces.single_action_space,
        PPOLagrangianConfig(hidden_sizes=(8,), cost_limits=(0.6,), epochs=1),
    )  # fmt: skip
    train_on_policy(
        agent, "CA14/SafeGrid-v0", 64, num_envs=4, rollout_steps=8, seed=7, checkpoint=path, checkpoint_every=1,
        progress=False,
    )  # fmt: skip
    return path


def found(path, check, evidence=None) -> tuple[str, str]:
    table = checklist(path) if evidence is None else checklist(path, evidence)
    rows = table[table["check"].str.startswith(check)]
    assert len(rows) == 1, check
    return rows["status"].iloc[0], rows["finding"].iloc[0]


def test_a_card_holds_what_the_checkpoint_says(offline, safe):
    card = model_card(offline)
    for expected in (
        "# Model card: DiscreteIQL",
        "Implicit Q-learning for discrete and continuous actions (Kostrikov, Nair and Levine, 2022).",
        "| expectile | 0.8 | 0.7 |",
        "| discount | 0.99 |  |",
        "| seed | 5 |",
        "| trained for | 4 steps of the training loop |",
        "| batch_size | 8 |",
        "SHA-256",
        *(f"### {factor}" for factor in FACTORS),
    ):
        assert expected in card, expected
    card = model_card(safe)
    assert "| environment | CA14/SafeGrid-v0 |" in card
    assert "| trained for | 64 environment steps |" in card
    assert "limits 0.6" in card


def test_what_nobody_recorded_is_not_made_up(tmp_path):
    spaces = SafeGridVector(1)
    DQN(spaces.single_observation_space, spaces.single_action_space).save(tmp_path / "bare.safetensors")
    card = model_card(tmp_path / "bare.safetensors")
    for heading in ("Intended use", "Limits", "Data", "Results"):
        assert f"## {heading}\n\n{NOT_RECORDED}\n" in card, heading
    for fact in ("environment", "data", "seed", "trained for"):
        assert f"| {fact} | {NOT_RECORDED} |" in card, fact
    table = checklist(tmp_path / "bare.safetensors")
    assert table["factor"].drop_duplicates().tolist() == FACTORS
    assert (table.loc[table["kind"] == "person", "status"] == "open").all()
    assert found(tmp_path / "bare.safetensors", "What it learned from")[0] == NOT_RECORDED


def test_evidence_fills_the_card_and_the_checklist(safe, tmp_path):
    agent_file = safe
    from ca14lib.agents import load_agent

    agent = load_agent(agent_file)
    rng = np.random.default_rng(0)
    monitor = RuntimeMonitor(
        agent, agent, alarm=Alarm(Ranges.fit(rng.random((50, 3))), 0.25, patience=3), watchdog=Watchdog(0.6)
    )
    results = pd.DataFrame({"shift": ["none", "slip"], "return": [4.1, 3.0], "violations": [0, 2]})
    question = QUESTIONS["Regulatory compliance"][1]
    evidence = Evidence(
        results=results, monitor=monitor, export=export_policy(agent, tmp_path / "safe.pt2"),
        answers={question: "The operator; it is reversed by hand."},
    )  # fmt: skip
    assert found(agent_file, "A watchdog", evidence) == ("yes", "limit 0.6, fallback PPOLagrangian")
    assert found(agent_file, "An alarm", evidence) == ("yes", "Ranges, threshold 0.25, 3 steps in a row")
    assert found(agent_file, "Costs or violations", evidence) == ("yes", "violations")
    assert found(agent_file, "It was evaluated in more", evidence) == ("yes", "none, slip")
    assert found(agent_file, "The exported program", evidence)[0] == "yes"
    assert found(agent_file, "Who answers", evidence) == ("answered", "The operator; it is reversed by hand.")
    card = model_card(agent_file, evidence, intended_use="The course.", limits="Nothing else.")
    assert "| none | 4.1 | 0 |" in card
    assert "## Intended use\n\nThe course.\n" in card
    last = checklist(agent_file, evidence)
    missing = int(last["status"].isin(["open", "no", NOT_RECORDED]).sum())
    assert f"{missing} of {len(last)} items are open" in card
    with pytest.raises(ValueError, match="one of the questions of the checklist, got 'Is it good"):
        Evidence(answers={"Is it good?": "yes"})


# What does not fit is noticed


def test_another_dataset_is_noticed(offline, data):
    check = "The dataset at hand"
    assert found(offline, check, Evidence(dataset=data))[0] == "yes"
    assert found(offline, check, Evidence(dataset=collect("CA14/GridWorld-v0", "random", 20, seed=4)))[0] == "no"
    assert found(offline, check)[0] == NOT_RECORDED


def test_the_program_of_another_agent_is_noticed(safe, tmp_path):
    from ca14lib.agents import load_agent

    agent = load_agent(safe)
    with torch.no_grad():
        agent.policy.network[-1].weight.add_(0.5 * torch.randn(agent.policy.network[-1].weight.shape))
    path = export_policy(agent, tmp_path / "other.pt2")
    assert found(safe, "The exported program", Evidence(export=path))[0] == "no"


def test_a_damaged_checkpoint_gets_no_card(safe, tmp_path):
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(safe.read_bytes()[:-9])
    with pytest.raises(ValueError, match="truncated, corrupted"):
        model_card(broken)
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        checklist(tmp_path / "nothing")


def test_teams_say_whether_they_need_a_channel_or_a_memory(tmp_path):
    example_agent("CommNet").save(tmp_path / "talking")
    assert found(tmp_path / "talking", "It decides alone") == ("no", "a team of 3")
    assert found(tmp_path / "talking", "Its agents act without messages")[0] == "no"
    team = example_agent("MAPPO")
    assert isinstance(team, MAPPO)
    assert not isinstance(team, CommNet)
    MAPPO(
        team.observation_space, team.action_space, dataclasses.replace(team.config, recurrent=True)
    ).save(tmp_path / "memory")  # fmt: skip
    assert found(tmp_path / "memory", "Its agents act without messages")[0] == "yes"
    assert found(tmp_path / "memory", "Its agents act without memory")[0] == "no"
    assert "not exportable: it keeps a memory" in model_card(tmp_path / "memory")
    assert name_of_function is model_card


def test_cells_of_a_table_cannot_break_it():
    text = _frame_markdown(pd.DataFrame({"a|b": ["1\n2", 0.123456]}))
    assert text.splitlines() == ["| a\\|b |", "|---|", "| 1 2 |", "| 0.1235 |"]
