"""The offline loop: the same numbers every time, whether interrupted or not, and no start on bad input."""

import dataclasses
import json
import struct
import sys

import gymnasium as gym
import numpy as np
import pytest
import torch

from ca14lib.agents import AGENTS, DQN, DiscreteAgent, OnPolicyAgent, load_agent
from ca14lib.agents.checkpoint import read_checkpoint, write_checkpoint
from ca14lib.data import OfflineDataset
from ca14lib.environments import tabular_model
from ca14lib.evaluation import ExactEvaluation
from ca14lib.training import History, collect, train_offline

GRID = "CA14/GridWorld-v0"
FROM_DATA = [name for name, cls in AGENTS.items() if not issubclass(cls, OnPolicyAgent)]
SCHEDULE = {"batch_size": 16, "log_every": 7, "evaluate_every": 15, "checkpoint_every": 20, "progress": False}


class KilledError(Exception):
    """Stands for whatever ends a run."""


@pytest.fixture(scope="module")
def data() -> OfflineDataset:
    return collect(GRID, "mixed", 30, seed=0)


@pytest.fixture(scope="module")
def data_of(data) -> dict[bool, OfflineDataset]:
    """Data for agents with discrete actions (True) and with continuous ones (False)."""
    rng = np.random.default_rng(0)
    position = rng.uniform(-1, 1, (301, 2)).astype(np.float32)
    last = np.arange(1, 301) % 10 == 0
    cut = last & (np.arange(300) % 20 < 10)
    continuous = OfflineDataset(
        position[:-1], rng.uniform(-2, 2, (300, 1)), rng.standard_normal(300), position[1:], last & ~cut, cut,
        observation_space=gym.spaces.Box(-1, 1, (2,)), action_space=gym.spaces.Box(-2, 2, (1,)),
    )  # fmt: skip
    return {True: data, False: continuous}


def agent_for(data, name="DQN", seed=0, **settings):
    cls = AGENTS[name]
    config = cls.config_class(**{"hidden_sizes": (8,)} | settings)
    return cls(data.observation_space, data.action_space, config, normalizer=data.normalizer(), seed=seed)


def norm(agent):
    """An evaluation without randomness that notices every change of the weights."""
    return {"norm": sum(float(parameter.detach().double().square().sum()) for parameter in agent.parameters())}


def killed_at(step):
    """The same evaluation, which ends the run at a step."""
    calls = iter(range(0, 10_000, SCHEDULE["evaluate_every"]))

    def evaluate(agent):
        if next(calls) == step:
            raise KilledError
        return norm(agent)

    return evaluate


def same(first, second):
    a, b = first.state()[0], second.state()[0]
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("name", FROM_DATA)
def test_the_same_seeds_give_a_bit_equal_history_and_agent(name, data_of):
    data = data_of[issubclass(AGENTS[name], DiscreteAgent)]
    histories, agents = [], []
    for noise in (1, 2):
        torch.manual_seed(noise)
        agents.append(agent_for(data, name))
        histories.append(train_offline(agents[-1], data, 40, evaluate=norm, seed=3, **SCHEDULE))
    assert histories[0] == histories[1]
    assert same(*agents)
    other = train_offline(agent_for(data, name), data, 40, evaluate=norm, seed=4, **SCHEDULE)
    assert other != histories[0]
    another = train_offline(agent_for(data, name, seed=1), data, 40, evaluate=norm, seed=3, **SCHEDULE)
    assert another != histories[0]


@pytest.mark.parametrize("name", FROM_DATA)
def test_a_killed_run_resumes_to_the_bits_of_an_uninterrupted_one(name, data_of, tmp_path):
    data = data_of[issubclass(AGENTS[name], DiscreteAgent)]
    whole = agent_for(data, name)
    expected = train_offline(whole, data, 70, evaluate=norm, checkpoint=tmp_path / "whole", **SCHEDULE)
    with pytest.raises(KilledError):  # between the checkpoints of steps 40 and 60
        train_offline(agent_for(data, name), data, 70, evaluate=killed_at(45), checkpoint=tmp_path / "cut", **SCHEDULE)
    assert read_checkpoint(tmp_path / "cut")[1]["loop"]["step"] == 40
    resumed = agent_for(data, name, seed=99)
    history = train_offline(resumed, data, 70, evaluate=norm, checkpoint=tmp_path / "cut", **SCHEDULE)
    assert history == expected
    assert same(resumed, whole)
    (tensors, metadata), (expected_tensors, expected_metadata) = (
        read_checkpoint(tmp_path / file) for file in ("cut", "whole")
    )
    assert metadata == expected_metadata
    assert tensors.keys() == expected_tensors.keys()
    assert all(torch.equal(value, expected_tensors[key]) for key, value in tensors.items())


