"""Offline data for continuous control in four qualities, from a behaviour agent trained here. Book: offline/data.

``ca14 make-datasets`` calls :func:`make_datasets`; :func:`load_dataset` finds what it made, or what the course ships.
"""

import copy
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pandas as pd
from tqdm.auto import tqdm

import ca14lib
from ca14lib.agents.base import Agent
from ca14lib.agents.sac import SAC, SACConfig
from ca14lib.data import OfflineDataset, ReplayBuffer
from ca14lib.data.minari_files import datasets_root, local_datasets
from ca14lib.experiments.results import read_metadata, read_results, write_results
from ca14lib.metrics.shares import normalized_score
from ca14lib.training.collect import collect
from ca14lib.training.off_policy import train_off_policy

MODULE = "ca14lib.experiments.offline.datasets"
QUALITIES = ("random", "medium", "expert", "medium-replay")
HALFWAY = 50.0  # normalised score that the medium policy is chosen for


@dataclass(frozen=True)
class Recipe:
    """How the data of an environment are made."""

    environment_id: str
    config: SACConfig
    steps: int  # of the behaviour agent's training
    updates_per_step: float
    start_steps: int  # with uniform actions, before the first update
    num_envs: int
    snapshot_every: int  # steps between the policies of which one becomes the medium one
    scan_episodes: int = 20  # that a snapshot's score is measured with
    episodes: int = 100  # of random, medium and expert

    def __post_init__(self) -> None:
        if self.steps % self.snapshot_every or self.snapshot_every % self.num_envs:
            raise ValueError(
                f"steps must be a multiple of snapshot_every, and that of num_envs, "
                f"got {self.steps}, {self.snapshot_every} and {self.num_envs}"
            )
        if not 0 <= self.start_steps < self.steps:
            raise ValueError(f"start_steps must lie in 0…{self.steps - 1}, got {self.start_steps}")


RECIPES = {
    "pendulum": Recipe(
        # slow learning on purpose: the replay then holds attempts of every kind between the first and the medium policy
        "Pendulum-v1", SACConfig(hidden_sizes=(64, 64), learning_rate=3e-4), steps=40_000, updates_per_step=0.25,
        start_steps=1_000, num_envs=1, snapshot_every=500, scan_episodes=50,
    ),
    "hopper": Recipe(
        "Hopper-v5", SACConfig(hidden_sizes=(128, 128), learning_rate=3e-4), steps=300_000, updates_per_step=1.0,
        start_steps=10_000, num_envs=4, snapshot_every=10_000,
    ),
}  # fmt: skip


def dataset_id(environment: str, quality: str) -> str:
    """Minari id of a dataset.

    Raises:
        ValueError: If the environment is not in ``RECIPES`` or the quality not in ``QUALITIES``.
    """
    for name, value, known in (("environment", environment, tuple(RECIPES)), ("quality", quality, QUALITIES)):
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
    return f"{environment}/{quality}-v0"


def load_dataset(environment: str, quality: str, folder: str | Path | None = None) -> OfflineDataset:
    """A dataset of continuous control: from the given folder, else from Minari's, else as shipped with the course.

    Raises:
        FileNotFoundError: If it is in none of them, with the command that makes it.
        ValueError: If environment or quality is unknown.
    """
    name = dataset_id(environment, quality)
    with _holding(name, folder):
        return OfflineDataset.from_minari(name, RECIPES[environment].environment_id)


def reference_returns(environment: str, folder: str | Path | None = None) -> tuple[float, float]:
    """Mean returns of the random and of the expert data, the 0 and 100 of normalised scores.

    Raises:
        FileNotFoundError: If the data are not there, with the command that makes them.
    """
    name = dataset_id(environment, "expert")
    with _holding(name, folder):
        random, expert = local_datasets()[name]["ca14_reference_returns"]
    return random, expert


def all_exist(environment: str, folder: str | Path | None = None) -> bool:
    """Whether the four datasets are in a Minari folder, or with None in Minari's own."""
    names = {dataset_id(environment, quality) for quality in QUALITIES}
    with nullcontext() if folder is None else datasets_root(Path(folder)):
        return names <= set(local_datasets())


@contextmanager
def _holding(name: str, folder: str | Path | None) -> Iterator[None]:
    """Minari's folder is, for the time being, the first that holds the dataset."""
    shipped = Path(ca14lib.__file__).resolve().parents[1] / "datasets"
    for place in (None, shipped) if folder is None else (Path(folder),):
        if place is not None and not place.is_dir():
            continue
        with nullcontext() if place is None else datasets_root(place):
            if name in local_datasets():
                yield
                return
    raise FileNotFoundError(
        f"there is no dataset {name!r} in {folder or 'Minari’s folder or the course’s'}; "
        f"`ca14 make-datasets {name.split('/')[0]}` makes it"
    )


