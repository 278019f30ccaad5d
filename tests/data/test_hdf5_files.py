"""D4RL-style HDF5 files: episodes are rebuilt as they were, and what cannot be told is refused by name."""

import h5py
import numpy as np
import pytest
import torch

from ca14lib.data import OfflineDataset
from ca14lib.training import collect


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data.hdf5"


def write(path, **arrays):
    with h5py.File(path, "w") as file:
        for key, values in arrays.items():
            file[key.replace("__", "/")] = values
    return path


def small(**changes):
    """Three episodes: three steps to a true end, three cut, two that the file breaks off."""
    arrays = {
        "observations": np.arange(8, dtype=np.float64)[:, None] * np.array([1.0, -1.0]),
        "actions": np.linspace(-1, 1, 8, dtype=np.float32)[:, None],
        "rewards": np.arange(8, dtype=np.float32),
        "terminals": np.array([0, 0, 1, 0, 0, 0, 0, 0], bool),
        "timeouts": np.array([0, 0, 0, 0, 0, 1, 0, 0], bool),
    }
    return {key: values for key, values in (arrays | changes).items() if values is not None}


def test_without_successors_cut_episodes_lose_their_last_step(path):
    data = OfflineDataset.from_hdf5(write(path, **small()))
    rows = data.transitions
    assert rows.reward.tolist() == [0, 1, 2, 3, 4, 6]
    assert rows.terminated.tolist() == [False, False, True, False, False, False]
    assert rows.truncated.tolist() == [False, False, False, False, True, True]
    assert rows.observation[:, 0].tolist() == [0, 1, 2, 3, 4, 6]
    assert rows.next_observation[:, 0].tolist() == [1, 2, 2, 4, 5, 7]
    assert data.episode_lengths().tolist() == [3, 2, 1]
    assert (data.environment_id, data.policy, data.seed) == (None, None, None)
    assert rows.behaviour_log_prob is None


def test_with_successors_every_step_is_kept(path):
    following = small()["observations"] + np.array([1.0, -1.0])
    rows = OfflineDataset.from_hdf5(write(path, **small(next_observations=following))).transitions
    assert rows.reward.tolist() == list(range(8))
    assert rows.next_observation[:, 0].tolist() == list(range(1, 9))
    assert rows.terminated.tolist() == [False, False, True, False, False, False, False, False]
    assert rows.truncated.tolist() == [False, False, False, False, False, True, False, True]


def test_a_cut_episode_of_one_step_vanishes(path):
    timeouts = np.array([0, 0, 0, 1, 0, 0, 0, 1], bool)
    rows = OfflineDataset.from_hdf5(write(path, **small(timeouts=timeouts))).transitions
    assert rows.reward.tolist() == [0, 1, 2, 4, 5, 6]
    assert rows.truncated.tolist() == [False, False, False, False, False, True]
    assert rows.terminated.tolist() == [False, False, True, False, False, False]


def test_a_true_end_at_the_moment_of_the_cut_is_a_true_end(path):
    flags = np.array([0, 0, 0, 0, 0, 0, 0, 1], bool)
    rows = OfflineDataset.from_hdf5(write(path, **small(terminals=flags, timeouts=flags))).transitions
    assert len(rows) == 8
    assert rows.terminated.tolist() == flags.tolist()
    assert not rows.truncated.any()


def test_costs_log_probabilities_and_number_flags_are_read(path):
    arrays = small(
        costs=np.arange(8.0), infos__action_log_probs=-np.arange(8.0), infos__qpos=np.zeros((8, 5)),
        terminals=np.array([0, 0, 1, 0, 0, 0, 0, 1], np.uint8),
    )  # fmt: skip
    rows = OfflineDataset.from_hdf5(write(path, **arrays)).transitions
    assert rows.cost.tolist() == [[step] for step in (0, 1, 2, 3, 4, 6, 7)]
    assert rows.behaviour_log_prob.tolist() == [0, -1, -2, -3, -4, -6, -7]


@pytest.mark.parametrize("environment", ["Pendulum-v1", "Hopper-v5"])
def test_collected_data_come_back(path, environment):
    data = collect(environment, "random", 7, seed=0)
    rows = data.transitions
    arrays = {
        "observations": rows.observation, "actions": rows.action, "rewards": rows.reward,
        "terminals": rows.terminated, "timeouts": rows.truncated, "infos__action_log_probs": rows.behaviour_log_prob,
    }  # fmt: skip
    arrays = {key: values.numpy() for key, values in arrays.items()}
    back = OfflineDataset.from_hdf5(write(path, **arrays, next_observations=rows.next_observation.numpy()), environment)
    for name in (
        "observation",
        "action",
        "reward",
        "next_observation",
        "terminated",
        "truncated",
        "behaviour_log_prob",
    ):
        torch.testing.assert_close(getattr(back.transitions, name), getattr(rows, name), rtol=0, atol=0)
    assert (back.observation_space, back.action_space) == (data.observation_space, data.action_space)
    assert back.environment_id == environment
    # without successors: the same transitions, but for the last of the cut episodes and what follows true ends
    short = OfflineDataset.from_hdf5(write(path, **arrays), environment).transitions
    kept = ~rows.truncated
    torch.testing.assert_close(short.observation, rows.observation[kept], rtol=0, atol=0)
    alive = ~short.terminated
    torch.testing.assert_close(
        short.next_observation[alive], rows.next_observation[kept & ~rows.terminated], rtol=0, atol=0
    )
    assert short.truncated.sum() == rows.truncated.sum()


