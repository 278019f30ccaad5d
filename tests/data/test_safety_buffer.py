"""The safety buffer: unsafe transitions are not forgotten, and weights undo what the stratified draw did."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ca14lib.data import safety_buffer
from ca14lib.data.safety_buffer import SafetyBuffer

OBSERVATIONS, ACTIONS = gym.spaces.Box(-1e6, 1e6, (1,), np.float32), gym.spaces.Discrete(3)


def steps(first: int, count: int, cost: np.ndarray) -> dict[str, np.ndarray]:
    """Steps numbered from ``first``, with the number in every column."""
    k = np.arange(first, first + count)
    return {
        "observation": k[:, None], "action": k % 3, "reward": k, "next_observation": k[:, None] + 1,
        "terminated": k % 5 == 0, "truncated": k % 7 == 0, "cost": cost,
    }  # fmt: skip


def filled(sizes: list[int], unsafe: np.ndarray, **keywords: object) -> SafetyBuffer:
    """Batches of the given sizes; ``unsafe`` ``[Σ sizes]`` says which steps cost 1, the others cost 0.1."""
    buffer = SafetyBuffer(OBSERVATIONS, ACTIONS, threshold=0.5, **keywords)
    first = 0
    for size in sizes:
        buffer.add(**steps(first, size, np.where(unsafe[first : first + size], 1.0, 0.1)))
        first += size
    return buffer


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Properties, and faults that each must notice


def the_newest_of_each_kind_are_held() -> None:
    rng = np.random.default_rng(0)
    for capacity in (1, 3, 10, 100):
        sizes = rng.integers(0, 9, size=20).tolist()
        unsafe = rng.random(sum(sizes)) < 0.2
        buffer = filled(sizes, unsafe, capacity=capacity, safe_capacity=2 * capacity)
        assert (buffer.seen_unsafe, buffer.seen_safe) == (unsafe.sum(), (~unsafe).sum())
        for kind, room in ((True, capacity), (False, 2 * capacity)):
            held = buffer.held(unsafe=kind)
            newest = np.flatnonzero(unsafe == kind)[-room:]
            assert held.reward.tolist() == newest.tolist()
            assert held.observation.flatten().tolist() == newest.tolist()
            assert held.action.tolist() == (newest % 3).tolist()
            assert held.terminated.tolist() == (newest % 5 == 0).tolist()
            assert held.truncated.tolist() == (newest % 7 == 0).tolist()
        assert len(buffer) == len(buffer.held(unsafe=True)) + len(buffer.held(unsafe=False))


def rare_unsafe_steps_survive_many_safe_ones() -> None:
    unsafe = np.arange(20_000) < 3
    buffer = filled([20_000], unsafe, capacity=10)
    assert buffer.held(unsafe=True).reward.tolist() == [0, 1, 2]
    batch = buffer.sample(8, generator(), unsafe_share=0.25)
    assert batch.unsafe.sum() == 2
    assert set(batch.transitions.reward[batch.unsafe].tolist()) <= {0, 1, 2}


def weights_restore_the_shares_of_all_that_was_seen() -> None:
    """Exactly: what the weights of a kind add up to is its share, whatever was drawn and whatever was overwritten."""
    rng = np.random.default_rng(1)
    for share in (0.1, 0.5, 0.9):
        for size in (2, 7, 64):
            unsafe = rng.random(300) < 0.2
            buffer = filled([300], unsafe, capacity=20, safe_capacity=150)
            batch = buffer.sample(size, generator(), unsafe_share=share)
            drawn = batch.unsafe.numpy()
            assert drawn.sum() == min(max(round(share * size), 1), size - 1)
            weight = batch.weight.numpy() / size
            assert weight[drawn].sum() == pytest.approx(unsafe.mean(), rel=1e-5)
            assert weight[~drawn].sum() == pytest.approx(1 - unsafe.mean(), rel=1e-5)
            np.testing.assert_array_equal(batch.transitions.cost[:, 0] > 0.5, drawn)


def a_weighted_mean_is_the_mean_of_the_history() -> None:
    unsafe = np.arange(40) >= 32
    buffer = filled([40], unsafe, capacity=40)
    estimates = []
    for seed in range(400):
        batch = buffer.sample(10, generator(seed), unsafe_share=0.6)
        estimates.append(float((batch.weight * batch.transitions.reward).mean()))
    error = np.std(estimates) / np.sqrt(len(estimates))
    assert abs(np.mean(estimates) - 19.5) < 5 * error
    assert error < 0.5


PROPERTIES = [
    the_newest_of_each_kind_are_held,
    rare_unsafe_steps_survive_many_safe_ones,
    weights_restore_the_shares_of_all_that_was_seen,
    a_weighted_mean_is_the_mean_of_the_history,
]


@pytest.mark.parametrize("holds", PROPERTIES, ids=lambda holds: holds.__name__)
def test_property(holds):
    holds()


def no_weights(patch):
    patch.setattr(safety_buffer, "stratum_weights", lambda *_: (1.0, 1.0))


def weights_inverted(patch):
    healthy = safety_buffer.stratum_weights
    patch.setattr(safety_buffer, "stratum_weights", lambda *a: tuple(1 / w if w else w for w in healthy(*a)))


def weights_by_what_is_held(patch):
    healthy = safety_buffer.stratum_weights
    patch.setattr(safety_buffer, "stratum_weights", lambda n, b, u, s: healthy(n, b, min(u, 20), min(s, 150)))


def weights_by_the_share_asked_for(patch):
    """The share before rounding: a batch of 7 cannot be half unsafe."""
    patch.setattr(safety_buffer, "stratum_weights", lambda n, b, u, s: (2 * u / (u + s), 2 * s / (u + s)))


def one_ring_for_both(patch):
    healthy = safety_buffer._Ring.add

    def add(self, rows):
        healthy(self, rows)
        if not hasattr(self, "other"):
            return
        self.other.added += len(rows["reward"])

    patch.setattr(safety_buffer._Ring, "add", add)
    made = SafetyBuffer.__init__

    def init(self, *arguments, **keywords):
        made(self, *arguments, **keywords)
        self._rings[False].other = self._rings[True]

    patch.setattr(SafetyBuffer, "__init__", init)


def the_oldest_are_kept(patch):
    healthy = safety_buffer._Ring.add

    def add(self, rows):
        room = self.capacity - len(self)
        seen = self.added + len(rows["reward"])
        healthy(self, {name: column[:room] for name, column in rows.items()})
        self.added = seen

    patch.setattr(safety_buffer._Ring, "add", add)


FAULTS = [
    (no_weights, weights_restore_the_shares_of_all_that_was_seen),
    (no_weights, a_weighted_mean_is_the_mean_of_the_history),
    (weights_inverted, weights_restore_the_shares_of_all_that_was_seen),
    (weights_inverted, a_weighted_mean_is_the_mean_of_the_history),
    (weights_by_what_is_held, weights_restore_the_shares_of_all_that_was_seen),
    (weights_by_the_share_asked_for, weights_restore_the_shares_of_all_that_was_seen),
    (one_ring_for_both, rare_unsafe_steps_survive_many_safe_ones),
    (the_oldest_are_kept, the_newest_of_each_kind_are_held),
]


@pytest.mark.parametrize("plant, holds", FAULTS, ids=lambda function: function.__name__)
def test_planted_fault_is_caught(plant, holds, monkeypatch):
    holds()
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        holds()


# More


@given(kind=st.booleans(), size=st.integers(2, 9))
def test_a_batch_of_the_only_kind_seen_has_weight_one(kind, size):
    batch = filled([5], np.full(5, kind)).sample(size, generator())
    assert (batch.unsafe == kind).all()
    assert (batch.weight == 1).all()
    assert len(batch) == len(batch.transitions) == size


def test_one_cost_above_its_own_threshold_is_enough():
    buffer = SafetyBuffer(OBSERVATIONS, ACTIONS, 2, threshold=[0.5, 2.0])
    buffer.add(**steps(0, 4, np.array([[0.5, 2.0], [0.6, 0.0], [0.0, 2.1], [0.0, 1.0]])))
    assert buffer.held(unsafe=True).reward.tolist() == [1, 2]
    assert buffer.held(unsafe=False).cost.shape == (2, 2)


def test_draws_repeat_by_seed_and_are_copies():
    buffer = filled([20], np.arange(20) % 4 == 0)
    first, second = (buffer.sample(6, generator(3)).transitions for _ in range(2))
    assert torch.equal(first.reward, second.reward)
    first.reward.fill_(-1.0)
    assert torch.equal(buffer.sample(6, generator(3)).transitions.reward, second.reward)


def test_a_refused_step_leaves_the_buffer_as_it_was():
    buffer = filled([6], np.arange(6) == 2)
    good = steps(6, 3, np.zeros(3))
    for change, message in (
        ({"cost": np.array([0.0, np.nan, 0.0])}, "cost must be finite"),
        ({"cost": np.array([0.0, 0.0, -1.0])}, "not negative"),
        ({"cost": np.zeros((3, 2))}, "cost must have shape"),
        ({"reward": np.zeros(2)}, "must have shape"),
        ({"observation": np.zeros((3, 2))}, "observation"),
        ({"terminated": True}, "terminated"),
        ({"surprise": np.zeros(3)}, "surprise"),
    ):
        with pytest.raises(ValueError, match=message):
            buffer.add(**(good | change))
    with pytest.raises(ValueError, match="cost"):
        buffer.add(**{name: value for name, value in good.items() if name != "cost"})
    assert (buffer.seen_safe, buffer.seen_unsafe) == (5, 1)
    assert buffer.held(unsafe=False).reward.tolist() == [0, 1, 3, 4, 5]


def test_bad_arguments_are_refused():
    for keywords, message in (
        ({"capacity": 0}, "capacity"), ({"safe_capacity": 0}, "safe_capacity"), ({"num_costs": 0}, "num_costs"),
        ({"threshold": -1.0}, "threshold"), ({"threshold": float("nan")}, "threshold"),
        ({"threshold": [1.0, 2.0]}, "threshold"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            SafetyBuffer(OBSERVATIONS, ACTIONS, **keywords)
    with pytest.raises(ValueError, match="Box or Discrete"):
        SafetyBuffer(gym.spaces.MultiBinary(3), ACTIONS)
    with pytest.raises(ValueError, match="empty"):
        filled([0], np.zeros(0, bool)).sample(4, generator())
    buffer = filled([4], np.arange(4) == 1)
    with pytest.raises(ValueError, match="batch_size"):
        buffer.sample(1, generator())
    for share in (0.0, 1.0, float("nan")):
        with pytest.raises(ValueError, match="unsafe_share"):
            buffer.sample(4, generator(), unsafe_share=share)
