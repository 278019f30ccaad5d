"""Checkpoints: agents come back whole, foreign and damaged files change nothing."""

import itertools
import json
import pickle
import struct

import gymnasium as gym
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import ca14lib.agents.checkpoint as checkpoint
from ca14lib.agents import AGENTS, DQN, ContinuousAgent, DQNConfig, OnPolicyAgent, load_agent
from ca14lib.agents.check import random_rollout
from ca14lib.agents.checkpoint import read_checkpoint, write_checkpoint
from ca14lib.data import Normalizer, Transitions
from tests.agents.reference_discrete import ACTIONS, OBSERVATIONS

TORQUES = gym.spaces.Box(-2, 2, (2,), dtype=np.float32)
SPACES = {"box": OBSERVATIONS, "unbounded": gym.spaces.Box(-np.inf, np.inf, (2,)), "discrete": gym.spaces.Discrete(6)}


CONTINUOUS = [name for name, cls in AGENTS.items() if issubclass(cls, ContinuousAgent)]
CASES = [(name, space) for name in AGENTS for space in SPACES if name not in CONTINUOUS or space != "discrete"]


def actions_of(name):
    return TORQUES if name in CONTINUOUS else ACTIONS


def agent_of(name, space=OBSERVATIONS, seed=0, hidden_sizes=(8,), **keywords):
    cls = AGENTS[name]
    return cls(space, actions_of(name), cls.config_class(hidden_sizes=hidden_sizes), seed=seed, **keywords)


def batch_for(name, space, seed=0):
    cls = AGENTS[name]
    if issubclass(cls, OnPolicyAgent):
        costs = len(cls.config_class().cost_limits)
        return random_rollout(space, ACTIONS, costs, seed=seed, whole_episodes=cls.whole_episodes)
    generator = torch.Generator().manual_seed(seed)
    shape = (16, *(space.shape or ()))
    observation, following = (
        torch.randint(6, shape, generator=generator)
        if isinstance(space, gym.spaces.Discrete)
        else torch.randn(shape, generator=generator)
        for _ in range(2)
    )
    return Transitions(
        observation=observation,
        action=torch.randint(3, (16,), generator=generator)
        if actions_of(name) is ACTIONS
        else 4 * torch.rand(16, 2, generator=generator) - 2,
        reward=torch.randn(16, generator=generator),
        cost=torch.zeros(16, 0),
        next_observation=following,
        terminated=torch.arange(16) % 4 == 0,
        truncated=torch.arange(16) % 4 == 1,
    )


def same(first, second):
    a, b = first.state()[0], second.state()[0]
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("name, space", CASES)
def test_a_saved_agent_comes_back_from_its_file_alone(name, space, tmp_path):
    normalizer = None if space == "discrete" else Normalizer(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 0.0]))
    agent = agent_of(name, SPACES[space], normalizer=normalizer)
    for seed in range(2):
        agent.update(batch_for(name, SPACES[space], seed))
    agent.save(tmp_path / "agent")
    loaded = load_agent(tmp_path / "agent")
    assert type(loaded) is type(agent)
    assert loaded.config == agent.config
    assert (loaded.observation_space, loaded.action_space) == (agent.observation_space, agent.action_space)
    assert same(agent, loaded)
    observation = batch_for(name, SPACES[space]).observation.reshape(-1, *SPACES[space].shape).numpy()
    assert (agent.act(observation) == loaded.act(observation)).all()
    agent.update(batch_for(name, SPACES[space], 9))
    loaded.update(batch_for(name, SPACES[space], 9))
    assert same(agent, loaded)


@pytest.mark.parametrize("name", AGENTS)
def test_an_agent_never_updated_comes_back(name, tmp_path):
    agent = agent_of(name)
    agent.save(tmp_path / "agent")
    other = agent_of(name, seed=1)
    other.update(batch_for(name, OBSERVATIONS))
    other.load(tmp_path / "agent")
    agent.update(batch_for(name, OBSERVATIONS))
    other.update(batch_for(name, OBSERVATIONS))
    assert same(agent, other)


@pytest.mark.parametrize("name, other", list(itertools.permutations(AGENTS, 2)))
def test_agents_refuse_the_checkpoints_of_other_algorithms(name, other, tmp_path):
    agent_of(other, seed=1).save(tmp_path / "agent")
    victim = agent_of(name)
    with pytest.raises(ValueError, match=f"{other}.*{name}"):
        victim.load(tmp_path / "agent")
    assert same(victim, agent_of(name))


@pytest.mark.parametrize(
    "foreign",
    [
        lambda: agent_of("DQN", seed=1, hidden_sizes=(9,)),
        lambda: DQN(OBSERVATIONS, ACTIONS, DQNConfig(hidden_sizes=(8,), discount=0.5), seed=1),
        lambda: agent_of("DQN", gym.spaces.Box(-1, 1, (2,), dtype=np.float32), seed=1),
        lambda: DQN(OBSERVATIONS, gym.spaces.Discrete(4), DQNConfig(hidden_sizes=(8,)), seed=1),
        lambda: agent_of("DQN", seed=1, normalizer=Normalizer(torch.zeros(2), torch.ones(2))),
    ],
    ids=["layers", "settings", "observations", "actions", "normalizer"],
)
def test_a_checkpoint_of_other_settings_is_refused_and_nothing_changes(foreign, tmp_path):
    foreign().save(tmp_path / "agent")
    victim = agent_of("DQN")
    with pytest.raises(ValueError, match="checkpoint"):
        victim.load(tmp_path / "agent")
    assert same(victim, agent_of("DQN"))