def test_discrete_actions_need_the_environment(path):
    data = collect("CartPole-v1", "random", 3, seed=0)
    rows = data.transitions
    write(
        path, observations=rows.observation.numpy(), actions=rows.action.numpy(), rewards=rows.reward.numpy(),
        terminals=rows.terminated.numpy(), timeouts=rows.truncated.numpy(),
    )  # fmt: skip
    assert OfflineDataset.from_hdf5(path, "CartPole-v1").transitions.action.tolist() == rows.action.tolist()
    with pytest.raises(ValueError, match=r"actions.*int64.*environment_id"):
        OfflineDataset.from_hdf5(path)


def test_a_file_without_timeouts_is_refused_with_what_to_do(path):
    with pytest.raises(ValueError, match=r"data.hdf5 has no 'timeouts'.*-v2.*boolean array 'timeouts'"):
        OfflineDataset.from_hdf5(write(path, **small(timeouts=None)))


@pytest.mark.parametrize("key", ["observations", "actions", "rewards", "terminals"])
def test_a_missing_key_is_named_with_those_there_are(path, key):
    with pytest.raises(ValueError, match=rf"has no '{key}'.*found.*timeouts"):
        OfflineDataset.from_hdf5(write(path, **small(**{key: None})))


@pytest.mark.parametrize(
    "changes, complaint",
    [
        ({"rewards": np.zeros((8, 1))}, r"'rewards' must have shape \(8,\), got \(8, 1\)"),
        ({"rewards": np.float64(3)}, "'rewards' must be an array of numbers"),
        ({"rewards": np.array([b"a"] * 8)}, "'rewards' must be an array of numbers"),
        ({"actions": np.zeros((7, 1))}, "'actions' must have 8 rows.*got 7"),
        ({"observations": np.zeros((9, 2))}, "'observations' must have 8 rows.*got 9"),
        ({"terminals": np.full(8, 0.5)}, "'terminals' must be flags, got 0.5"),
        ({"timeouts": np.full(8, 2)}, "'timeouts' must be flags, got 2"),
        ({"next_observations": np.zeros((8, 3))}, r"'next_observations'.*\(8, 2\), got \(8, 3\)"),
        ({"next_observations": np.full((8, 2), 9.0)}, r"data.hdf5: episodes must be whole.*next_observation\[0\]"),
        ({"observations": np.full((8, 2), np.nan)}, "data.hdf5: observation must be finite"),
        ({"actions": np.full((8, 1), 1.5)}, r"'actions' must be reals in \[-1, 1\].*1.5.*environment_id"),
        ({"actions": np.zeros(8)}, r"'actions' must be reals in.*shape \(8,\).*environment_id"),
        ({"terminals": np.zeros(8), "timeouts": np.ones(8)}, "data.hdf5: no step has a successor"),
    ],
)
def test_a_malformed_array_is_named(path, changes, complaint):
    with pytest.raises(ValueError, match=complaint):
        OfflineDataset.from_hdf5(write(path, **small(**changes)))


def test_a_group_in_the_place_of_an_array_is_named(path):
    with pytest.raises(ValueError, match="'rewards' must be an array of numbers"):
        OfflineDataset.from_hdf5(write(path, **small(rewards=None), rewards__deeper=np.zeros(8)))


def test_an_empty_file_of_arrays_is_refused(path):
    with pytest.raises(ValueError, match=r"data\.hdf5"):
        OfflineDataset.from_hdf5(write(path, **{key: values[:0] for key, values in small().items()}))


def test_a_missing_file_and_one_that_is_no_hdf5_are_named(path):
    with pytest.raises(FileNotFoundError, match=r"data\.hdf5"):
        OfflineDataset.from_hdf5(path)
    path.write_bytes(b"not HDF5 at all")
    with pytest.raises(ValueError, match=r"data\.hdf5 cannot be read as HDF5"):
        OfflineDataset.from_hdf5(path)
    whole = write(path, **small()).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"data\.hdf5 cannot be read as HDF5"):
        OfflineDataset.from_hdf5(path)


def test_data_of_another_environment_are_refused(path):
    with pytest.raises(ValueError, match=r"data\.hdf5: observation must have shape"):
        OfflineDataset.from_hdf5(write(path, **small()), "Pendulum-v1")
    with pytest.raises(ValueError, match="unknown environment id 'Nowhere-v0'"):
        OfflineDataset.from_hdf5(path, "Nowhere-v0")
