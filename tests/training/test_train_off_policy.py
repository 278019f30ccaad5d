"""The loop that acts and learns: right transitions, the same bits whether interrupted or not, no start on bad input."""

from unittest import mock

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import SyncVectorEnv

from ca14lib.agents import AGENTS
from ca14lib.agents.checkpoint import read_checkpoint, write_checkpoint
from ca14lib.data import ReplayBuffer
from ca14lib.training import train_off_policy, train_offline
from tests.continuous_probes import Trace

TRACE = "CourseTest/Trace-v0"
SCHEDULE = {
    "start_steps": 12, "batch_size": 8, "log_every": 15, "evaluate_every": 9, "checkpoint_every": 24, "progress": False,
}  # fmt: skip


class KilledError(Exception):
    """Stands for whatever ends a run."""


def agent_for(name="SAC", seed=0, environment=TRACE, **settings):
    cls, made = AGENTS[name], gym.make(environment)
    config = cls.config_class(**{"hidden_sizes": (8,)} | settings)
    return cls(made.observation_space, made.action_space, config, seed=seed)


def norm(agent):
    """An evaluation without randomness that notices every change of the weights."""
    return {"norm": sum(float(parameter.detach().double().square().sum()) for parameter in agent.parameters())}


def killed_after(calls):
    """The same evaluation, which ends the run at its so-manyeth call."""
    left = iter(range(calls - 1))

    def evaluate(agent):
        if next(left, None) is None:
            raise KilledError
        return norm(agent)

    return evaluate


def same(first, second):
    a, b = first.state()[0], second.state()[0]
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


# The transitions


@pytest.mark.parametrize("num_envs", [1, 3])
def test_the_buffer_holds_what_a_hand_run_of_the_environments_gives(num_envs):
    """Every step of every copy is there, once, with its own successor, also where the copy reset itself."""
    agent, seeds, healthy = agent_for(), [], SyncVectorEnv.reset
    buffer = ReplayBuffer(agent.observation_space, agent.action_space, 600, num_envs=num_envs)

    def reset(self, *, seed=None, options=None):
        seeds.append(seed)
        return healthy(self, seed=seed, options=options)

    with mock.patch.object(SyncVectorEnv, "reset", reset):
        train_off_policy(
            agent, TRACE, 60 * num_envs, num_envs=num_envs, start_steps=30 * num_envs, batch_size=4,
            updates_per_step=0.2, buffer=buffer, log_every=num_envs, progress=False,
        )  # fmt: skip
    held = {name: column[:60].numpy() for name, column in buffer.columns.items()}
    kinds = set()
    for copy in range(num_envs):
        environment = Trace()
        observation, _ = environment.reset(seed=seeds[0] + copy)
        for step in range(60):
            action = held["action"][step, copy]
            assert (held["observation"][step, copy] == observation).all()
            observation, reward, terminated, truncated, _ = environment.step(action)
            assert (held["next_observation"][step, copy] == observation).all()
            assert held["reward"][step, copy] == pytest.approx(reward, abs=1e-5)
            assert held["terminated"][step, copy] == terminated
            # a true end is no time limit even where both hold; the last step of the run is cut unless it is one
            assert held["truncated"][step, copy] == ((truncated or step == 59) and not terminated)
            kinds.add((terminated, truncated))
            if terminated or truncated:
                observation, _ = environment.reset()
    assert len(kinds) == 4, "the case needs ends of all kinds"
    if num_envs == 1:
        data = buffer.dataset()
        assert len(data) == 60
        assert data.episode_lengths().max() == 5


