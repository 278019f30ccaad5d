"""Exported programs give what their agents give, are written whole or not at all, and refuse what does not fit.

What is decorated with ``holds`` is run on the healthy code here, and on code with a planted fault at the end.
"""

import copy
import dataclasses
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch

from ca14lib.agents import AGENTS, PPO, TEAMS, Agent, OnPolicyAgent
from ca14lib.agents.check import ACTIONS, BOX, CONTINUOUS_ACTIONS, IMAGE
from ca14lib.agents.offline.bcq import BCQ, DiscreteBCQConfig
from ca14lib.agents.robust.iqn import IQNConfig
from ca14lib.agents.robust.qr_dqn import QRDQNConfig
from ca14lib.data import Normalizer
from ca14lib.deployment import export as module
from ca14lib.deployment import exportable_agents, load_exported, parity_error, policy_module, why_not_exportable
from ca14lib.deployment.export import TOLERANCE, example_agent, export_policy
from ca14lib.environments import joint_spaces
from tests.deployment.faults_export import FAULTS

STATES = gym.spaces.Discrete(6)
JOINT_CONTINUOUS = joint_spaces(gym.spaces.Box(-10, 10, (4,), np.float32), CONTINUOUS_ACTIONS, 3)
NAMES = [name for name in AGENTS | TEAMS if name != "DIAL"]
PROPERTIES: dict[str, Callable[[], None]] = {}


def holds(test: Callable[[], None]) -> Callable[[], None]:
    PROPERTIES[test.__name__.removeprefix("test_").replace("_", "-")] = test
    return test


def shaken(agent: Agent, seed: int = 0) -> Agent:
    """Weights far from their start, so that biases, last layers and normalisers count."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in agent.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=generator))
    return agent


def normalizer(shape=(3,)) -> Normalizer:
    return Normalizer(torch.full(shape, 0.7), torch.full(shape, 0.4))


def small(name: str, space=BOX, actions=None, **settings) -> Agent:
    cls = (AGENTS | TEAMS)[name]
    known = {item.name for item in dataclasses.fields(cls.config_class)}
    config = cls.config_class(**({"hidden_sizes": (16, 16)} if "hidden_sizes" in known else {}) | settings)
    if actions is None:
        actions = CONTINUOUS_ACTIONS if name in ("SAC", "BC", "AWR", "BCQ", "CQL", "IQL", "TD3BC") else ACTIONS
    keywords = {"normalizer": normalizer(space.shape)} if isinstance(space, gym.spaces.Box) else {}
    return shaken(cls(space, actions, config, **keywords))


def variants(name: str) -> list[Agent]:
    """An agent on every kind of observation and action that it knows."""
    if name in TEAMS:
        made = [shaken(example_agent(name))]
        if not TEAMS[name].discrete_only:
            made.append(shaken(TEAMS[name](*JOINT_CONTINUOUS, normalizer=normalizer((3, 4)))))
        return made
    cls = AGENTS[name]
    if issubclass(cls, OnPolicyAgent):
        return [small(name), small(name, STATES), small(name, IMAGE, CONTINUOUS_ACTIONS)]
    other = IMAGE if small(name).action_space == CONTINUOUS_ACTIONS else STATES
    return [small(name), small(name, other)]


def eager(agent: Agent) -> Callable:
    """The module itself in the place of a program."""
    made = policy_module(agent)
    return lambda inputs: [value.numpy() for value in made(**{k: torch.from_numpy(v) for k, v in inputs.items()})]


def as_good(agent: BCQ, inputs: dict, found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Whether the critic rates another of BCQ's candidates the same, in double precision."""
    critic = copy.deepcopy(agent.critic.first).double()
    low, high = agent.action_space.low.astype(float), agent.action_space.high.astype(float)
    rows = agent._input(torch.from_numpy(inputs["observation"])).double()
    with torch.no_grad():
        first, second = (
            critic(torch.cat([rows, torch.as_tensor(2 * (each - low) / (high - low) - 1)], dim=-1)).squeeze(-1)
            for each in (found, wanted)
        )
    return ((first - second).abs() <= TOLERANCE * second.abs().clamp(min=1)).numpy()


