"""Minari files: the same data come back, Minari itself reads them, and a failure leaves what was there."""

import os
import shutil
from pathlib import Path

import gymnasium as gym
import minari
import numpy as np
import pytest
import torch
from minari.data_collector.episode_buffer import EpisodeBuffer
from minari.dataset._storages.hdf5_storage import HDF5Storage
from minari.dataset.minari_storage import MinariStorage

from ca14lib.data import OfflineDataset, minari_files
from ca14lib.training import collect

GRID, RIVER, SEPSIS = "CA14/GridWorld-v0", "CA14/RiverSwim-v0", "CA14/ICUSepsis-v0"
ID = "course/grid-v0"

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:minari")
COLUMNS = ("observation", "action", "reward", "next_observation", "terminated", "truncated", "cost")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """Minari's folder of datasets, empty and of this test only."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    return tmp_path / "datasets"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_same(first: OfflineDataset, second: OfflineDataset) -> None:
    for name in COLUMNS:
        torch.testing.assert_close(getattr(first.transitions, name), getattr(second.transitions, name), rtol=0, atol=0)
    one, other = first.transitions.behaviour_log_prob, second.transitions.behaviour_log_prob
    assert (one is None) == (other is None)
    if one is not None:
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert first.episode_lengths().tolist() == second.episode_lengths().tolist()
    assert first.observation_space == second.observation_space
    assert first.action_space == second.action_space
    for name in ("environment_id", "environment_arguments", "policy", "seed"):
        assert getattr(first, name) == getattr(second, name), name


@pytest.mark.parametrize(
    ("environment_id", "policy"), [(GRID, "mixed"), (GRID, "expert"), (RIVER, "random"), (SEPSIS, "clinician")]
)
def test_data_come_back_bit_for_bit(environment_id, policy):
    data = collect(environment_id, policy, 12, seed=4)
    data.to_minari(ID)
    assert_same(data, OfflineDataset.from_minari(ID))
    assert_same(data, OfflineDataset.from_minari(ID, environment_id))


def test_costs_images_and_continuous_actions_come_back():
    rng = np.random.default_rng(0)
    observation = rng.random((7, 2, 3), dtype=np.float32)
    data = OfflineDataset(
        observation,
        rng.uniform(-1, 1, size=(7, 2)).astype(np.float32),
        rng.normal(size=7),
        np.concatenate([observation[1:], observation[:1]]),
        np.array([0, 0, 1, 0, 0, 0, 0], bool),
        np.array([0, 0, 0, 0, 1, 0, 1], bool),
        observation_space=gym.spaces.Box(0, 1, (2, 3), np.float32),
        action_space=gym.spaces.Box(-1, 1, (2,), np.float32),
        cost=rng.random((7, 2)),
        behaviour_log_prob=-rng.random(7),
        policy="planner",
        seed=11,
    )
    data.to_minari("images-v3")
    assert_same(data, OfflineDataset.from_minari("images-v3"))


def test_data_without_a_named_behaviour_seed_or_environment_come_back_without():
    source = collect(GRID, "expert", 2, seed=0)
    source.policy = source.seed = source.environment_id = None
    source.to_minari(ID)
    back = OfflineDataset.from_minari(ID)
    assert (back.environment_id, back.seed, back.policy) == (None, None, None)


def test_minari_itself_reads_the_file():
    data = collect(GRID, "mixed", 6, seed=2)
    data.to_minari(ID, author="the course", description="six episodes")
    stored = minari.load_dataset(ID)
    assert stored.total_episodes == 6
    assert stored.total_steps == len(data)
    assert stored.spec.env_spec.id == GRID
    assert stored.recover_environment().unwrapped.spec.id == GRID
    assert stored.storage.metadata["algorithm_name"] == "mixed"
    assert "the course" in stored.storage.metadata["author"]
    assert ID in minari.list_local_datasets()
    rows = data.transitions
    for episode, steps in zip(stored.iterate_episodes(), data.episode_slices, strict=True):
        length = steps.stop - steps.start
        assert len(episode.observations) == length + 1  # T + 1 observations, T of everything else
        assert len(episode.actions) == len(episode.rewards) == length
        np.testing.assert_array_equal(episode.observations[:-1], rows.observation[steps])
        np.testing.assert_array_equal(episode.observations[1:], rows.next_observation[steps])
        np.testing.assert_array_equal(episode.rewards, rows.reward[steps])
        np.testing.assert_array_equal(episode.terminations, rows.terminated[steps])
        np.testing.assert_array_equal(episode.truncations, rows.truncated[steps])
    assert len(stored.sample_episodes(2)) == 2


def record_cart_pole(dataset_id: str, lengths: list[int]) -> list[dict[str, np.ndarray]]:
    """A dataset as Minari's own collector writes it: infos for the reset too, and its last episode just stops."""
    environment, episodes = gym.make("CartPole-v1"), []
    for seed, length in enumerate(lengths):
        observations, actions, rewards, terminations = [environment.reset(seed=seed)[0]], [], [], []
        for step in range(length):
            actions.append((seed + step) % 2)
            observation, reward, terminated, *_ = environment.step(actions[-1])
            observations.append(observation)
            rewards.append(reward)
            terminations.append(terminated)
        columns = {"observations": observations, "actions": actions, "rewards": rewards, "terminations": terminations}
        columns["truncations"] = [False] * (length - 1) + [seed + 1 < len(lengths)]
        columns = {name: np.array(values) for name, values in columns.items()}
        cost = np.arange(length + 1.0)[:, None]  # entry 0 belongs to the reset
        episodes.append(EpisodeBuffer(id=seed, seed=seed, infos={"cost": cost}, **columns))
    minari.create_dataset_from_buffers(dataset_id, episodes, env="CartPole-v1", algorithm_name="alternating")
    return episodes