def test_a_run_killed_twice_resumes_to_the_same_bits(data, tmp_path):
    whole = agent_for(data)
    expected = train_offline(whole, data, 70, evaluate=norm, checkpoint=tmp_path / "whole", **SCHEDULE)
    for step, start in ((30, 0), (60, 20)):
        evaluate = killed_at(step)
        if start:
            evaluate = killed_at(step - 30)  # the resumed run evaluates at 30, 45, 60: its third call is fatal
        with pytest.raises(KilledError):
            train_offline(agent_for(data), data, 70, evaluate=evaluate, checkpoint=tmp_path / "cut", **SCHEDULE)
    resumed = agent_for(data)
    assert train_offline(resumed, data, 70, evaluate=norm, checkpoint=tmp_path / "cut", **SCHEDULE) == expected
    assert same(resumed, whole)


def test_a_run_killed_before_its_first_checkpoint_starts_again(data, tmp_path):
    expected = train_offline(agent_for(data), data, 30, evaluate=norm, checkpoint=tmp_path / "whole", **SCHEDULE)
    with pytest.raises(KilledError):
        train_offline(agent_for(data), data, 30, evaluate=killed_at(15), checkpoint=tmp_path / "cut", **SCHEDULE)
    assert not (tmp_path / "cut").exists()
    again = train_offline(agent_for(data), data, 30, evaluate=norm, checkpoint=tmp_path / "cut", **SCHEDULE)
    assert again == expected


def test_an_evaluation_that_acts_does_not_spoil_resuming(data, tmp_path):
    """Evaluations may draw from the agent's generator: its state is part of the checkpoint."""
    observation = data.transitions.observation[:64].numpy()

    def acts(agent, calls=None):
        if calls is not None and next(calls, None) is None:
            raise KilledError
        return {"mean_action": float(agent.act(observation).mean())} | norm(agent)

    whole = agent_for(data, "DiscreteBC")
    expected = train_offline(whole, data, 70, evaluate=acts, checkpoint=tmp_path / "whole", **SCHEDULE)
    calls = iter(range(3))
    with pytest.raises(KilledError):
        train_offline(
            agent_for(data, "DiscreteBC"), data, 70, evaluate=lambda a: acts(a, calls), checkpoint=tmp_path / "cut",
            **SCHEDULE,
        )  # fmt: skip
    resumed = agent_for(data, "DiscreteBC")
    assert train_offline(resumed, data, 70, evaluate=acts, checkpoint=tmp_path / "cut", **SCHEDULE) == expected
    assert same(resumed, whole)


def test_a_finished_run_is_not_trained_again(data, tmp_path):
    agent = agent_for(data)
    history = train_offline(agent, data, 40, evaluate=norm, checkpoint=tmp_path / "run", **SCHEDULE)
    again = agent_for(data, seed=5)
    assert train_offline(again, data, 40, evaluate=norm, checkpoint=tmp_path / "run", **SCHEDULE) == history
    assert same(agent, again)


def test_a_longer_budget_goes_on_from_a_finished_run(data, tmp_path):
    long = agent_for(data)
    train_offline(long, data, 60, **SCHEDULE)
    train_offline(agent_for(data), data, 40, checkpoint=tmp_path / "run", **SCHEDULE)
    extended = agent_for(data, seed=5)
    history = train_offline(extended, data, 60, checkpoint=tmp_path / "run", **SCHEDULE)
    assert same(long, extended)
    assert history.frame["step"].max() == 60


def test_a_checkpoint_of_a_run_is_also_a_checkpoint_of_its_agent(data, tmp_path):
    agent = agent_for(data)
    train_offline(agent, data, 20, checkpoint=tmp_path / "run", **SCHEDULE)
    assert same(load_agent(tmp_path / "run"), agent)


def with_last_observation_moved(data: OfflineDataset) -> OfflineDataset:
    transitions = data.transitions
    cut = int(transitions.truncated.nonzero()[0])
    following = transitions.next_observation.clone()
    following[cut] = (following[cut] + 1) % 4
    return data._with(dataclasses.replace(transitions, next_observation=following))


OTHER_RUNS = {
    "seed": {"seed": 1},
    "batch_size": {"batch_size": 17},
    "log_every": {"log_every": 8},
    "evaluate_every": {"evaluate_every": 10},
    "checkpoint_every": {"checkpoint_every": 25},
}