def make_datasets(
    environment: str, seed: int = 0, *, folder: str | Path | None = None, overwrite: bool = False,
    recipe: Recipe | None = None, cache: str | Path | None = None, progress: bool = True,
) -> pd.DataFrame:  # fmt: skip
    """Train the behaviour agent, collect its data in four qualities and store them as Minari datasets.

    - ``random``: uniform actions.
    - ``expert``: the stochastic policy that SAC ends with.
    - ``medium``: the stochastic policy of a snapshot of that training. Snapshots are scored in their order until one
      reaches half of the way from the random to the expert data's mean return; of those up to it, the one nearest to
      half of the way is taken. A later relapse of the training is thus never the medium policy.
    - ``medium-replay``: what training had experienced when that snapshot was taken, in whole episodes.

    Nothing is stored before all four are there, and each dataset replaces its predecessor in one move.

    Args:
        environment: Key of ``RECIPES``.
        seed: Fixes training and collection; the same seed gives the same data on the same machine and versions.
        folder: Minari folder to store in; None for Minari's own (``$MINARI_DATASETS_PATH``, else ``~/.minari``).
        overwrite: Replace existing datasets.
        recipe: Another recipe than that of ``RECIPES``, for example a shorter one.
        cache: Folder from which a stopped training goes on; emptied when the data are stored. None for none.
        progress: Show progress bars.
    Returns:
        A row for each quality: ``environment``, ``quality``, ``episodes``, ``transitions``, ``return_mean``,
        ``return_std``, ``score_mean`` (book eq. normalised-score, with the random and expert rows as references).
    Raises:
        FileExistsError: If a dataset exists and ``overwrite`` is false; nothing is trained then.
        ValueError: If the environment is unknown, or training ended no better than uniform actions.
    """
    names = {quality: dataset_id(environment, quality) for quality in QUALITIES}
    recipe = recipe or RECIPES[environment]
    place = nullcontext() if folder is None else datasets_root(Path(folder))
    if folder is not None:
        Path(folder).mkdir(parents=True, exist_ok=True)
    with place:
        existing = [name for name in names.values() if name in local_datasets()]
    if existing and not overwrite:
        raise FileExistsError(f"dataset {existing[0]!r} exists; pass overwrite (--overwrite) to replace it")
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary) if cache is None else Path(cache) / f"{environment}-{seed}"
        work.mkdir(parents=True, exist_ok=True)
        data, steps = _collected(recipe, seed, work, progress)
        table = _table(environment, data)
        references = [float(data[quality].episode_returns().mean()) for quality in ("random", "expert")]
        with nullcontext() if folder is None else datasets_root(Path(folder)):
            for quality, name in names.items():
                data[quality].to_minari(
                    name, overwrite=overwrite, description=_description(recipe, quality, seed, steps[quality]),
                    ref_min_score=references[0], ref_max_score=references[1],
                    notes={
                        "quality": quality, "recipe": _plain(asdict(recipe)), "training_step": steps[quality],
                        "reference_returns": references, "command": _command(environment, seed),
                    },
                )  # fmt: skip
        if cache is not None:
            shutil.rmtree(work)
    return table