def test_dataset_that_others_wrote_is_read():
    episodes = record_cart_pole("cartpole/foreign-v0", [5, 8, 3])
    data = OfflineDataset.from_minari("cartpole/foreign-v0", "CartPole-v1")
    assert data.episode_lengths().tolist() == [5, 8, 3]
    rows = data.transitions
    for episode, steps in zip(episodes, data.episode_slices, strict=True):
        np.testing.assert_array_equal(rows.observation[steps], episode.observations[:-1])
        np.testing.assert_array_equal(rows.next_observation[steps], episode.observations[1:])
        np.testing.assert_array_equal(rows.action[steps], episode.actions)
        np.testing.assert_array_equal(rows.reward[steps], episode.rewards)
        np.testing.assert_array_equal(rows.cost[steps], episode.infos["cost"][1:])
    assert (data.policy, data.environment_id, data.seed) == ("alternating", "CartPole-v1", None)


def test_episode_that_just_stops_is_taken_as_truncated():
    record_cart_pole("cartpole/cut-v0", [2, 3])
    rows = OfflineDataset.from_minari("cartpole/cut-v0").transitions
    assert not rows.terminated.any()
    assert rows.truncated.tolist() == [False, True, False, False, True]


def test_data_of_another_environment_are_refused_with_both_names():
    collect(GRID, "expert", 2, seed=0).to_minari(ID)
    with pytest.raises(ValueError, match=f"comes from {GRID}, expected {RIVER}"):
        OfflineDataset.from_minari(ID, RIVER)


def test_data_of_an_unknown_environment_are_refused_where_one_is_expected():
    data = collect(GRID, "expert", 2, seed=0)
    data.environment_id = None
    data.to_minari(ID)
    with pytest.raises(ValueError, match=f"comes from None, expected {GRID}"):
        OfflineDataset.from_minari(ID, GRID)


def test_missing_dataset_is_named_with_the_known_ones():
    collect(GRID, "expert", 2, seed=0).to_minari(ID)
    with pytest.raises(FileNotFoundError, match=f"course/other-v0.*{ID}"):
        OfflineDataset.from_minari("course/other-v0")


def test_reading_what_is_missing_creates_nothing(folder):
    with pytest.raises(FileNotFoundError, match="none"):
        OfflineDataset.from_minari(ID)
    assert contents(folder) == {}


