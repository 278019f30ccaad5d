"""The replay buffer: a ring of steps, uniform draws, and whole episodes out of it."""

import gymnasium as gym
import numpy as np
import pytest
import torch

from ca14lib.data import ReplayBuffer

OBSERVATIONS, ACTIONS = gym.spaces.Box(-1e4, 1e4, (2,), np.float32), gym.spaces.Box(-1e4, 1e4, (1,), np.float32)


def filled(steps, capacity, num_envs=1, length=4, start=0):
    """Copy i's k-th step goes from (i, k) to (i, k + 1); episodes have ``length`` steps and ends of both kinds."""
    buffer = ReplayBuffer(OBSERVATIONS, ACTIONS, capacity, num_envs=num_envs)
    copy = np.arange(num_envs)
    for k in range(start, start + steps):
        last = np.full(num_envs, k % length == length - 1)
        cut = (k // length + copy) % 2 == 0
        buffer.add(
            observation=np.stack([copy, np.full(num_envs, k)], 1), action=np.full((num_envs, 1), k) + copy[:, None],
            reward=10 * copy + k, next_observation=np.stack([copy, np.full(num_envs, k + 1)], 1),
            terminated=last & ~cut, truncated=last & cut,
        )  # fmt: skip
    return buffer


@pytest.mark.parametrize("num_envs", [1, 3])
@pytest.mark.parametrize("steps", [1, 7, 10, 11, 25])
def test_the_newest_steps_are_held_and_drawn_evenly(steps, num_envs):
    buffer = filled(steps, 10 * num_envs, num_envs)
    held = min(steps, 10)
    assert len(buffer) == held * num_envs
    drawn = buffer.sample(4_000, torch.Generator().manual_seed(0))
    assert drawn.observation.dtype == torch.float32
    assert drawn.terminated.dtype == torch.bool
    assert drawn.cost.shape == (4_000, 0)
    copy, k = drawn.observation.T
    for found, expected in (
        (drawn.next_observation, torch.stack([copy, k + 1], 1)), (drawn.reward, 10 * copy + k),
        (drawn.action, (copy + k)[:, None]), (drawn.terminated | drawn.truncated, k % 4 == 3),
        (drawn.truncated, (k % 4 == 3) & ((k // 4 + copy) % 2 == 0)),
    ):  # fmt: skip
        assert torch.equal(found, expected), "the columns of a drawn row belong to one step"
    assert set(k.int().tolist()) == set(range(steps - held, steps)), "every step held is drawn, no other is"
    counts = np.bincount(((k - (steps - held)) * num_envs + copy).int().numpy(), minlength=held * num_envs)
    share = 1 / (held * num_envs)
    assert abs(counts / 4_000 - share).max() <= 6 * np.sqrt(share * (1 - share) / 4_000)


def test_draws_repeat_by_seed_and_are_copies():
    buffer = filled(9, 10)
    first, second = (buffer.sample(5, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first.observation, second.observation)
    first.reward.fill_(99.0)
    assert torch.equal(buffer.sample(5, torch.Generator().manual_seed(3)).reward, second.reward)


def test_what_is_added_is_copied():
    buffer, reward = filled(0, 10), np.array([1.0])
    step = {"observation": np.zeros((1, 2)), "action": np.zeros((1, 1)), "next_observation": np.zeros((1, 2))}
    buffer.add(**step, reward=reward, terminated=[False], truncated=[False])
    reward[0] = 5.0
    assert buffer.sample(1, torch.Generator()).reward.item() == 1.0


@pytest.mark.parametrize("num_envs", [1, 3])
@pytest.mark.parametrize("steps", [4, 7, 10, 13, 21, 26])
def test_only_whole_episodes_reach_the_dataset_in_order(steps, num_envs):
    data = filled(steps, 10 * num_envs, num_envs).dataset(policy="SAC", seed=7)
    copy, k = data.transitions.observation.numpy().astype(int).T
    assert (data.policy, data.seed) == ("SAC", 7)
    held = range(max(0, steps - 10), steps)
    whole = [e for e in range(steps // 4) if set(range(4 * e, 4 * e + 4)) <= set(held)]
    assert set(data.episode_lengths()) == {4}
    for i in range(num_envs):
        episodes = k[copy == i].reshape(-1, 4)
        assert (np.diff(k[copy == i]) == 1).all(), "oldest first, without a gap"
        found = (episodes[:, 0] // 4).tolist()
        # of a full ring the oldest episode may be left out even where its first step is still held
        assert found in (whole, whole[1:])
        assert found == whole or steps > 10
    assert (np.diff(copy) >= 0).all(), "copy after copy"
    ends = data.transitions.truncated.numpy()[k % 4 == 3]
    assert (ends == ((k // 4 + copy) % 2 == 0)[k % 4 == 3]).all(), "the two kinds of end are kept apart"


def test_end_episodes_cuts_the_newest_step_unless_it_is_a_true_end():
    buffer = filled(6, 20, 2)
    buffer.end_episodes()
    data = buffer.dataset()
    assert data.episode_lengths().tolist() == [4, 2, 4, 2]
    assert data.transitions.truncated[[5, 11]].all()
    ended = filled(4, 20, 2)
    before = {name: column.clone() for name, column in ended.columns.items()}
    ended.end_episodes()
    assert all(torch.equal(column, before[name]) for name, column in ended.columns.items())
    filled(0, 10).end_episodes()


def test_discrete_spaces_keep_integers():
    buffer = ReplayBuffer(gym.spaces.Discrete(9), gym.spaces.Discrete(4), 5)
    buffer.add(observation=[8], action=[3], reward=[1.0], next_observation=[0], terminated=[True], truncated=[False])
    drawn = buffer.sample(2, torch.Generator())
    assert drawn.observation.dtype == drawn.action.dtype == torch.int64
    assert drawn.observation.tolist() == [8, 8]
    assert buffer.dataset().transitions.action.tolist() == [3]


def test_bad_input_is_refused():
    for capacity, num_envs in ((0, 1), (2, 3), (5, 0)):
        with pytest.raises(ValueError, match="capacity"):
            ReplayBuffer(OBSERVATIONS, ACTIONS, capacity, num_envs=num_envs)
    with pytest.raises(ValueError, match="empty"):
        filled(0, 10).sample(1, torch.Generator())
    with pytest.raises(ValueError, match="no whole episode"):
        filled(3, 10).dataset()
    with pytest.raises(ValueError, match="no whole episode"):
        filled(0, 10).dataset()


@pytest.mark.parametrize(
    "change", [{"reward": [1.0]}, {"action": [[1.0]]}, {"observation": [[0.0, 0.0]]}, {"terminated": True}]
)
def test_a_step_of_another_number_of_environments_is_refused(change):
    """One value for all would otherwise be spread over them silently."""
    step = {
        "observation": np.zeros((3, 2)), "action": np.zeros((3, 1)), "reward": np.zeros(3),
        "next_observation": np.zeros((3, 2)), "terminated": np.zeros(3, bool), "truncated": np.zeros(3, bool),
    }  # fmt: skip
    with pytest.raises(ValueError, match=next(iter(change))):
        filled(0, 9, 3).add(**(step | change))