def test_the_first_actions_are_uniform_in_the_box_and_the_later_ones_the_agents():
    agent = agent_for()
    with torch.no_grad():  # the agent's own actions are all in one corner
        agent.policy.network[-1].weight.zero_()
        agent.policy.network[-1].bias.copy_(torch.tensor([8.0, -8.0, -5.0, -5.0]))
    buffer = ReplayBuffer(agent.observation_space, agent.action_space, 2_000, num_envs=2)
    train_off_policy(
        agent, TRACE, 2_000, num_envs=2, start_steps=1_800, buffer=buffer, updates_per_step=1e-9, progress=False
    )
    action = buffer.columns["action"].numpy()
    uniform, own = action[:900].reshape(-1, 2), action[900:].reshape(-1, 2)
    assert np.allclose(own, [1, 0], atol=0.01)
    for column, (low, high) in zip(uniform.T, ((-1, 1), (0, 3)), strict=True):
        share = np.histogram(column, bins=10, range=(low, high))[0] / 1_800
        assert share.sum() == 1
        assert abs(share - 0.1).max() < 0.03


@pytest.mark.parametrize("rate, updates", [(1.0, 88), (0.5, 44), (2.0, 176), (0.3, 26)])
def test_the_number_of_updates_is_the_rate_times_the_steps_after_the_start(rate, updates):
    agent = agent_for("TD3BC")  # it counts its updates
    train_off_policy(agent, TRACE, 100, start_steps=12, batch_size=4, updates_per_step=rate, progress=False)
    assert agent.updates == updates


def test_episode_returns_are_those_of_the_episodes_that_ended():
    agent = agent_for()
    buffer = ReplayBuffer(agent.observation_space, agent.action_space, 90)
    history = train_off_policy(agent, TRACE, 90, start_steps=90, log_every=30, buffer=buffer, progress=False)
    data, expected = buffer.dataset(), []
    ends = data.episode_lengths().cumsum()
    for low in (0, 30, 60):
        inside = (ends > low) & (ends <= low + 30) & ((ends < 90) | data.transitions.terminated.numpy()[ends - 1])
        expected.append(data.episode_returns()[inside].mean())
    assert history.series("episode_return").tolist() == pytest.approx(expected, rel=1e-5)


def test_an_agent_with_discrete_actions_learns_in_an_environment_of_the_course():
    agent = agent_for("DQN", environment="CA14/ProbeAction-v0", learning_rate=0.01)
    train_off_policy(
        agent, "CA14/ProbeAction-v0", 400, num_envs=4, start_steps=100, batch_size=32, updates_per_step=0.5,
        progress=False,
    )  # fmt: skip
    q = agent.probabilities(np.zeros((1, 1), np.float32), deterministic=True)
    assert q.tolist() == [[0.0, 1.0]]


# The same bits


@pytest.mark.parametrize("num_envs", [1, 3])
def test_the_same_seeds_give_a_bit_equal_history_and_agent(num_envs):
    histories, agents = [], []
    for noise in (1, 2):
        torch.manual_seed(noise)
        np.random.seed(noise)  # noqa: NPY002
        agents.append(agent_for())
        histories.append(train_off_policy(agents[-1], TRACE, 60, num_envs=num_envs, evaluate=norm, seed=3, **SCHEDULE))
    assert histories[0] == histories[1]
    assert same(*agents)
    for seed, agent_seed in ((4, 0), (3, 1)):
        other = agent_for(seed=agent_seed)
        history = train_off_policy(other, TRACE, 60, num_envs=num_envs, evaluate=norm, seed=seed, **SCHEDULE)
        assert history != histories[0]
        assert not same(other, agents[0])