@pytest.mark.parametrize("name", OTHER_RUNS)
def test_the_checkpoint_of_another_run_is_refused_by_what_differs(name, data, tmp_path):
    train_offline(agent_for(data), data, 20, checkpoint=tmp_path / "run", **SCHEDULE)
    content, agent = (tmp_path / "run").read_bytes(), agent_for(data, seed=7)
    with pytest.raises(ValueError, match=name):
        train_offline(agent, data, 40, checkpoint=tmp_path / "run", **(SCHEDULE | OTHER_RUNS[name]))
    assert same(agent, agent_for(data, seed=7))
    assert (tmp_path / "run").read_bytes() == content


@pytest.mark.parametrize(
    "other",
    [
        lambda data: collect(GRID, "mixed", 30, seed=1),
        lambda data: collect(GRID, "mixed", 31, seed=0),
        lambda data: data.episodes(np.arange(29)),
        lambda data: data._with(dataclasses.replace(data.transitions, reward=data.transitions.reward * 2)),
        with_last_observation_moved,
    ],
    ids=["seed", "more", "fewer", "rewards", "where it was cut"],
)
def test_the_checkpoint_of_a_run_on_other_data_is_refused(other, tmp_path):
    data = collect(GRID, "random", 30, seed=0)
    agent = agent_for(data)
    train_offline(agent, data, 20, checkpoint=tmp_path / "run", **SCHEDULE)
    victim = agent_for(data, seed=7)
    with pytest.raises(ValueError, match="data"):
        train_offline(victim, other(data), 40, checkpoint=tmp_path / "run", **SCHEDULE)
    assert same(victim, agent_for(data, seed=7))


def test_the_checkpoint_of_another_agent_is_refused(data, tmp_path):
    train_offline(agent_for(data), data, 20, checkpoint=tmp_path / "run", **SCHEDULE)
    for other, complaint in (("DiscreteBC", "DQN"), ("DiscreteCQL", "DQN")):
        with pytest.raises(ValueError, match=complaint):
            train_offline(agent_for(data, other), data, 40, checkpoint=tmp_path / "run", **SCHEDULE)
    with pytest.raises(ValueError, match="config"):
        train_offline(agent_for(data, discount=0.5), data, 40, checkpoint=tmp_path / "run", **SCHEDULE)


def test_a_shorter_budget_than_the_checkpoint_has_seen_is_refused(data, tmp_path):
    train_offline(agent_for(data), data, 40, checkpoint=tmp_path / "run", **SCHEDULE)
    with pytest.raises(ValueError, match=r"40.*20"):
        train_offline(agent_for(data), data, 20, checkpoint=tmp_path / "run", **SCHEDULE)


def test_an_agent_without_a_run_is_no_checkpoint_to_resume(data, tmp_path):
    agent_for(data).save(tmp_path / "agent")
    content = (tmp_path / "agent").read_bytes()
    with pytest.raises(ValueError, match=r"agent\.load"):
        train_offline(agent_for(data), data, 20, checkpoint=tmp_path / "agent", **SCHEDULE)
    assert (tmp_path / "agent").read_bytes() == content


@pytest.mark.parametrize("damage", ["empty", "half", "text", "bit", "loop generator"])
def test_a_damaged_checkpoint_is_refused_and_file_and_agent_stay_as_they_are(damage, data, tmp_path):
    path = tmp_path / "run"
    train_offline(agent_for(data), data, 20, checkpoint=path, **SCHEDULE)
    good = path.read_bytes()
    middle = 8 + struct.unpack("<Q", good[:8])[0] + 5
    if damage == "loop generator":
        tensors, metadata = read_checkpoint(path)
        write_checkpoint(path, tensors | {"loop.generator": torch.zeros(3, dtype=torch.uint8)}, metadata)
    else:
        path.write_bytes(
            {
                "empty": b"",
                "half": good[: len(good) // 2],
                "text": b"nonsense",
                "bit": good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :],
            }[damage]
        )
    content, agent = path.read_bytes(), agent_for(data, seed=7)
    with pytest.raises(ValueError, match="run"):
        train_offline(agent, data, 40, checkpoint=path, **SCHEDULE)
    assert path.read_bytes() == content
    assert same(agent, agent_for(data, seed=7))


# Relabelling


def awr_for(data, seed=0, every=25, **settings):
    return agent_for(data, "DiscreteAWR", seed, relabel_interval=every, **settings)