@pytest.mark.parametrize("name", ["not an id", "", "a/b/c d-v0", "grid-v", "course/grid", "../escape-v0"])
def test_malformed_id_is_refused_before_anything_is_written(folder, name):
    data = collect(GRID, "expert", 2, seed=0)
    with pytest.raises(ValueError, match=r"(?i)malformed|dataset"):
        data.to_minari(name)
    with pytest.raises(ValueError, match=r"(?i)malformed|dataset"):
        OfflineDataset.from_minari(name)
    assert not folder.exists() or contents(folder) == {}


@pytest.mark.parametrize("keep", [0, 100, 0.5, 0.95])
def test_truncated_file_is_named(folder, keep):
    collect(GRID, "mixed", 30, seed=0).to_minari(ID)
    (file,) = folder.rglob("*.hdf5")
    whole = file.read_bytes()
    file.write_bytes(whole[: int(keep if keep > 1 else keep * len(whole))])
    with pytest.raises(ValueError, match=f"{ID}.* cannot be read"):
        OfflineDataset.from_minari(ID)


@pytest.mark.parametrize("damage", ["garbage", "remove", "empty"])
@pytest.mark.parametrize("pattern", ["*.hdf5", "metadata.json"])
def test_damaged_file_is_named(folder, pattern, damage):
    collect(GRID, "mixed", 5, seed=0).to_minari(ID)
    (file,) = (folder / ID).rglob(pattern)
    if damage == "remove":
        file.unlink()
    else:
        file.write_bytes(b"\x00garbage" * 50 if damage == "garbage" else b"")
    with pytest.raises(ValueError, match=ID):
        OfflineDataset.from_minari(ID)


def test_folder_without_data_is_named(folder):
    collect(GRID, "mixed", 5, seed=0).to_minari(ID)
    shutil.rmtree(folder / ID / "data")
    with pytest.raises(ValueError, match=ID):
        OfflineDataset.from_minari(ID)


def test_existing_dataset_is_not_replaced_unasked(folder):
    collect(GRID, "expert", 2, seed=0).to_minari(ID)
    before = contents(folder)
    with pytest.raises(FileExistsError, match=f"{ID}.*overwrite=True"):
        collect(GRID, "random", 3, seed=0).to_minari(ID)
    assert contents(folder) == before


def test_existing_dataset_is_replaced_when_asked():
    collect(GRID, "expert", 9, seed=0).to_minari(ID)
    data = collect(GRID, "random", 3, seed=1)
    data.to_minari(ID, overwrite=True)
    assert_same(data, OfflineDataset.from_minari(ID))
    assert list(minari.list_local_datasets()) == [ID]


def test_writing_leaves_nothing_but_the_dataset(folder):
    collect(GRID, "expert", 2, seed=0).to_minari(ID)
    collect(GRID, "random", 2, seed=0).to_minari(ID, overwrite=True)
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]
    assert {path.split("/")[0] for path in contents(folder)} == {"course"}
    assert os.environ["MINARI_DATASETS_PATH"] == str(folder)


def test_folder_switch_is_left_unset_if_it_was_unset(monkeypatch, tmp_path):
    monkeypatch.delenv("MINARI_DATASETS_PATH")
    for home in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(home, str(tmp_path))
    collect(GRID, "expert", 2, seed=0).to_minari(ID)
    assert "MINARI_DATASETS_PATH" not in os.environ
    assert (tmp_path / ".minari" / "datasets" / ID).is_dir()


FAILURES = {
    "before Minari writes": (minari, "create_dataset_from_buffers"),
    "while Minari writes episodes": (HDF5Storage, "update_episodes"),
    "while metadata are written": (MinariStorage, "update_metadata"),
    "when the new data are put in place": (Path, "rename"),
}