def compare(agent: Agent, run: Callable, rows: int, masked: bool) -> None:
    """A program beside the agent's own ``act`` and, of single agents, its own scores or probabilities."""
    rng = np.random.default_rng(rows)
    space, actions = agent.observation_space, agent.action_space
    if isinstance(space, gym.spaces.Discrete):
        inputs = {"observation": rng.integers(space.n, size=rows)}
    else:
        inputs = {"observation": rng.normal(size=(rows, *space.shape)).astype(np.float32)}
    keywords = {}
    if not isinstance(actions, gym.spaces.Box):
        shape = (rows, *(actions.shape or ()), 4)
        inputs["mask"] = rng.random(shape) < 0.6 if masked else np.ones(shape, dtype=bool)
        inputs["mask"][..., 1] |= ~inputs["mask"].any(axis=-1)
        keywords = {"mask": inputs["mask"]} if masked else {}
    found, wanted = run(inputs), agent.act(inputs["observation"], deterministic=True, **keywords)
    if isinstance(actions, gym.spaces.Box):
        agree = abs(found[0] - wanted).reshape(rows, -1).max(axis=1) <= TOLERANCE
        assert agree.all() or (isinstance(agent, BCQ) and (agree | as_good(agent, inputs, found[0], wanted)).all())
        assert ((found[0] >= actions.low) & (found[0] <= actions.high)).all()
        return
    assert (found[0] == wanted).all()
    assert np.isneginf(found[1][~inputs["mask"]]).all()
    if isinstance(agent, OnPolicyAgent):
        shares = agent.probabilities(inputs["observation"], **keywords)
        np.testing.assert_allclose(np.exp(found[1]), shares, atol=TOLERANCE)
    elif hasattr(agent, "_scores"):
        with torch.no_grad():
            scores = agent._scores(torch.from_numpy(inputs["observation"])).numpy()
        kept = np.isfinite(found[1])
        np.testing.assert_allclose(found[1][kept], scores[kept], atol=TOLERANCE, rtol=TOLERANCE)


@holds
def test_the_module_of_every_agent_gives_what_the_agent_gives():
    for name in NAMES:
        for agent in variants(name):
            run = eager(agent)
            for rows, masked in ((1, False), (17, True)):
                compare(agent, run, rows, masked)
            assert parity_error(agent, run) <= TOLERANCE


@holds
def test_actions_outside_the_support_of_bcq_have_no_score():
    agent = small("DiscreteBCQ", threshold=0.9)
    assert isinstance(agent.config, DiscreteBCQConfig)
    observation = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    scores = eager(agent)({"observation": observation, "mask": np.ones((40, 4), bool)})[1]
    assert (np.isfinite(scores) == agent.support(observation)).all()
    assert not np.isfinite(scores).all()


@holds
def test_a_mean_beyond_the_bounds_is_clipped_to_them():
    agent = small("PPO", BOX, CONTINUOUS_ACTIONS)
    with torch.no_grad():
        agent.policy.network[-1].bias.fill_(5.0)
    compare(agent, eager(agent), 17, False)


def test_distributional_agents_keep_the_functional_that_they_choose_by():
    for agent in (
        small("QRDQN", risk="cvar", risk_parameter=0.25),
        small("IQN", risk="cvar", risk_parameter=0.25),
        small("C51", risk="entropic", risk_parameter=0.5),
    ):
        assert isinstance(agent.config, QRDQNConfig | IQNConfig) or agent.config.risk == "entropic"
        compare(agent, eager(agent), 17, True)


def test_a_program_holds_nothing_of_training_and_leaves_the_agent_alone():
    agent = small("SAC")
    before = {name: value.clone() for name, value in agent.state_dict().items()}
    made = policy_module(agent)
    names = {name.split(".")[1] for name, _ in made.named_parameters()}
    assert names == {"policy", "log_temperature"}
    assert not any(weight.requires_grad for weight in made.parameters())
    assert all(torch.equal(value, before[name]) for name, value in agent.state_dict().items())
    assert all(weight.requires_grad for weight in agent.policy.parameters())
    with torch.no_grad():
        agent.policy.network[-1].bias.add_(1.0)
    assert parity_error(agent, eager(agent)) <= TOLERANCE, "a module made later follows the agent"
    arrays = {"observation": np.zeros((1, 3), np.float32)}
    assert not np.allclose(made(torch.zeros(1, 3))[0].numpy(), eager(agent)(arrays)[0]), "the earlier one does not"


