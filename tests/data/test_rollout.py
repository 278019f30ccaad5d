"""Rollouts: shapes are checked, and where paths and first episodes end is what a walk along time finds."""

from dataclasses import fields, replace

import gymnasium as gym
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ca14lib.agents.check import random_rollout
from ca14lib.data import Rollout

SPACE = gym.spaces.Box(-1, 1, (2,))
seeds = st.integers(0, 999)


def rollout_of(seed: int = 0, steps: int = 6, copies: int = 3, costs: int = 2, masked: bool = True) -> Rollout:
    return random_rollout(SPACE, gym.spaces.Discrete(4), costs, steps, copies, seed, masked=masked)


@given(seed=seeds)
def test_a_path_ends_where_its_next_row_is_not_its_successor(seed):
    rollout = rollout_of(seed)
    last = rollout.last_of_path()
    for t in range(6):
        for n in range(3):
            ends = bool(rollout.terminated[t, n]) or bool(rollout.truncated[t, n]) or t == 5
            assert bool(last[t, n]) == ends
            if not ends:  # as made, whatever goes on is continued by the next row
                assert torch.equal(rollout.next_observation[t, n], rollout.observation[t + 1, n])


def test_asking_for_the_last_rows_leaves_the_ends_alone():
    rollout = replace(rollout_of(), truncated=torch.zeros(6, 3, dtype=torch.bool))
    before = rollout.terminated.clone()
    rollout.last_of_path()
    assert torch.equal(rollout.terminated, before)
    assert not rollout.truncated.any()


@given(seed=seeds)
def test_first_episodes_are_the_steps_up_to_the_first_end_of_each_copy(seed):
    rollout = rollout_of(seed)
    steps, ended = rollout.first_episodes()
    for n in range(3):
        ends = [t for t in range(6) if rollout.terminated[t, n] or rollout.truncated[t, n]]
        length = ends[0] + 1 if ends else 6
        assert steps[:, n].tolist() == [True] * length + [False] * (6 - length)
        assert bool(ended[n]) == bool(ends)


def test_an_episode_that_ends_with_the_first_or_the_last_row_is_whole():
    rollout = rollout_of()
    for end in (0, 5):
        terminated = torch.zeros(6, 3, dtype=torch.bool)
        terminated[end] = True
        one = replace(rollout, terminated=terminated, truncated=torch.zeros_like(terminated))
        steps, ended = one.first_episodes()
        assert ended.all()
        assert steps.sum(dim=0).tolist() == [end + 1] * 3


def test_rows_keep_the_order_of_time_and_then_of_copies():
    rollout = rollout_of()
    assert rollout.size == 18
    assert rollout.num_costs == 2
    flat = rollout.flat("observation")
    assert all(torch.equal(flat[3 * t + n], rollout.observation[t, n]) for t in range(6) for n in range(3))
    assert rollout.flat("action_mask").shape == (18, 4)


def test_the_mean_cost_is_over_completed_episodes_and_missing_without_any():
    rollout = rollout_of()
    costs = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    two = replace(rollout, episode_return=torch.zeros(2), episode_cost=costs, episode_length=torch.ones(2))
    assert two.mean_episode_cost().tolist() == [2.0, 4.0]
    none = replace(two, episode_return=torch.zeros(0), episode_cost=costs[:0], episode_length=torch.zeros(0))
    assert none.mean_episode_cost() is None


def test_moving_to_a_device_moves_every_column():
    rollout = rollout_of()
    moved = rollout.to("cpu")
    for item in fields(rollout):
        assert torch.equal(getattr(rollout, item.name), getattr(moved, item.name))
    assert rollout_of(masked=False).to("cpu").action_mask is None
    assert all(getattr(rollout.to("meta"), item.name).device.type == "meta" for item in fields(rollout))


@pytest.mark.parametrize(
    "name, value",
    [
        ("reward", torch.zeros(6)),
        ("reward", torch.zeros(6, 4)),
        ("observation", torch.zeros(5, 3, 2)),
        ("terminated", torch.zeros(6, 2, dtype=torch.bool)),
        ("action_mask", torch.ones(6, 4, 3, dtype=torch.bool)),
        ("cost", torch.zeros(6, 3)),
        ("cost", torch.zeros(6, 3, 1)),
        ("episode_cost", torch.zeros(50, 2)),
        ("episode_length", torch.zeros(50)),
    ],
)
def test_columns_that_do_not_fit_are_named(name, value):
    other = {"reward": "observation|log_prob|action|reward", "episode_cost": "episode_", "cost": "cost"}
    with pytest.raises(ValueError, match=other.get(name, name)) as caught:
        replace(rollout_of(), **{name: value})
    assert "shape" in str(caught.value) or "must be" in str(caught.value)