@pytest.mark.parametrize("where", FAILURES)
@pytest.mark.parametrize("existing", [True, False])
def test_failure_leaves_what_was_there(folder, monkeypatch, where, existing):
    old, new = collect(GRID, "expert", 4, seed=0), collect(GRID, "random", 4, seed=1)
    if existing:
        old.to_minari(ID)
    else:
        old.to_minari("course/neighbour-v0")
    before = contents(folder)

    def fail(*args: object, **keywords: object) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(*FAILURES[where], fail)
        if where == "when the new data are put in place":
            patch.setattr(Path, "replace", fail)
            patch.setattr(os, "rename", fail)
            patch.setattr(os, "replace", fail)
            patch.setattr(shutil, "move", fail)
        with pytest.raises(OSError, match="no space left"):
            new.to_minari(ID, overwrite=True)
    assert contents(folder) == before
    assert not list(folder.glob(".*"))
    assert os.environ["MINARI_DATASETS_PATH"] == str(folder)
    if existing:
        assert_same(old, OfflineDataset.from_minari(ID))
    new.to_minari(ID, overwrite=True)
    assert_same(new, OfflineDataset.from_minari(ID))


@pytest.mark.parametrize("interruption", [OSError, KeyboardInterrupt])
def test_interruption_between_taking_out_the_old_and_putting_in_the_new_restores_the_old(monkeypatch, interruption):
    old, new = collect(GRID, "expert", 4, seed=0), collect(GRID, "random", 4, seed=1)
    old.to_minari(ID)
    rename, calls = Path.rename, []

    def interrupted(self: Path, target: Path) -> Path:
        calls.append(self)
        if len(calls) == 2:
            raise interruption
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", interrupted)
        with pytest.raises(interruption):
            new.to_minari(ID, overwrite=True)
    assert_same(old, OfflineDataset.from_minari(ID))


def test_data_of_a_larger_grid_recover_the_larger_grid():
    """The constructor's arguments belong to the environment the data come from."""
    environment = gym.make(GRID, size=7)
    collect(environment, "expert", 2, seed=0).to_minari(ID)
    assert minari.load_dataset(ID).recover_environment().observation_space == environment.observation_space
    assert OfflineDataset.from_minari(ID).environment_arguments == {"size": 7}


def record_hopper(dataset_id: str, lengths: list[int]) -> list[EpisodeBuffer]:
    """Episodes as published MuJoCo datasets hold them: doubles, infos in dictionaries, ends that no flag marks."""
    environment, episodes = gym.make("Hopper-v5"), []
    generator = np.random.default_rng(0)
    for seed, length in enumerate(lengths):
        observations, rewards = [environment.reset(seed=seed)[0]], []
        actions = generator.uniform(-1, 1, (length, 3)).astype(np.float32)
        for action in actions:
            observation, reward, *_ = environment.step(action)
            observations.append(observation)
            rewards.append(reward)
        none = np.zeros(length, bool)
        infos = {"x_position": np.zeros(length + 1), "state": {"qpos": np.zeros((length + 1, 6))}}
        episodes.append(
            EpisodeBuffer(
                id=seed,
                seed=seed,
                observations=np.array(observations),
                actions=actions,
                rewards=np.array(rewards),
                terminations=none,
                truncations=none,
                infos=infos,
            )
        )
    minari.create_dataset_from_buffers(dataset_id, episodes, env="Hopper-v5", algorithm_name="SAC")
    return episodes


def test_published_hopper_episodes_are_read():
    episodes = record_hopper("mujoco/hopper/medium-v0", [5, 1, 9])
    data = OfflineDataset.from_minari("mujoco/hopper/medium-v0", "Hopper-v5")
    rows = data.transitions
    assert data.episode_lengths().tolist() == [5, 1, 9]
    assert rows.truncated.nonzero().flatten().tolist() == [4, 5, 14]
    assert not rows.terminated.any()
    assert (rows.observation.dtype, rows.reward.dtype) == (torch.float32, torch.float32)
    assert episodes[0].observations.dtype == np.float64
    for episode, steps in zip(episodes, data.episode_slices, strict=True):
        np.testing.assert_array_equal(rows.observation[steps], episode.observations[:-1].astype(np.float32))
        np.testing.assert_array_equal(rows.next_observation[steps], episode.observations[1:].astype(np.float32))
        np.testing.assert_array_equal(rows.action[steps], episode.actions)
    assert rows.cost.shape == (15, 0)
    assert (data.policy, data.environment_id) == ("SAC", "Hopper-v5")