def test_labels_are_asked_for_before_the_first_update_and_then_on_schedule(data):
    asked, used = [], []

    class Recorder(AGENTS["DiscreteAWR"]):
        def relabel(self, dataset):
            asked.append(len(used))
            return torch.full((len(dataset),), float(len(asked)))

        def update(self, batch):
            used.append(set(batch.value_target.tolist()))
            return super().update(batch)

    agent = Recorder(data.observation_space, data.action_space, Recorder.config_class(relabel_interval=3))
    train_offline(agent, data, 8, batch_size=4, progress=False)
    assert asked == [0, 3, 6]
    assert used == [{1.0}] * 3 + [{2.0}] * 3 + [{3.0}] * 2


def test_every_drawn_transition_carries_its_own_label(data):
    class Recorder(AGENTS["DiscreteAWR"]):
        def relabel(self, dataset):
            return dataset.transitions.reward + 7 * dataset.transitions.observation[:, 0]

        def update(self, batch):
            assert torch.equal(batch.value_target, batch.reward + 7 * batch.observation[:, 0])
            return super().update(batch)

    agent = Recorder(data.observation_space, data.action_space, Recorder.config_class(hidden_sizes=(8,)))
    train_offline(agent, data, 4, batch_size=32, progress=False)
    assert data.transitions.value_target is None, "the data themselves stay as they are"


def test_agents_that_do_not_relabel_get_no_labels(data):
    class Recorder(DQN):
        def update(self, batch):
            assert batch.value_target is None
            return super().update(batch)

    agent = Recorder(data.observation_space, data.action_space, Recorder.config_class(hidden_sizes=(8,)))
    train_offline(agent, data, 2, batch_size=4, progress=False)
    assert agent.relabel(data) is None
    assert agent.relabel_every is None


@pytest.mark.parametrize("every", [7, 20, 25, 33, 1_000])
def test_a_run_killed_between_two_relabellings_resumes_to_the_same_bits(every, data, tmp_path):
    """The checkpoint of step 40 holds the labels in force, made with a V that no longer exists."""
    whole = awr_for(data, every=every)
    expected = train_offline(whole, data, 70, evaluate=norm, checkpoint=tmp_path / "whole", **SCHEDULE)
    with pytest.raises(KilledError):
        train_offline(
            awr_for(data, every=every), data, 70, evaluate=killed_at(45), checkpoint=tmp_path / "cut", **SCHEDULE
        )
    assert read_checkpoint(tmp_path / "cut")[1]["loop"]["step"] == 40
    resumed = awr_for(data, seed=99, every=every)
    assert train_offline(resumed, data, 70, evaluate=norm, checkpoint=tmp_path / "cut", **SCHEDULE) == expected
    assert same(resumed, whole)


def test_a_checkpoint_without_its_labels_is_refused(data, tmp_path):
    train_offline(awr_for(data), data, 20, checkpoint=tmp_path / "run", **SCHEDULE)
    tensors, metadata = read_checkpoint(tmp_path / "run")
    del tensors["loop.value_target"]
    write_checkpoint(tmp_path / "run", tensors, metadata)
    agent = awr_for(data, seed=7)
    with pytest.raises(ValueError, match="labels"):
        train_offline(agent, data, 40, checkpoint=tmp_path / "run", **SCHEDULE)
    assert same(agent, awr_for(data, seed=7))


# What is logged


def test_losses_are_means_over_the_updates_since_the_last_log(data):
    seen = []

    class Recorder(DQN):
        def update(self, batch):
            logs = super().update(batch)
            seen.append({name: float(value) for name, value in logs.items()})
            return logs

    agent = Recorder(data.observation_space, data.action_space, Recorder.config_class(hidden_sizes=(8,)))
    frame = train_offline(agent, data, 10, batch_size=8, log_every=4, progress=False).frame
    loss = frame[frame["metric"] == "loss"]
    assert loss["step"].tolist() == [4, 8, 10]
    expected = [np.mean([logs["loss"] for logs in seen[a:b]]) for a, b in ((0, 4), (4, 8), (8, 10))]
    assert loss["value"].tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "every, updates, steps", [(None, 10, [0, 10]), (4, 10, [0, 4, 8, 10]), (5, 10, [0, 5, 10]), (50, 10, [0, 10])]
)
def test_evaluations_come_at_the_start_on_schedule_and_once_at_the_end(every, updates, steps, data):
    history = train_offline(
        agent_for(data), data, updates, batch_size=8, evaluate=norm, evaluate_every=every, progress=False
    )
    assert history.series("norm").index.tolist() == steps


def test_evaluating_does_not_change_the_training(data):
    evaluation = ExactEvaluation(tabular_model(GRID), horizon=50)
    plain, evaluated = agent_for(data), agent_for(data)
    first = train_offline(plain, data, 30, **SCHEDULE)
    second = train_offline(evaluated, data, 30, evaluate=evaluation, **SCHEDULE)
    assert same(plain, evaluated)
    assert first.series("loss").equals(second.series("loss"))
    assert {"return", "share", "max_q"} <= set(second.frame["metric"])


