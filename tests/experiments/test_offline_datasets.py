"""Data for continuous control: made whole or not at all, the same with the same seed, and found where they are."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from ca14lib.agents.sac import SAC, SACConfig
from ca14lib.data import OfflineDataset, ReplayBuffer
from ca14lib.data.minari_files import datasets_root, local_datasets
from ca14lib.experiments.offline import datasets
from ca14lib.experiments.offline.datasets import (
    QUALITIES,
    RECIPES,
    dataset_id,
    load_dataset,
    make_datasets,
    reference_returns,
    write_datasets_table,
)

TINY = replace(
    RECIPES["pendulum"], config=SACConfig(hidden_sizes=(8,), learning_rate=3e-3), steps=1_200, updates_per_step=0.1,
    start_steps=400, snapshot_every=400, scan_episodes=3, episodes=6,
)  # fmt: skip


@pytest.fixture(autouse=True)
def minari_folder(tmp_path, monkeypatch) -> Path:
    """Minari's own folder, empty and of this test only."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return tmp_path / "minari"


@pytest.fixture
def staged(monkeypatch):
    """A function that sets the mean reward of a policy by its training step: a tiny agent learns next to nothing."""
    load, collect = SAC.load, datasets.collect

    def remembered(self, path):
        agent = load(self, path)
        agent.updates = int(Path(path).stem.removeprefix("step-"))
        return agent

    def stage(rewards):
        def rewarded(environment, policy, episodes, seed):
            data = collect(environment, policy, episodes, seed)
            data.transitions.reward[:] = rewards[0 if isinstance(policy, str) else policy.updates]
            return data

        monkeypatch.setattr(SAC, "load", remembered)
        monkeypatch.setattr(datasets, "collect", rewarded)

    return stage


@pytest.fixture
def better_expert(staged):
    staged({0: -6.0, 400: -5.0, 800: -3.5, 1_200: -1.0})


def make(folder=None, seed=0, **keywords):
    return make_datasets("pendulum", seed, folder=folder, recipe=TINY, progress=False, **keywords)


def same(first: OfflineDataset, second: OfflineDataset) -> bool:
    names = ("observation", "action", "reward", "next_observation", "terminated", "truncated")
    pairs = [(getattr(first.transitions, name), getattr(second.transitions, name)) for name in names]
    return all(a.shape == b.shape and torch.equal(a, b) for a, b in pairs)


@pytest.mark.usefixtures("better_expert")
def test_four_qualities_are_made_stored_and_reported(tmp_path):
    table = make(tmp_path / "own")
    assert table["quality"].tolist() == list(QUALITIES)
    assert set(table["environment"]) == {"pendulum"}
    rows = table.set_index("quality")
    assert rows.loc[["random", "medium", "expert"], "episodes"].tolist() == [6, 6, 6]
    assert (rows["transitions"] == 200 * rows["episodes"]).all()
    assert rows.loc["medium-replay", "episodes"] == 4  # 800 steps
    assert rows.loc["random", "score_mean"] == 0
    assert rows.loc["expert", "score_mean"] == pytest.approx(100)
    for quality in QUALITIES:
        data = load_dataset("pendulum", quality, tmp_path / "own")
        assert data.num_episodes == rows.loc[quality, "episodes"]
        assert data.episode_returns().mean() == pytest.approx(rows.loc[quality, "return_mean"])
        assert data.episode_returns().std() == pytest.approx(rows.loc[quality, "return_std"])
        assert (data.environment_id, data.seed) == ("Pendulum-v1", 0)
        assert (data.transitions.behaviour_log_prob is None) == (quality == "medium-replay")
    assert reference_returns("pendulum", tmp_path / "own") == pytest.approx(
        tuple(rows.loc[["random", "expert"], "return_mean"])
    )
    with datasets_root(tmp_path / "own"):
        notes = local_datasets()["pendulum/medium-v0"]
    assert notes["ca14_seed"] == 0
    assert notes["ca14_recipe"]["config"]["hidden_sizes"] == [8]
    assert notes["ca14_training_step"] == 800
    assert notes["ca14_command"] == "ca14 make-datasets pendulum --seed 0"
    assert notes["author"] == ["unknown"]


@pytest.mark.usefixtures("better_expert")
def test_the_same_seed_gives_the_same_data_and_another_seed_other_data(tmp_path):
    make(tmp_path / "a")
    make(tmp_path / "b")
    make(tmp_path / "c", seed=1)
    for quality in QUALITIES:
        first, again, other = (load_dataset("pendulum", quality, tmp_path / name) for name in "abc")
        assert same(first, again)
        assert not same(first, other)


@pytest.mark.usefixtures("better_expert")
def test_an_interrupted_training_goes_on_to_the_same_data(tmp_path, monkeypatch):
    make(tmp_path / "whole")
    save, saved = SAC.save, []

    def failing(self, path):
        saved.append(path)
        if len(saved) == 3:
            raise KeyboardInterrupt
        save(self, path)

    with monkeypatch.context() as patch:
        patch.setattr(SAC, "save", failing)
        with pytest.raises(KeyboardInterrupt):
            make(tmp_path / "resumed", cache=tmp_path / "cache")
    assert (tmp_path / "cache" / "pendulum-0" / "training.safetensors").exists()
    with datasets_root(tmp_path / "resumed"):
        assert local_datasets() == {}
    make(tmp_path / "resumed", cache=tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())
    for quality in QUALITIES:
        assert same(
            load_dataset("pendulum", quality, tmp_path / "whole"),
            load_dataset("pendulum", quality, tmp_path / "resumed"),
        )


