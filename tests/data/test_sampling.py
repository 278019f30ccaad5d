"""Batches are uniform draws, reproducible, and the only thing that is copied."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from scipy import stats
from torch.utils._python_dispatch import TorchDispatchMode

from ca14lib.data import OfflineDataset, Transitions
from ca14lib.training import collect

FIELDS = ("observation", "action", "reward", "next_observation", "terminated", "truncated", "cost")


def numbered(size: int, **keywords: object) -> OfflineDataset:
    """Transitions that carry their own number in every column."""
    number = np.arange(size, dtype=np.float32)
    return OfflineDataset(
        np.column_stack([number, -number]),
        np.arange(size) % 7,
        number,
        np.column_stack([number + 0.5, -number]),
        np.ones(size, bool),
        np.zeros(size, bool),
        observation_space=gym.spaces.Box(-np.inf, np.inf, (2,), np.float32),
        action_space=gym.spaces.Discrete(7),
        cost=np.column_stack([number, number**2]),
        behaviour_log_prob=-number,
        **keywords,
    )


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class LargestAllocation(TorchDispatchMode):
    """Records the number of elements of the largest tensor that any operation makes."""

    largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.largest = max(self.largest, result.untyped_storage().nbytes() // result.element_size())
        return result


def test_batch_rows_are_whole_transitions():
    batch = numbered(1_000).sample(64, generator())
    assert len(batch) == 64
    number = batch.reward
    torch.testing.assert_close(batch.observation, torch.stack([number, -number], dim=1))
    torch.testing.assert_close(batch.next_observation, torch.stack([number + 0.5, -number], dim=1))
    torch.testing.assert_close(batch.action, number.long() % 7)
    torch.testing.assert_close(batch.cost, torch.stack([number, number**2], dim=1))
    torch.testing.assert_close(batch.behaviour_log_prob, -number)


def test_every_transition_is_drawn_equally_often():
    data, rng = numbered(50), generator()
    drawn = torch.cat([data.sample(1_000, rng).reward for _ in range(100)]).long().numpy()
    count = np.bincount(drawn, minlength=50)
    assert len(count) == 50
    assert stats.chisquare(count).pvalue > 1e-6


def test_draws_are_independent_with_replacement():
    """In batches of 2 from 10, a pair is equal in a tenth of the cases; without replacement it never is."""
    data, rng = numbered(10), generator()
    equal = sum(bool(batch.reward[0] == batch.reward[1]) for batch in (data.sample(2, rng) for _ in range(2_000)))
    assert stats.binomtest(equal, 2_000, 0.1).pvalue > 1e-6


def test_batch_may_be_larger_than_the_data():
    assert len(numbered(3).sample(100, generator())) == 100


def test_same_generator_state_gives_the_same_batch_and_moves_on():
    data, rng = numbered(10_000), generator(5)
    first, second = data.sample(32, rng), data.sample(32, rng)
    again = data.sample(32, generator(5))
    for name in FIELDS:
        torch.testing.assert_close(getattr(first, name), getattr(again, name), rtol=0, atol=0)
    assert (first.reward != second.reward).any()


def test_global_generator_plays_no_part():
    data = numbered(10_000)
    torch.manual_seed(0)
    first = data.sample(32, generator(5)).reward
    torch.manual_seed(1)
    before = torch.get_rng_state()
    torch.testing.assert_close(first, data.sample(32, generator(5)).reward)
    torch.testing.assert_close(before, torch.get_rng_state())


def test_sampling_allocates_no_more_than_the_batch():
    data, rng = numbered(100_000), generator()
    pointers = {name: getattr(data.transitions, name).data_ptr() for name in FIELDS}
    with LargestAllocation() as memory:
        for _ in range(5):
            data.sample(16, rng)
    assert 0 < memory.largest <= 16 * 2
    assert pointers == {name: getattr(data.transitions, name).data_ptr() for name in FIELDS}


def test_the_allocation_check_notices_a_copied_column():
    data = numbered(100_000)
    with LargestAllocation() as memory:
        (data.transitions.reward + 0)[:16]
    assert memory.largest == 100_000


def test_writing_into_a_batch_leaves_the_data_alone():
    data = numbered(20)
    before = data.transitions.observation.clone()
    data.sample(20, generator()).observation.zero_()
    torch.testing.assert_close(data.transitions.observation, before)


def test_batch_and_data_live_on_the_datasets_device():
    data = numbered(20, device="cpu")
    assert data.device == torch.device("cpu")
    assert data.sample(4, generator()).observation.device == data.device
    moved = data.to("cpu")
    assert moved.device == torch.device("cpu")
    assert (len(moved), moved.action_space) == (20, data.action_space)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_data_on_a_graphics_card_are_sampled_there():
    data = numbered(1_000, device="cuda")
    batch = data.sample(8, torch.Generator("cuda").manual_seed(0))
    assert all(getattr(batch, name).is_cuda for name in FIELDS)
    assert data.episode_returns().shape == (1_000,)
    assert not data.to("cpu").transitions.reward.is_cuda


@pytest.mark.parametrize("size", [0, -5])
def test_batch_size_below_one_is_named(size):
    with pytest.raises(ValueError, match=f"batch_size must be at least 1, got {size}"):
        numbered(5).sample(size, generator())


def test_rows_keep_what_is_absent_absent_and_take_masks_along():
    rows = collect("CA14/GridWorld-v0", "expert", 1, seed=0).transitions
    mask = torch.eye(8, dtype=torch.bool)
    masked = Transitions(*(getattr(rows, name) for name in (*FIELDS[:3], "cost", *FIELDS[3:6])), action_mask=mask)
    taken = masked.rows(torch.tensor([6, 2]))
    assert taken.behaviour_log_prob is None
    assert taken.next_action_mask is None
    torch.testing.assert_close(taken.action_mask, mask[[6, 2]])
    torch.testing.assert_close(taken.observation, rows.observation[[6, 2]])