@pytest.mark.parametrize("name, num_envs, capacity", [("SAC", 1, 1_000), ("SAC", 3, 30), ("TD3BC", 1, 20)])
@pytest.mark.parametrize("calls", [4, 7])
def test_a_killed_run_resumes_to_the_bits_of_an_uninterrupted_one(name, num_envs, capacity, calls, tmp_path):
    """Also where the ring has gone round. The calls of the evaluation at steps 36 and 63 are fatal."""
    fixed = SCHEDULE | {"num_envs": num_envs, "capacity": capacity, "seed": 5}
    whole = agent_for(name)
    expected = train_off_policy(whole, TRACE, 75, evaluate=norm, checkpoint=tmp_path / "whole", **fixed)
    with pytest.raises(KilledError):
        train_off_policy(agent_for(name), TRACE, 75, evaluate=killed_after(calls), checkpoint=tmp_path / "cut", **fixed)
    assert read_checkpoint(tmp_path / "cut")[1]["loop"]["step"] == {4: 24, 7: 48}[calls]
    resumed = agent_for(name, seed=99)
    history = train_off_policy(resumed, TRACE, 75, evaluate=norm, checkpoint=tmp_path / "cut", **fixed)
    assert history == expected
    assert same(resumed, whole)
    (tensors, metadata), (expected_tensors, expected_metadata) = (
        read_checkpoint(tmp_path / file) for file in ("cut", "whole")
    )
    assert metadata == expected_metadata
    assert tensors.keys() == expected_tensors.keys()
    assert all(torch.equal(value, expected_tensors[key]) for key, value in tensors.items())


def test_a_checkpoint_file_does_not_change_the_run(tmp_path):
    with_file, without = agent_for(), agent_for()
    first = train_off_policy(with_file, TRACE, 60, checkpoint=tmp_path / "run", **SCHEDULE)
    assert train_off_policy(without, TRACE, 60, **SCHEDULE) == first
    assert same(with_file, without)


def test_a_finished_run_is_given_back_as_it_is(tmp_path):
    agent = agent_for()
    expected = train_off_policy(agent, TRACE, 60, evaluate=norm, checkpoint=tmp_path / "run", **SCHEDULE)
    again = agent_for(seed=9)
    buffer = ReplayBuffer(agent.observation_space, agent.action_space, 60)
    history = train_off_policy(again, TRACE, 60, evaluate=norm, checkpoint=tmp_path / "run", buffer=buffer, **SCHEDULE)
    assert history == expected
    assert same(agent, again)
    assert len(buffer) == 60, "the replay buffer comes back too"


def test_a_longer_budget_goes_on_from_a_finished_run(tmp_path):
    """At a multiple of the checkpoint's schedule to the bits of one long run."""
    long = agent_for()
    expected = train_off_policy(long, TRACE, 72, checkpoint=tmp_path / "long", **SCHEDULE)
    train_off_policy(agent_for(), TRACE, 48, checkpoint=tmp_path / "run", **SCHEDULE)
    extended = agent_for(seed=5)
    assert train_off_policy(extended, TRACE, 72, checkpoint=tmp_path / "run", **SCHEDULE) == expected
    assert same(extended, long)


# What is refused