def test_training_changes_the_agent_and_not_the_data(data):
    before = {field.name: getattr(data.transitions, field.name) for field in dataclasses.fields(data.transitions)}
    before = {name: None if value is None else value.clone() for name, value in before.items()}
    agent = agent_for(data)
    train_offline(agent, data, 5, batch_size=8, progress=False)
    assert not same(agent, agent_for(data))
    for name, value in before.items():
        assert value is None or torch.equal(value, getattr(data.transitions, name))


def test_no_update_is_an_evaluation_only(data):
    agent = agent_for(data)
    history = train_offline(agent, data, 0, evaluate=norm, progress=False)
    assert history.frame["metric"].tolist() == ["norm"]
    assert same(agent, agent_for(data))


def test_the_progress_bar_goes_to_standard_error_and_can_be_left_out(data, capsys):
    train_offline(agent_for(data), data, 5, batch_size=8)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "DQN" in shown.err
    train_offline(agent_for(data), data, 5, batch_size=8, progress=False)
    assert capsys.readouterr() == ("", "")


def test_tensorboard_gets_the_numbers_of_the_history(data, tmp_path):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    history = train_offline(agent_for(data), data, 30, evaluate=norm, tensorboard=tmp_path, **SCHEDULE)
    events = reader.EventAccumulator(str(tmp_path)).Reload()
    for metric in ("loss", "norm"):
        written = [(event.step, event.value) for event in events.Scalars(metric)]
        series = history.series(metric)
        assert [step for step, _ in written] == series.index.tolist()
        assert [value for _, value in written] == pytest.approx(series.tolist(), rel=1e-6)


def test_tensorboard_is_asked_for_by_its_extra_when_it_is_missing(data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    agent = agent_for(data)
    with pytest.raises(ValueError, match=r"ca14lib\[tensorboard\]"):
        train_offline(agent, data, 5, tensorboard=tmp_path / "events", progress=False)
    assert same(agent, agent_for(data))
    assert not (tmp_path / "events").exists()


# Bad input


@pytest.mark.parametrize(
    "name, value",
    [("updates", -1), ("batch_size", 0), ("log_every", 0), ("evaluate_every", 0), ("checkpoint_every", -5)],
)
def test_a_number_out_of_range_is_refused_by_name(name, value, data):
    arguments = {"updates": 5, "batch_size": 8, "progress": False} | {name: value}
    agent = agent_for(data)
    with pytest.raises(ValueError, match=f"{name}.*{value}"):
        train_offline(agent, data, arguments.pop("updates"), **arguments)
    assert same(agent, agent_for(data))


@pytest.mark.parametrize("name", ["updates", "batch_size", "log_every", "evaluate_every", "checkpoint_every"])
def test_a_number_that_is_no_integer_is_refused_by_name(name, data):
    arguments = {"updates": 5, "batch_size": 8, "progress": False} | {name: 2.5}
    with pytest.raises(ValueError, match=f"{name}.*2.5"):
        train_offline(agent_for(data), data, arguments.pop("updates"), evaluate=norm, **arguments)


def test_integers_from_numpy_are_integers(data):
    numbers = {"batch_size": 8, "log_every": 2, "evaluate_every": 2, "checkpoint_every": 2}
    numbers = {name: np.int64(value) for name, value in numbers.items()}
    agent, same_agent = agent_for(data), agent_for(data)
    train_offline(agent, data, np.int64(4), progress=False, **numbers)
    train_offline(same_agent, data, 4, batch_size=8, progress=False)
    assert same(agent, same_agent)


def test_an_agent_for_other_spaces_is_refused(data):
    chain = collect("CA14/RiverSwim-v0", "random", 2, seed=0)
    with pytest.raises(ValueError, match="observation_space"):
        train_offline(agent_for(data), chain, 5, progress=False)
    pole = collect("CartPole-v1", lambda o: np.zeros(len(o), dtype=int), 2, seed=0)
    with pytest.raises(ValueError, match="observation_space"):
        train_offline(agent_for(pole), data, 5, progress=False)


def test_the_checkpoint_says_in_plain_json_what_run_it_is_of(data, tmp_path):
    train_offline(agent_for(data), data, 20, checkpoint=tmp_path / "run", seed=3, **SCHEDULE)
    loop = read_checkpoint(tmp_path / "run")[1]["loop"]
    assert loop["step"] == 20
    assert loop["run"]["seed"] == 3
    assert History(loop["history"]) == History(json.loads(json.dumps(loop["history"])))