@pytest.mark.parametrize("environment", ["Pendulum-v1", "Hopper-v5"])
def test_continuous_data_come_back_bit_for_bit(environment):
    data = collect(environment, "random", 5, seed=4)
    data.to_minari(ID)
    assert_same(data, OfflineDataset.from_minari(ID, environment))


def test_one_cost_a_step_without_a_column_axis_is_read():
    episodes = []
    for seed in range(2):
        columns = {"observations": np.zeros((4, 1)), "actions": np.zeros(3, int), "rewards": np.zeros(3)}
        columns |= {"terminations": np.array([0, 0, 1], bool), "truncations": np.zeros(3, bool)}
        episodes.append(EpisodeBuffer(id=seed, infos={"cost": np.arange(3.0)}, **columns))
    spaces = {"observation_space": gym.spaces.Box(-1, 1, (1,)), "action_space": gym.spaces.Discrete(2)}
    minari.create_dataset_from_buffers("flat/cost-v0", episodes, **spaces)
    assert OfflineDataset.from_minari("flat/cost-v0").transitions.cost.tolist() == [[0], [1], [2]] * 2


def test_observations_in_a_dictionary_are_refused_by_name():
    space = gym.spaces.Dict({"goal": gym.spaces.Box(-1, 1, (1,))})
    episode = EpisodeBuffer(
        id=0, observations={"goal": np.zeros((2, 1), np.float32)}, actions=np.zeros(1, int), rewards=np.zeros(1),
        terminations=np.ones(1, bool), truncations=np.zeros(1, bool),
    )  # fmt: skip
    minari.create_dataset_from_buffers(
        "goals/one-v0", [episode], observation_space=space, action_space=gym.spaces.Discrete(2)
    )
    with pytest.raises(ValueError, match=r"goals/one-v0.*observation_space must be a Box or Discrete.*goal"):
        OfflineDataset.from_minari("goals/one-v0")


@pytest.mark.filterwarnings("error")
def test_writing_draws_no_warning_from_minari():
    collect(GRID, "expert", 2, seed=0).to_minari(ID)
    source = collect(GRID, "expert", 2, seed=0)
    source.environment_id = None
    source.to_minari(ID, overwrite=True, description="twice")


def test_notes_stand_in_the_metadata():
    collect(GRID, "expert", 2, seed=5).to_minari(ID, notes={"made_by": "a test", "returns": [1.0, 2.0]})
    metadata = minari_files.local_datasets()[ID]
    assert (metadata["ca14_made_by"], metadata["ca14_returns"], metadata["ca14_seed"]) == ("a test", [1.0, 2.0], 5)
    assert metadata["author"] == ["unknown"]
    with pytest.raises(TypeError, match="autor"):
        collect(GRID, "expert", 2, seed=5).to_minari(ID, overwrite=True, autor="a typing error")


def test_the_local_list_leaves_out_what_is_no_dataset(folder):
    for name in (ID, "plain-v1", "deep/er/still-v0", "broken/a-v0", "moved/b-v0"):
        collect(GRID, "expert", 2, seed=0).to_minari(name)
    (folder / "broken/a-v0/data/metadata.json").write_text("{")
    (folder / "moved/b-v0").rename(folder / "moved/c-v0")
    (folder / "not a name" / "data").mkdir(parents=True)
    (folder / "not a name" / "data" / "metadata.json").write_text("[]")
    shutil.copytree(folder / ID, folder / ".ca14-interrupted" / ID)
    assert list(minari_files.local_datasets()) == [ID, "deep/er/still-v0", "plain-v1"]
    with pytest.raises(FileNotFoundError, match=f"local datasets: {ID}, deep/er/still-v0, plain-v1"):
        OfflineDataset.from_minari("course/absent-v0")


def test_the_file_takes_little_more_than_its_numbers(folder):
    data = collect("Pendulum-v1", "random", 50, seed=0)
    data.to_minari(ID)
    numbers = len(data) * (3 + 1 + 1 + 1) * 4 + 2 * len(data)
    assert sum(file.stat().st_size for file in folder.rglob("*.hdf5")) < 1.6 * numbers
    assert not list(folder.rglob("*.part"))
