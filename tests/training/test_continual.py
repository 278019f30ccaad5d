"""The loop through a sequence of tasks: what it trains on, what it replays, and that it repeats."""

import numpy as np
import pytest
import torch

from ca14lib.agents.hybrid.continual import ContinualDQN
from ca14lib.experiments.evaluation.continual import continual_agent, goal_models
from ca14lib.training.continual import train_continual

FEW = {"steps": 16, "time_limit": 4, "num_envs": 4, "batch_size": 8, "progress": False}


class Witness(ContinualDQN):
    """Writes down what every update saw."""

    def __init__(self, other: ContinualDQN) -> None:
        super().__init__(other.observation_space, other.action_space, other.config)
        self.batches, self.ended = [], []

    def update(self, batch):
        self.batches.append(batch)
        return super().update(batch)

    def consolidate(self, batch):
        self.ended.append(batch)
        super().consolidate(batch)


def witnessed(stages, **extra):
    agent = Witness(continual_agent("replay and cloning", True, 0))
    train_continual(agent, goal_models(True), stages, **(FEW | extra))
    return agent


def tasks(batch) -> list[int]:
    """The goal that every row shows."""
    return batch.observation[:, 2:].argmax(dim=1).tolist()


def test_half_of_a_batch_is_replayed_from_earlier_stages_alone():
    agent = witnessed([[0], [1], [2]], memory=10)
    first, second, third = agent.batches[:4], agent.batches[4:8], agent.batches[8:]
    assert all(set(tasks(batch)) == {0} and not batch.value_target.any() for batch in first)
    for batch in second:
        assert batch.value_target.tolist() == [0.0] * 4 + [1.0] * 4
        assert tasks(batch) == [1] * 4 + [0] * 4
    assert {task for batch in third for task in tasks(batch)[4:]} <= {0, 1}
    assert {task for batch in third for task in tasks(batch)[:4]} == {2}
    assert [set(tasks(batch)) for batch in agent.ended] == [{0}, {1}, {2}], "a task's importance is of its own data"


def test_without_a_memory_nothing_is_replayed_and_all_goals_together_are_seen_together():
    agent = witnessed([[0], [1]])
    assert all(set(tasks(batch)) == {1} for batch in agent.batches[4:])
    agent = witnessed([[0, 1, 2, 3]])
    assert {task for batch in agent.batches for task in tasks(batch)} == {0, 1, 2, 3}


def test_episodes_are_cut_at_the_limit_and_shown_before_the_reset():
    agent = witnessed([[0]], steps=80, batch_size=64)
    last = agent.batches[-1]
    assert last.truncated.any()
    assert not (last.truncated & last.terminated).any()
    moved = (last.next_observation[:, :2] - last.observation[:, :2]).abs().sum(dim=1)
    assert (moved[~last.terminated] <= 0.5 + 1e-6).all(), "a step leads to a neighbour, never back to the start"


def test_runs_repeat():
    def weights(seed):
        agent = continual_agent("replay", True, 0)
        train_continual(agent, goal_models(True), [[0], [1]], memory=10, seed=seed, **FEW)
        return torch.cat([parameter.flatten() for parameter in agent.q_network.parameters()]).detach().numpy()

    np.testing.assert_array_equal(weights(1), weights(1))
    assert not np.array_equal(weights(1), weights(2))


@pytest.mark.parametrize(
    "extra, stages, message",
    [
        ({"steps": 10}, [[0]], "steps must be a positive multiple of num_envs=4, got 10"),
        ({"evaluate_every": 3}, [[0]], "evaluate_every must be a positive multiple"),
        ({}, [[4]], "a stage must name some of 4 tasks"),
        ({}, [[0, 1, 2]], "a multiple of their number"),
        ({}, [[]], "a stage must name some"),
        ({"memory": -1}, [[0]], "memory must be at least 0"),
        ({"share": 1.0}, [[0]], r"share in \[0, 1\), got 0 and 1.0"),
    ],
)
def test_bad_input_is_named(extra, stages, message):
    with pytest.raises(ValueError, match=message):
        witnessed(stages, **extra)
