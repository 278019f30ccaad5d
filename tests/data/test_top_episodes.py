"""%BC's data and relabelled data: the best episodes whole and in order, labels beside rows that are not copied."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ca14lib.data import OfflineDataset
from ca14lib.training import collect


def episodes_with_returns(returns: list[float], length: int = 2) -> OfflineDataset:
    """Episodes of equal length that pay everything at their end; the observation is the episode's number."""
    number, size = len(returns), length * len(returns)
    observation = np.repeat(np.arange(number), length)
    last = np.arange(size) % length == length - 1
    reward = np.zeros(size)
    reward[last] = returns
    return OfflineDataset(
        observation, np.zeros(size, int), reward, observation, last, np.zeros(size, bool),
        observation_space=gym.spaces.Discrete(number), action_space=gym.spaces.Discrete(2), policy="demo",
    )  # fmt: skip


def kept(data: OfflineDataset) -> list[int]:
    starts = [episode.start for episode in data.episode_slices]
    return data.transitions.observation[starts].tolist()


def test_the_episodes_of_highest_return_are_kept_in_their_order():
    data = episodes_with_returns([1.0, 5.0, -2.0, 4.0, 3.0])
    assert kept(data.top_episodes(0.4)) == [1, 3]
    assert kept(data.top_episodes(0.6)) == [1, 3, 4]
    assert kept(data.top_episodes(1.0)) == [0, 1, 2, 3, 4]
    assert len(data.top_episodes(0.4)) == 4
    assert data.top_episodes(0.4).policy == "demo"


def test_among_equal_returns_the_earlier_episodes_are_kept():
    assert kept(episodes_with_returns([1.0, 1.0, 0.0, 1.0, 1.0]).top_episodes(0.6)) == [0, 1, 3]


def test_at_least_one_episode_is_kept():
    assert kept(episodes_with_returns([1.0, 2.0, 0.0]).top_episodes(1e-6)) == [1]


@given(st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=20), st.floats(0.01, 1.0))
def test_no_episode_left_out_is_better_than_one_kept(returns, fraction):
    data = episodes_with_returns(returns)
    top = kept(data.top_episodes(fraction))
    assert len(top) == max(round(fraction * len(returns)), 1)
    left_out = sorted(set(range(len(returns))) - set(top))
    returns = data.episode_returns()
    assert not left_out or returns[top].min() >= returns[left_out].max()


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.1, float("nan")])
def test_a_fraction_out_of_range_is_named(fraction):
    with pytest.raises(ValueError, match=rf"fraction must lie in \(0, 1\], got {fraction}"):
        episodes_with_returns([1.0, 2.0]).top_episodes(fraction)


def test_the_best_tenth_of_the_mixed_data_is_the_experts():
    data = collect("CA14/GridWorld-v0", "mixed", 300, seed=0)
    assert data.top_episodes(0.1).quality()["return_mean"] == pytest.approx(0.3, abs=1e-6)


def test_batches_of_relabelled_data_carry_the_labels_and_are_the_same_draw():
    data = episodes_with_returns([1.0, 2.0, 3.0])
    labels = torch.arange(6) / 10
    labelled = data.relabelled(labels)
    first, second = (d.sample(50, torch.Generator().manual_seed(0)) for d in (data, labelled))
    assert first.value_target is None
    assert torch.equal(first.observation, second.observation)
    assert (second.value_target * 10 // 2).long().equal(second.observation)
    assert labelled.transitions.reward is data.transitions.reward, "nothing is copied"


def test_labels_of_another_length_are_refused():
    with pytest.raises(ValueError, match=r"value_target must have 6 rows like reward, got shape \(5,\)"):
        episodes_with_returns([1.0, 2.0, 3.0]).relabelled(torch.zeros(5))


def test_labels_do_not_outlive_a_choice_of_episodes():
    labelled = episodes_with_returns([1.0, 2.0, 3.0]).relabelled(torch.zeros(6))
    assert labelled.episodes([0]).transitions.value_target is None
    assert labelled.to("cpu").transitions.value_target is None