@pytest.mark.parametrize(
    "change, complaint",
    [
        ({"steps": 0}, "steps"), ({"steps": 61, "num_envs": 3}, "steps"), ({"steps": 60.0}, "steps"),
        ({"start_steps": -1}, "start_steps"), ({"start_steps": 10, "num_envs": 3}, "start_steps"),
        ({"log_every": 0}, "log_every"), ({"evaluate_every": 0}, "evaluate_every"),
        ({"evaluate_every": 4, "num_envs": 3}, "evaluate_every"), ({"checkpoint_every": 0}, "checkpoint_every"),
        ({"checkpoint_every": 2.5}, "checkpoint_every"), ({"num_envs": 0}, "num_envs"), ({"num_envs": -1}, "num_envs"),
        ({"updates_per_step": 0.0}, "updates_per_step"), ({"updates_per_step": float("nan")}, "updates_per_step"),
        ({"updates_per_step": float("inf")}, "updates_per_step"), ({"batch_size": 0}, "batch_size"),
        ({"capacity": 0}, "capacity"), ({"environment": "CourseTest/Nowhere-v0"}, "Nowhere"),
        ({"environment": "CourseTest/Bandit-v0"}, "observation_space"), ({"seed": -1}, "negative|seed"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_before_anything_is_trained(change, complaint):
    agent, untouched = agent_for(), agent_for()
    arguments = {
        "environment": TRACE,
        "steps": 60,
        "start_steps": 12,
        "log_every": 12,
        "progress": False,
        "evaluate": norm,
    } | change
    with pytest.raises(ValueError, match=complaint):
        train_off_policy(agent, arguments.pop("environment"), arguments.pop("steps"), **arguments)
    assert same(agent, untouched)


def test_a_buffer_that_is_not_empty_or_of_other_copies_is_refused():
    agent = agent_for()
    buffer = ReplayBuffer(agent.observation_space, agent.action_space, 60)
    train_off_policy(agent, TRACE, 6, buffer=buffer, progress=False)
    with pytest.raises(ValueError, match="empty"):
        train_off_policy(agent, TRACE, 6, buffer=buffer, progress=False)
    other = ReplayBuffer(agent.observation_space, agent.action_space, 60, num_envs=2)
    with pytest.raises(ValueError, match="environments"):
        train_off_policy(agent, TRACE, 6, buffer=other, progress=False)


@pytest.mark.parametrize(
    "change, complaint",
    [
        ({"seed": 1}, "seed"), ({"batch_size": 9}, "batch_size"), ({"start_steps": 9}, "start_steps"),
        ({"updates_per_step": 0.5}, "updates_per_step"), ({"capacity": 30}, "capacity"), ({"num_envs": 3}, "num_envs"),
        ({"log_every": 12}, "log_every"), ({"environment_arguments": {"bonus": 1.0}}, "environment_arguments"),
        ({"steps": 24}, "48"),
    ],
)  # fmt: skip
def test_a_checkpoint_of_another_run_is_refused_and_the_agent_left_alone(change, complaint, tmp_path):
    train_off_policy(agent_for(), TRACE, 48, checkpoint=tmp_path / "run", **SCHEDULE)
    agent, untouched = agent_for(seed=3), agent_for(seed=3)
    arguments = {"steps": 72} | SCHEDULE | change
    with pytest.raises(ValueError, match=complaint):
        train_off_policy(agent, TRACE, arguments.pop("steps"), checkpoint=tmp_path / "run", **arguments)
    assert same(agent, untouched)


def test_checkpoints_of_other_kinds_are_refused(tmp_path):
    agent, untouched = agent_for(seed=3), agent_for(seed=3)
    agent_for().save(tmp_path / "agent")
    buffer = ReplayBuffer(agent.observation_space, agent.action_space, 60)
    train_off_policy(agent_for(), TRACE, 48, buffer=buffer, checkpoint=tmp_path / "run", **SCHEDULE)
    train_offline(agent_for(), buffer.dataset(), 3, checkpoint=tmp_path / "offline", progress=False)
    tensors, metadata = read_checkpoint(tmp_path / "run")
    del tensors["replay.reward"]
    write_checkpoint(tmp_path / "lame", tensors, metadata)
    (tmp_path / "torn").write_bytes((tmp_path / "run").read_bytes()[:-100])
    for file in ("agent", "offline", "lame", "torn"):
        with pytest.raises(ValueError, match=file):
            train_off_policy(agent, TRACE, 72, checkpoint=tmp_path / file, **SCHEDULE)
        assert same(agent, untouched), file
    with pytest.raises(ValueError, match="run"):  # nor does the offline loop go on from it
        train_offline(agent, buffer.dataset(), 300, checkpoint=tmp_path / "run", progress=False)
    with pytest.raises(ValueError, match="agent"):
        train_off_policy(agent_for("TD3BC"), TRACE, 72, checkpoint=tmp_path / "run", **SCHEDULE)
    with pytest.raises(ValueError, match="SAC"):
        train_off_policy(agent_for("CQL"), TRACE, 72, checkpoint=tmp_path / "run", **SCHEDULE)
    with pytest.raises(ValueError, match="config"):
        train_off_policy(agent_for(learning_rate=0.1), TRACE, 72, checkpoint=tmp_path / "run", **SCHEDULE)