def test_a_missing_checkpoint_is_named(tmp_path):
    for load in (agent_of("DQN").load, load_agent):
        with pytest.raises(FileNotFoundError, match="nowhere"):
            load(tmp_path / "nowhere")


def damaged(good: bytes) -> dict[str, bytes]:
    length = struct.unpack("<Q", good[:8])[0]
    middle = 8 + length + (len(good) - 8 - length) // 2
    return {
        "empty": b"",
        "half": good[: len(good) // 2],
        "last byte missing": good[:-1],
        "text": b"these are not the weights you are looking for",
        "pickle": pickle.dumps({"weights": [1.0, 2.0]}),
        "header length": struct.pack("<Q", 2**60) + good[8:],
        "header": good[:8] + b"?" + good[9:],
        "one bit of a weight": good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :],
    }


@pytest.mark.parametrize("kind", damaged(struct.pack("<Q", 1) + bytes(64)))
def test_a_damaged_checkpoint_is_refused_and_nothing_changes(kind, tmp_path):
    path = tmp_path / "agent"
    agent_of("DQN", seed=1).save(path)
    content = damaged(path.read_bytes())[kind]
    path.write_bytes(content)
    victim = agent_of("DQN")
    with pytest.raises(ValueError, match="agent"):
        victim.load(path)
    assert same(victim, agent_of("DQN"))
    with pytest.raises(ValueError, match="agent"):
        load_agent(path)
    assert path.read_bytes() == content


def test_a_safetensors_file_of_somebody_else_is_refused(tmp_path):
    save_file({"weight": torch.ones(2)}, tmp_path / "other")
    with pytest.raises(ValueError, match="ca14-checkpoint"):
        agent_of("DQN").load(tmp_path / "other")


def test_a_checkpoint_of_no_agent_is_refused(tmp_path):
    write_checkpoint(tmp_path / "file", {"x": torch.ones(1)}, {"something": 1})
    with pytest.raises(ValueError, match="file"):
        load_agent(tmp_path / "file")
    write_checkpoint(tmp_path / "file", {"x": torch.ones(1)}, {"agent": "SARSA"})
    with pytest.raises(ValueError, match="SARSA"):
        load_agent(tmp_path / "file")


@pytest.mark.parametrize(
    "change",
    [
        {"module.q_network.0.weight": None},
        {"module.q_network.0.weight": torch.zeros(1, 1)},
        {"module.stranger": torch.zeros(1)},
        {"generator": None},
        {"optimizer.q.0.exp_avg": torch.zeros(3)},
        {"optimizer.q.0.exp_avg": None},
    ],
    ids=["no weight", "shape", "extra", "no generator", "moments", "no moments"],
)
def test_a_checkpoint_with_other_tensors_is_refused_and_nothing_changes(change, tmp_path):
    trained = agent_of("DQN", seed=1)
    trained.update(batch_for("DQN", OBSERVATIONS))
    tensors, metadata = trained.state()
    tensors = {key: value for key, value in (tensors | change).items() if value is not None}
    write_checkpoint(tmp_path / "agent", tensors, metadata)
    victim = agent_of("DQN")
    with pytest.raises(ValueError, match="checkpoint"):
        victim.load(tmp_path / "agent")
    assert same(victim, agent_of("DQN"))


def test_a_checkpoint_made_on_a_gpu_is_loaded_whole_or_refused_whole(tmp_path):
    tensors, metadata = agent_of("DQN", seed=1).state()
    tensors["generator"] = torch.zeros(16, dtype=torch.uint8)  # the size of a CUDA generator's state
    write_checkpoint(tmp_path / "agent", tensors, metadata)
    victim = agent_of("DQN")
    try:
        victim.load(tmp_path / "agent")
    except ValueError:
        assert same(victim, agent_of("DQN"))
    else:
        assert all(torch.equal(value, tensors[f"module.{name}"]) for name, value in victim.state_dict().items())


def test_settings_this_version_does_not_know_are_refused_by_name(tmp_path):
    tensors, metadata = agent_of("DQN").state()
    metadata["config"]["dreams"] = 1
    write_checkpoint(tmp_path / "agent", tensors, metadata)
    with pytest.raises(ValueError, match="dreams"):
        load_agent(tmp_path / "agent")


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "agent"
    agent_of("DQN").save(path)
    content = path.read_bytes()

    def full_disk(tensors, filename, metadata):
        with open(filename, "wb") as file:
            file.write(b"half of")
        raise OSError("no space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full_disk)
    with pytest.raises(OSError, match="no space"):
        agent_of("DQN", seed=1).save(path)
    assert path.read_bytes() == content
    assert [entry.name for entry in tmp_path.iterdir()] == ["agent"]


def test_a_file_is_replaced_in_one_step(tmp_path, monkeypatch):
    path = tmp_path / "agent"
    agent_of("DQN").save(path)
    content = path.read_bytes()

    def killed(source, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        agent_of("DQN", seed=1).save(path)
    assert path.read_bytes() == content


def test_a_checkpoint_holds_tensors_and_json_and_nothing_that_runs(tmp_path):
    path = tmp_path / "deep" / "folder" / "agent"
    agent_of("DiscreteIQL").save(path)
    length = struct.unpack("<Q", path.read_bytes()[:8])[0]
    header = json.loads(path.read_bytes()[8 : 8 + length])
    assert json.loads(header["__metadata__"]["json"])["agent"] == "DiscreteIQL"
    tensors, metadata = read_checkpoint(path)
    assert metadata["config"]["expectile"] == 0.7
    assert all(isinstance(value, torch.Tensor) for value in tensors.values())