def test_what_exists_is_not_replaced_unasked_and_nothing_is_trained(tmp_path, monkeypatch):
    datasets.collect("Pendulum-v1", "random", 2, seed=0).to_minari("pendulum/medium-v0")
    monkeypatch.setattr(datasets, "train_off_policy", lambda *a, **k: pytest.fail("must not train"))
    with pytest.raises(FileExistsError, match=r"pendulum/medium-v0.*--overwrite"):
        make()


@pytest.mark.usefixtures("better_expert")
def test_what_exists_is_replaced_when_asked():
    datasets.collect("Pendulum-v1", "random", 2, seed=0).to_minari("pendulum/medium-v0")
    make(overwrite=True)
    assert load_dataset("pendulum", "medium").num_episodes == 6


def test_an_expert_no_better_than_chance_is_an_error_and_nothing_is_stored(tmp_path, staged):
    staged({0: -1.0, 1_200: -100.0})
    with pytest.raises(ValueError, match=r"after 1200 steps.*-2e\+04.*train longer"):
        make(tmp_path / "own")
    with datasets_root(tmp_path / "own"):
        assert local_datasets() == {}


@pytest.mark.parametrize(
    "rewards, chosen",
    [
        ({800: 0.38, 1_200: 0.9, 1_600: 0.5}, 800),  # a relapse after the first success does not count
        ({800: 0.1, 1_200: 0.55, 1_600: 0.5}, 1_200),
        ({800: 0.1, 1_200: 0.45, 1_600: 0.2}, 1_200),
    ],
)
def test_the_medium_policy_is_the_nearest_to_half_up_to_the_first_that_reaches_it(tmp_path, staged, rewards, chosen):
    staged({0: 0.0, 400: 0.5, 2_000: 1.0} | rewards)
    recipe = replace(TINY, steps=2_000, updates_per_step=0.0025)
    table = make_datasets("pendulum", folder=tmp_path, recipe=recipe, progress=False).set_index("quality")
    assert table.loc["medium", "score_mean"] == pytest.approx(100 * rewards[chosen], abs=1e-3)
    assert table.loc["medium-replay", "episodes"] == chosen / 200


def test_the_replay_holds_whole_episodes_up_to_a_step():
    source = datasets.collect("Pendulum-v1", "random", 3, seed=0)
    buffer = ReplayBuffer(source.observation_space, source.action_space, 600)
    rows = source.transitions
    for step in range(600):
        buffer.add(
            observation=rows.observation[step : step + 1], action=rows.action[step : step + 1],
            reward=rows.reward[step : step + 1], next_observation=rows.next_observation[step : step + 1],
            terminated=rows.terminated[step : step + 1], truncated=rows.truncated[step : step + 1],
        )  # fmt: skip
    for added, episodes in ((200, 1), (399, 1), (400, 2), (600, 3)):
        early = datasets._replay(buffer, added, TINY, seed=0)
        assert same(early, source.episodes(np.arange(episodes)))
    assert buffer.added == 600


def test_a_missing_dataset_is_named_with_the_command_that_makes_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"hopper/medium-replay-v0.*ca14 make-datasets hopper"):
        load_dataset("hopper", "medium-replay", tmp_path / "nowhere")


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        (("walker", "medium"), "environment must be one of pendulum, hopper, got 'walker'"),
        (("pendulum", "superb"), "quality must be one of random, medium, expert, medium-replay, got 'superb'"),
    ],
)
def test_unknown_names_are_refused(arguments, complaint):
    for function in (dataset_id, load_dataset):
        with pytest.raises(ValueError, match=complaint):
            function(*arguments)
    if arguments[0] == "walker":
        with pytest.raises(ValueError, match=complaint):
            make_datasets("walker")


@pytest.mark.parametrize(
    "changes, complaint",
    [
        ({"snapshot_every": 500}, "steps must be a multiple of snapshot_every.*1200, 500"),
        ({"num_envs": 3}, "400 and 3"),
        ({"start_steps": 1_200}, "start_steps must lie in 0…1199, got 1200"),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_refused(changes, complaint):
    with pytest.raises(ValueError, match=complaint):
        replace(TINY, **changes)


def test_the_results_table_keeps_other_environments_and_replaces_its_own(tmp_path):
    def rows(environment, value):
        return pd.DataFrame([{"environment": environment, "quality": "random", "return_mean": value}])

    for environment, value, seed in (("hopper", 1.0, 3), ("pendulum", 2.0, 0), ("hopper", 4.0, 5)):
        path = write_datasets_table(rows(environment, value), seed, tmp_path)
    table = pd.read_csv(path)
    assert table["environment"].tolist() == ["pendulum", "hopper"]
    assert table["return_mean"].tolist() == [2.0, 4.0]
    metadata = datasets.read_metadata("continuous_datasets", tmp_path)
    assert metadata["command"] == "ca14 make-datasets pendulum --seed 0; ca14 make-datasets hopper --seed 5"
    assert metadata["seeds"] == [0, 5]


def test_the_shipped_pendulum_data_are_whole_and_small(root):
    """Found although Minari's own folder is empty."""
    for quality in QUALITIES:
        data = load_dataset("pendulum", quality)
        assert data.environment_id == "Pendulum-v1"
        assert set(data.episode_lengths()) == {200}
        assert data.num_episodes == 100 or quality == "medium-replay"
    low, high = reference_returns("pendulum")
    assert low < -900
    assert high > -250
    assert sum(file.stat().st_size for file in (root / "datasets").rglob("*") if file.is_file()) < 10e6