def _collected(
    recipe: Recipe, seed: int, work: Path, progress: bool
) -> tuple[dict[str, OfflineDataset], dict[str, int | None]]:
    """The four datasets, and the training step of the policy behind each."""
    trainings, collections, scans = (int(state) for state in np.random.SeedSequence(seed).generate_state(3))
    environment = gym.make(recipe.environment_id)
    spaces = environment.observation_space, environment.action_space
    environment.close()
    agent = SAC(*spaces, recipe.config, seed=trainings)
    buffer = ReplayBuffer(*spaces, recipe.steps, num_envs=recipe.num_envs)

    def snapshot(learner: Agent) -> dict[str, float]:
        learner.save(_snapshot(work, buffer.added * recipe.num_envs))
        return {}

    train_off_policy(
        agent, recipe.environment_id, recipe.steps, num_envs=recipe.num_envs, start_steps=recipe.start_steps,
        updates_per_step=recipe.updates_per_step, seed=trainings, buffer=buffer, evaluate=snapshot,
        evaluate_every=recipe.snapshot_every, checkpoint=work / "training.safetensors",
        checkpoint_every=max(recipe.steps // (10 * recipe.snapshot_every), 1) * recipe.snapshot_every,
        progress=progress,
    )  # fmt: skip

    def gathered(policy: str | int, episodes: int, draws: int = collections) -> OfflineDataset:
        """Episodes of uniform actions, or of the policy at a step of the training."""
        actor: Any = policy
        if not isinstance(policy, str):
            actor = SAC(*spaces, recipe.config).load(_snapshot(work, policy))
            actor.generator.manual_seed(draws)
        return collect(recipe.environment_id, actor, episodes, draws)

    data = {"random": gathered("random", recipe.episodes), "expert": gathered(recipe.steps, recipe.episodes)}
    low, high = (float(data[quality].episode_returns().mean()) for quality in ("random", "expert"))
    if not high > low:
        raise ValueError(
            f"after {recipe.steps} steps the trained policy returns {high:.4g} on average, uniform actions {low:.4g}: "
            "train longer"
        )
    scores: dict[int, float] = {}
    steps = range(recipe.snapshot_every, recipe.steps + 1, recipe.snapshot_every)
    with tqdm(steps, desc="medium policy", unit="policy", disable=not progress, leave=False) as bar:
        for step in bar:
            if step <= recipe.start_steps:
                continue
            returns = gathered(step, recipe.scan_episodes, scans).episode_returns()
            scores[step] = normalized_score(float(returns.mean()), low, high)
            if scores[step] >= HALFWAY:
                break
    medium = min(scores, key=lambda step: abs(scores[step] - HALFWAY))
    data["medium"] = gathered(medium, recipe.episodes)
    data["medium-replay"] = _replay(buffer, medium // recipe.num_envs, recipe, collections)
    for quality, dataset in data.items():
        dataset.policy = f"SAC, {quality}" if quality != "random" else quality
        dataset.seed = seed
    return data, {"random": None, "medium": medium, "expert": recipe.steps, "medium-replay": medium}


def _snapshot(work: Path, step: int) -> Path:
    return work / f"step-{step}.safetensors"


def _replay(buffer: ReplayBuffer, added: int, recipe: Recipe, seed: int) -> OfflineDataset:
    """The whole episodes among the first ``added`` steps of a buffer in which nothing was overwritten."""
    early = copy.copy(buffer)
    early.added = added
    return early.dataset(environment_id=recipe.environment_id, seed=seed)


def _table(environment: str, data: dict[str, OfflineDataset]) -> pd.DataFrame:
    returns = {quality: data[quality].episode_returns() for quality in QUALITIES}
    references = float(returns["random"].mean()), float(returns["expert"].mean())
    return pd.DataFrame(
        [
            {
                "environment": environment,
                "quality": quality,
                "episodes": data[quality].num_episodes,
                "transitions": len(data[quality]),
                "return_mean": returns[quality].mean(),
                "return_std": returns[quality].std(),
                "score_mean": normalized_score(float(returns[quality].mean()), *references),
            }
            for quality in QUALITIES
        ]
    )


def write_datasets_table(table: pd.DataFrame, seed: int, folder: str | Path | None = None) -> Path:
    """Put the rows of :func:`make_datasets` into the results table ``continuous_datasets``, beside other environments'.

    Args:
        table: The rows of one environment.
        seed: The seed they were made with.
        folder: Folder of the tables; None for the course's ``results``.
    """
    environment = str(table["environment"].iloc[0])
    seeds = {environment: seed}
    try:
        before, old = read_results("continuous_datasets", folder), read_metadata("continuous_datasets", folder)
    except FileNotFoundError:
        pass
    else:
        table = pd.concat([before[before["environment"] != environment], table], ignore_index=True)
        seeds = old.get("environment_seeds", {}) | seeds
    order = {name: place for place, name in enumerate(RECIPES)}
    table = table.sort_values("environment", key=lambda column: column.map(order), kind="stable")
    command = "; ".join(_command(name, seeds[name]) for name in order if name in seeds)
    return write_results(
        "continuous_datasets", table, command=command, modules=[MODULE], seeds=sorted(set(seeds.values())),
        folder=folder, environment_seeds=seeds,
    )  # fmt: skip


def _command(environment: str, seed: int) -> str:
    return f"ca14 make-datasets {environment} --seed {seed}"


def _description(recipe: Recipe, quality: str, seed: int, step: int | None) -> str:
    sources = {
        "random": "uniform actions",
        "medium": f"stochastic SAC policy after {step} training steps, about halfway between random and expert",
        "expert": f"stochastic SAC policy after {step} training steps",
        "medium-replay": f"whole episodes of the replay buffer of SAC's first {step} training steps",
    }
    return f"{recipe.environment_id}: {sources[quality]}. Made by ca14lib {ca14lib.__version__} with seed {seed}."


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {name: _plain(value) if isinstance(value, dict) else list(value) if isinstance(value, tuple) else value
            for name, value in values.items()}  # fmt: skip
