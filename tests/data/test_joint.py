"""Joint transitions and the two replays: shapes, padding, rings, and what they refuse."""

import dataclasses

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

from ca14lib.data import EpisodeReplay, JointReplay, JointTransitions

OBSERVATION = gym.spaces.Box(-np.inf, np.inf, (2, 3), np.float32)
ACTION = gym.spaces.MultiDiscrete([4, 4])
STATE = gym.spaces.Box(-np.inf, np.inf, (5,), np.float32)


def joint(steps: int = 3, copies: int = 4, **changes: Tensor) -> JointTransitions:
    lead = (steps, copies)
    values = {
        "observation": torch.randn(*lead, 2, 3), "state": torch.randn(*lead, 5), "action": torch.zeros(*lead, 2).long(),
        "reward": torch.arange(steps * copies * 2.0).reshape(*lead, 2), "next_observation": torch.randn(*lead, 2, 3),
        "next_state": torch.randn(*lead, 5), "terminated": torch.zeros(lead, dtype=torch.bool),
        "truncated": torch.zeros(lead, dtype=torch.bool),
    }  # fmt: skip
    return JointTransitions(**(values | changes))


def numbered(number: float, copies: int = 2, terminated: bool = False, truncated: bool = False) -> dict:
    return {
        "observation": np.full((copies, 2, 3), number, np.float32), "state": np.full((copies, 5), number, np.float32),
        "action": np.full((copies, 2), int(number) % 4), "reward": np.full((copies, 2), number),
        "next_observation": np.full((copies, 2, 3), number + 1, np.float32),
        "next_state": np.full((copies, 5), number + 1, np.float32), "terminated": np.full(copies, terminated),
        "truncated": np.full(copies, truncated),
    }  # fmt: skip


def test_team_reward_is_the_sum_over_agents():
    batch = joint()
    assert torch.equal(batch.team_reward(), batch.reward[..., 0] + batch.reward[..., 1])


def test_starts_are_the_rows_after_an_end_and_paths_stop_at_ends_and_at_the_last_row():
    ended = torch.zeros(3, 4, dtype=torch.bool)
    ended[0, 1] = True
    batch = joint(terminated=ended)
    assert batch.starts().nonzero().tolist() == [[1, 1]]
    assert batch.last_of_path().sum(dim=0).tolist() == [1, 2, 1, 1]
    assert not batch.terminated[2].any(), "the batch itself must not change"


def test_counts_leave_out_padding_and_agents_that_do_not_learn():
    filled = torch.ones(3, 4, dtype=torch.bool)
    filled[2] = False
    learns = torch.ones(3, 4, 2, dtype=torch.bool)
    learns[..., 1] = False
    counts = joint(filled=filled, learns=learns).counts()
    assert counts.sum() == 2 * 4
    assert not counts[2].any()
    assert not counts[..., 1].any()


def test_chosen_copies_keep_their_memory_and_steps():
    batch = joint(memory=torch.randn(4, 2, 6))
    some = batch.copies(torch.tensor([2, 0]))
    assert torch.equal(some.memory, batch.memory[[2, 0]])
    assert torch.equal(some.reward, batch.reward[:, [2, 0]])
    assert some.to("cpu").num_agents == 2


@pytest.mark.parametrize("name", ["state", "reward", "terminated", "memory"])
def test_shapes_that_disagree_are_refused_by_name(name):
    wrong = torch.zeros(7, 7) if name != "reward" else torch.zeros(3, 4)
    with pytest.raises(ValueError, match=name):
        joint(**{name: wrong})


def test_joint_replay_overwrites_the_oldest_and_draws_what_it_holds():
    replay = JointReplay(OBSERVATION, ACTION, STATE, 7, num_envs=2)  # three rows
    for number in range(5):
        replay.add(**numbered(number))
    assert len(replay) == 6
    batch = replay.sample(200, torch.Generator().manual_seed(0))
    assert batch.reward.shape == (1, 200, 2)
    assert set(batch.reward.unique().tolist()) == {2.0, 3.0, 4.0}
    assert torch.equal(batch.next_state[..., 0], batch.reward[..., 0] + 1)
    assert batch.learns.all()