def test_what_cannot_be_exported_says_why():
    table = exportable_agents().set_index("agent")
    assert set(AGENTS | TEAMS) <= set(table.index)
    assert table.index[~table["exportable"]].tolist() == ["DIAL", "PSRL", "PosteriorMean", "QLearning", "UCBVI"]
    assert (table["reason"] == "").tolist() == table["exportable"].tolist()
    recurrent = TEAMS["MAPPO"](*JOINT_CONTINUOUS, TEAMS["MAPPO"].config_class(recurrent=True))
    with pytest.raises(ValueError, match="MAPPO cannot be exported: it keeps a memory"):
        policy_module(recurrent)
    talking = example_agent("CommNet")
    assert why_not_exportable(talking) is None
    with talking.channel("scrambled"), pytest.raises(ValueError, match="random numbers"):
        policy_module(talking)
    assert "none of DiscreteAgent" in why_not_exportable(Agent.__new__(Agent))


# Programs on disk


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A grid agent as torch program, and a continuous one with a normaliser as ONNX program."""
    made = tmp_path_factory.mktemp("exports")
    export_policy(small("DQN", STATES), made / "dqn.pt2")
    export_policy(small("TD3BC"), made / "td3bc.onnx", "onnx")
    return made


SAVED = {"dqn.pt2": lambda: small("DQN", STATES), "td3bc.onnx": lambda: small("TD3BC")}


@pytest.mark.parametrize("name", SAVED)
def test_a_loaded_program_acts_as_its_agent_in_batches_of_any_size(folder, name):
    agent, policy = SAVED[name](), load_exported(folder / name)
    for rows, masked in ((1, False), (17, True), (64, True)):
        compare(agent, policy._run, rows, masked)
    assert policy.observation_space == agent.observation_space
    assert policy.action_space == agent.action_space
    assert policy.metadata["parity"] <= TOLERANCE
    assert policy.metadata["parameters"] < sum(weight.numel() for weight in agent.parameters())
    agent.observation_space.seed(0)
    seen = np.stack([agent.observation_space.sample() for _ in range(9)])
    acted = policy.act(seen)
    np.testing.assert_allclose(acted, agent.act(seen, deterministic=True), atol=TOLERANCE)
    assert acted.dtype == agent.act(seen, deterministic=True).dtype


@pytest.mark.verify
@pytest.mark.parametrize("format", ["torch", "onnx"])
@pytest.mark.parametrize("name", NAMES)
def test_every_program_gives_what_its_agent_gives(name, format, tmp_path):
    for index, agent in enumerate(variants(name)):
        policy = load_exported(export_policy(agent, tmp_path / f"{index}.{format}", format))
        for rows, masked in ((1, False), (1, True), (17, False), (17, True)):
            compare(agent, policy._run, rows, masked)


def test_bad_input_of_a_loaded_policy_is_named(folder):
    grid, continuous = load_exported(folder / "dqn.pt2"), load_exported(folder / "td3bc.onnx")
    with pytest.raises(ValueError, match=r"must lie in 0…5, got 0 to 6"):
        grid.act(np.array([0, 6]))
    with pytest.raises(ValueError, match=r"shape \[N, \*\(3,\)\], got \(2, 4\)"):
        continuous.act(np.zeros((2, 4), np.float32))
    with pytest.raises(ValueError, match="finite"):
        continuous.act(np.full((1, 3), np.nan, np.float32))
    with pytest.raises(ValueError, match="allow an action in every row"):
        grid.act(np.array([0]), mask=np.zeros((1, 4), bool))
    with pytest.raises(ValueError, match="takes no mask"):
        continuous.act(np.zeros((1, 3), np.float32), mask=np.ones((1, 4), bool))
    with pytest.raises(ValueError, match="is deterministic"):
        grid.act(np.array([0]), deterministic=False)


def copied(folder: Path) -> Path:
    """A throw-away copy of the torch export."""
    made = Path(tempfile.mkdtemp()) / "dqn.pt2"
    for ending in ("", ".json"):
        made.with_name(made.name + ending).write_bytes((folder / f"dqn.pt2{ending}").read_bytes())
    return made


def described(folder: Path, **changes) -> Path:
    path = copied(folder)
    description = path.with_name("dqn.pt2.json")
    description.write_text(json.dumps(json.loads(description.read_text()) | changes))
    return path


def test_another_version_and_other_files_are_refused(folder, tmp_path):
    with pytest.raises(ValueError, match=r"exported by ca14lib 0.0.9, this is .*: export again"):
        load_exported(described(folder, ca14lib="0.0.9"))
    with pytest.raises(ValueError, match="has the format 'ca14-export-0'"):
        load_exported(described(folder, format="ca14-export-0"))
    with pytest.raises(FileNotFoundError, match="no exported policy"):
        load_exported(tmp_path / "nothing.onnx")
    path = copied(folder)
    path.with_name("dqn.pt2.json").write_text("{")
    with pytest.raises(ValueError, match="describes no exported policy"):
        load_exported(path)
    with pytest.raises(ValueError, match="format must be one of torch, onnx, got 'tflite'"):
        export_policy(small("DQN"), tmp_path / "x", "tflite")


def complaint(ask: Callable[[], object]) -> str:
    """The message of the ValueError that comes, empty if none does."""
    try:
        ask()
    except ValueError as error:
        return str(error)
    return ""


@holds
def test_a_changed_program_is_noticed():
    root = Path(tempfile.mkdtemp())
    export_policy(small("DQN", STATES), root / "dqn.pt2")
    content = bytearray((root / "dqn.pt2").read_bytes())
    content[len(content) // 2] ^= 1
    (root / "dqn.pt2").write_bytes(content)
    assert "is not the program" in complaint(lambda: load_exported(root / "dqn.pt2"))


@holds
def test_a_program_that_differs_from_its_agent_is_not_written():
    root = Path(tempfile.mkdtemp())
    agent = small("DQN", STATES)
    healthy = agent.act
    agent.act = lambda *args, **keywords: (healthy(*args, **keywords) + 1) % 4
    assert "nothing was written" in complaint(lambda: export_policy(agent, root / "dqn.pt2"))
    assert list(root.iterdir()) == []


def test_nothing_is_overwritten_unasked_and_a_failed_export_leaves_what_was(folder, monkeypatch):
    path = copied(folder)
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match="overwrite=True"):
        export_policy(small("DQN", STATES), path)
    monkeypatch.setattr(module, "_write_program", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        export_policy(small("DQN", STATES), path, overwrite=True)
    assert path.read_bytes() == before
    assert sorted(file.name for file in path.parent.iterdir()) == ["dqn.pt2", "dqn.pt2.json"]
    load_exported(path)


def test_without_onnx_the_error_names_the_extra(folder, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    for ask in (
        lambda: export_policy(small("DQN"), tmp_path / "dqn.onnx", "onnx"),
        lambda: load_exported(folder / "td3bc.onnx"),
    ):
        with pytest.raises(ImportError, match=r"pip install 'ca14lib\[export\]'"):
            ask()
    assert not (tmp_path / "dqn.onnx").exists()


def test_parity_is_infinite_where_a_program_answers_something_else():
    agent = small("DQN", STATES)
    run = eager(agent)
    assert parity_error(agent, run) == 0.0
    assert parity_error(agent, lambda inputs: [run(inputs)[0][:1], run(inputs)[1]]) == np.inf
    assert parity_error(agent, lambda inputs: [run(inputs)[0], np.full_like(run(inputs)[1], np.nan)]) == np.inf
    off = parity_error(agent, lambda inputs: [run(inputs)[0], run(inputs)[1] + np.float32(1e-3)])
    assert 1e-4 < off < 1.1e-3
    wrong = parity_error(agent, lambda inputs: [run(inputs)[1].argmin(axis=-1), run(inputs)[1]])
    assert wrong == np.inf


def test_another_candidate_of_bcq_counts_only_if_it_is_worse():
    agent = small("BCQ")
    run = eager(agent)

    def moved(inputs):
        return [run(inputs)[0] * np.float32(0.9)]

    assert parity_error(agent, run) == 0.0
    assert parity_error(agent, moved) > 1e-2
    with torch.no_grad():
        for weight in agent.critic.first.parameters():
            weight.zero_()  # now all actions are as good
    assert parity_error(agent, moved) == 0.0


def test_agents_of_ones_own_are_exported_too():
    class Own(PPO):
        """Nothing new."""

    agent = Own(BOX, ACTIONS)
    assert parity_error(agent, eager(agent)) == 0.0


# Planted faults


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_caught(name, monkeypatch):
    fault = FAULTS[name]
    fault.plant(monkeypatch)
    for caught in fault.caught_by:
        with pytest.raises(AssertionError):
            PROPERTIES[caught]()


def test_every_property_fails_under_some_fault():
    assert {name for fault in FAULTS.values() for name in fault.caught_by} == PROPERTIES.keys()