def test_joint_replay_marks_the_newest_step_as_cut():
    replay = JointReplay(OBSERVATION, ACTION, STATE, 8, num_envs=2)
    replay.add(**numbered(0))
    replay.add(**numbered(1, terminated=True))
    replay.end_episodes()
    assert not replay.columns["truncated"][:2].any(), "what ended truly was not cut"
    replay.add(**numbered(2))
    replay.end_episodes()
    assert replay.columns["truncated"][2].all()


def test_episode_replay_holds_whole_episodes_with_their_padding():
    replay = EpisodeReplay(OBSERVATION, ACTION, STATE, 10, 4, num_envs=2)
    replay.add(**numbered(0))
    first = numbered(1)
    first["terminated"] = np.array([True, False])
    replay.add(**first)
    assert len(replay) == 1
    replay.add(**numbered(2))
    replay.add(**numbered(3, truncated=True))
    assert len(replay) == 3
    assert replay.lengths[:3].tolist() == [2, 2, 4]
    batch = replay.sample(3, torch.Generator().manual_seed(0))
    assert batch.filled.sum(dim=0).sort().values.tolist() == [2, 2, 4]
    rewards = [batch.reward[: int(n), copy, 0].tolist() for copy, n in enumerate(batch.filled.sum(dim=0))]
    assert sorted(rewards) == [[0.0, 1.0], [0.0, 1.0, 2.0, 3.0], [2.0, 3.0]]
    ends = (batch.terminated | batch.truncated) & batch.filled
    assert (ends.sum(dim=0) == 1).all(), "every episode ends once, in its last row"


def test_episode_replay_draws_no_episode_twice_and_refuses_to_draw_too_many():
    replay = EpisodeReplay(OBSERVATION, ACTION, STATE, 4, 2, num_envs=2)
    for number in range(3):
        replay.add(**numbered(number, terminated=True))
    batch = replay.sample(4, torch.Generator().manual_seed(1))
    assert sorted(batch.reward[0, :, 0].tolist()) == [1.0, 1.0, 2.0, 2.0]
    with pytest.raises(ValueError, match="holds 4 episodes"):
        replay.sample(5, torch.Generator())


def test_unfinished_episodes_can_be_dropped():
    replay = EpisodeReplay(OBSERVATION, ACTION, STATE, 4, 3, num_envs=2)
    replay.add(**numbered(7))
    replay.drop_unfinished()
    replay.add(**numbered(8, terminated=True))
    batch = replay.sample(2, torch.Generator())
    assert batch.reward.unique().tolist() == [8.0]


def test_masks_and_learners_are_kept_where_they_are_asked_for():
    replay = JointReplay(OBSERVATION, ACTION, STATE, 4, num_envs=2, masks=True)
    mask = np.zeros((2, 2, 4), dtype=bool)
    mask[..., 1] = True
    with pytest.raises(ValueError, match="action_mask"):
        replay.add(**numbered(0))
    learns = np.array([[True, False], [True, False]])
    replay.add(**numbered(0), action_mask=mask, next_action_mask=~mask, learns=learns)
    batch = replay.sample(8, torch.Generator())
    assert batch.action_mask[..., 1].all()
    assert not batch.next_action_mask[..., 1].any()
    assert not batch.learns[..., 1].any()


def test_steps_that_do_not_fit_are_refused_and_leave_the_replay_as_it_was():
    replay = JointReplay(OBSERVATION, ACTION, STATE, 4, num_envs=2)
    with pytest.raises(ValueError, match="reward"):
        replay.add(**(numbered(0) | {"reward": np.zeros(2)}))
    assert len(replay) == 0
    with pytest.raises(ValueError, match="empty"):
        replay.sample(1, torch.Generator())
    with pytest.raises(ValueError, match="capacity"):
        JointReplay(OBSERVATION, ACTION, STATE, 1, num_envs=2)
    episodes = EpisodeReplay(OBSERVATION, ACTION, STATE, 4, 1, num_envs=2)
    episodes.add(**numbered(0))
    with pytest.raises(ValueError, match="more steps"):
        episodes.add(**numbered(1))
    with pytest.raises(ValueError, match="length"):
        EpisodeReplay(OBSERVATION, ACTION, STATE, 4, 0)


def test_batches_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        joint().reward = torch.zeros(1)
