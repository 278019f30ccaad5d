"""Minari datasets in and out (https://minari.farama.org), through Minari's own API, as HDF5."""

import contextlib
import copy
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ca14lib.data.dataset import OfflineDataset

UNKNOWN = "unknown"  # Minari wants a name


def write(
    dataset: "OfflineDataset",
    dataset_id: str,
    *,
    overwrite: bool = False,
    notes: Mapping[str, Any] | None = None,
    **metadata: Any,
) -> None:
    """Store a dataset under ``dataset_id`` in Minari's local folder (environment variable MINARI_DATASETS_PATH).

    Minari keeps T + 1 observations and T of everything else per episode. Costs and behaviour log-probabilities become
    step infos. The data are written under a temporary id and renamed when complete.

    Args:
        dataset: What to store.
        dataset_id: Minari id such as ``gridworld/mixed-v0``.
        overwrite: Replace an existing dataset of that id.
        notes: Anything else worth keeping, JSON-able; stored in Minari's metadata under the names ``ca14_NAME``.
        metadata: Passed to ``minari.create_dataset_from_buffers``: ``description``, …; ``author``, ``author_email`` and
            ``code_permalink``, which Minari wants, are stored as "unknown" unless given.
    Raises:
        FileExistsError: If the id exists and ``overwrite`` is false.
        ValueError: If the id is malformed.
    """
    import minari
    from minari.data_collector.episode_buffer import EpisodeBuffer
    from minari.namespace import create_namespace, list_local_namespaces

    namespace = _checked_namespace(dataset_id)
    spec = _spec(dataset)
    defaults = {"description": f"Collected with seed {dataset.seed}.", "eval_env": spec}
    defaults |= dict.fromkeys(("author", "author_email", "code_permalink"), UNKNOWN)
    target = _path(dataset_id)
    if target.exists() and not overwrite:
        raise FileExistsError(f"Minari dataset {dataset_id!r} exists at {target}; pass overwrite=True to replace it")
    transitions = dataset.transitions
    arrays = {
        name: getattr(transitions, name).cpu().numpy()
        for name in ("observation", "action", "reward", "next_observation", "terminated", "truncated")
    }
    infos = {"cost": transitions.cost} if transitions.cost.shape[1] else {}
    if transitions.behaviour_log_prob is not None:
        infos["behaviour_log_prob"] = transitions.behaviour_log_prob
    buffers = []
    for number, rows in enumerate(dataset.episode_slices):
        last = arrays["next_observation"][rows.stop - 1 : rows.stop]
        buffers.append(
            EpisodeBuffer(
                id=number,
                seed=dataset.seed,
                observations=np.concatenate([arrays["observation"][rows], last]),
                actions=arrays["action"][rows],
                rewards=arrays["reward"][rows],
                terminations=arrays["terminated"][rows],
                truncations=arrays["truncated"][rows],
                infos={name: value[rows].cpu().numpy() for name, value in infos.items()},
            )
        )
    root = _path("")
    if namespace is not None and namespace not in list_local_namespaces():
        create_namespace(namespace)
    with tempfile.TemporaryDirectory(prefix=".ca14-", dir=root) as temporary:
        with datasets_root(temporary):
            stored = minari.create_dataset_from_buffers(
                dataset_id,
                buffers,
                env=spec,
                observation_space=dataset.observation_space,
                action_space=dataset.action_space,
                algorithm_name=dataset.policy or UNKNOWN,
                **(defaults | metadata),
            )
        for file in Path(temporary).rglob("*.hdf5"):
            _repack(file)
        size = {"dataset_size": stored.storage.get_size()}
        stored.storage.update_metadata(
            size | {"ca14_seed": dataset.seed} | {f"ca14_{name}": value for name, value in (notes or {}).items()}
        )
        target.parent.mkdir(parents=True, exist_ok=True)
        replaced = Path(temporary) / "replaced"
        if target.exists():
            target.rename(replaced)
        try:
            (Path(temporary) / dataset_id).rename(target)
        except BaseException:  # an interruption too must not lose what was there
            if replaced.exists():
                replaced.rename(target)
            raise


def read(dataset_id: str, environment_id: str | None = None) -> "OfflineDataset":
    """Load a local Minari dataset.

    Args:
        dataset_id: Minari id.
        environment_id: If given, the data must come from this environment.
    Raises:
        FileNotFoundError: If there is no such dataset here (nothing is downloaded).
        ValueError: If the data come from another environment, or the file is damaged.
    """
    import minari

    from ca14lib.data.dataset import OfflineDataset

    _checked_namespace(dataset_id)
    path = _path(dataset_id)
    if not path.exists():
        known = ", ".join(local_datasets()) or "none"
        raise FileNotFoundError(f"no Minari dataset {dataset_id!r} at {path}; local datasets: {known}")
    try:
        stored = minari.load_dataset(dataset_id)
        episodes = list(stored.iterate_episodes())
    except (OSError, KeyError, EOFError, ValueError, TypeError) as error:
        raise ValueError(f"Minari dataset {dataset_id!r} at {path} cannot be read: {error}") from error
    spec = stored.spec.env_spec
    found = None if spec is None else spec.id
    if environment_id is not None and found != environment_id:
        raise ValueError(f"Minari dataset {dataset_id!r} comes from {found}, expected {environment_id}")
    for name in ("observation_space", "action_space"):
        if not isinstance(getattr(stored, name), gym.spaces.Box | gym.spaces.Discrete):
            raise ValueError(
                f"Minari dataset {dataset_id!r}: {name} must be a Box or Discrete space, got {getattr(stored, name)}"
            )
    if not episodes:
        raise ValueError(f"Minari dataset {dataset_id!r} holds no episodes")

    def joined(name: str) -> NDArray:
        return np.concatenate([np.asarray(getattr(episode, name)) for episode in episodes])

    def info(name: str) -> NDArray | None:
        if any(not episode.infos or name not in episode.infos for episode in episodes):
            return None
        # some writers store an info for the reset too: the steps' own come last
        return np.concatenate([np.asarray(episode.infos[name])[-len(episode.rewards) :] for episode in episodes])

    cost = info("cost")

    terminated, truncated = joined("terminations").astype(bool), joined("truncations").astype(bool)
    last = np.cumsum([len(episode.rewards) for episode in episodes]) - 1
    behaviour = stored.storage.metadata.get("algorithm_name")
    truncated[last] |= ~terminated[last]  # Minari allows an episode cut by the end of collection
    return OfflineDataset(
        observation=np.concatenate([np.asarray(episode.observations)[:-1] for episode in episodes]),
        action=joined("actions"),
        reward=joined("rewards"),
        next_observation=np.concatenate([np.asarray(episode.observations)[1:] for episode in episodes]),
        terminated=terminated,
        truncated=truncated,
        observation_space=stored.observation_space,
        action_space=stored.action_space,
        cost=cost if cost is None or cost.ndim > 1 else cost[:, None],
        behaviour_log_prob=info("behaviour_log_prob"),
        environment_id=found,
        environment_arguments=None if spec is None else spec.kwargs,
        policy=None if behaviour == UNKNOWN else behaviour,
        seed=stored.storage.metadata.get("ca14_seed"),
    )


def local_datasets() -> dict[str, dict[str, Any]]:
    """Metadata of the Minari datasets on this computer by id, sorted; folders without a whole dataset are left out."""
    root, found = _path(""), {}
    for file in sorted(root.rglob("data/metadata.json")):
        name = file.parents[1].relative_to(root)
        try:
            metadata = json.loads(file.read_text("utf8"))
        except (OSError, ValueError):
            continue
        hidden = any(part.startswith(".") for part in name.parts)
        if isinstance(metadata, dict) and metadata.get("dataset_id") == name.as_posix() and not hidden:
            found[name.as_posix()] = metadata
    return found


def _checked_namespace(dataset_id: str) -> str | None:
    """The namespace of a well-formed id, or a ValueError that says what the form is."""
    from minari.dataset.minari_dataset import parse_dataset_id

    try:
        namespace, _, _ = parse_dataset_id(dataset_id)
    except (ValueError, TypeError) as error:
        raise ValueError(f"a Minari dataset id has the form namespace/name-v0, got {dataset_id!r}") from error
    return namespace


def _spec(dataset: "OfflineDataset") -> EnvSpec | None:
    if dataset.environment_id is None:
        return None
    spec = copy.deepcopy(gym.spec(dataset.environment_id))
    spec.kwargs = dict(dataset.environment_arguments)
    return spec


def _path(dataset_id: str) -> Path:
    """Folder of a dataset, or of all datasets for the empty id."""
    from minari.storage import get_dataset_path

    return get_dataset_path(dataset_id)


def _repack(file: Path) -> None:
    """Rewrite an HDF5 file with plain arrays: Minari's chunks of one episode each take four times the space."""
    import h5py

    packed = file.with_suffix(".part")
    with h5py.File(file, "r") as source, h5py.File(packed, "w", libver="latest", track_order=True) as target:

        def copied(name: str, found: h5py.Group | h5py.Dataset) -> None:
            made = target.require_group(name) if isinstance(found, h5py.Group) else target.create_dataset(
                name, data=found[()]
            )  # fmt: skip
            made.attrs.update(found.attrs)

        source.visititems(copied)
        target.attrs.update(source.attrs)
    packed.replace(file)


@contextlib.contextmanager
def datasets_root(path: str | Path) -> Iterator[None]:
    """Minari's folder of datasets, for the time being; the environment variable is Minari's only switch."""
    before = os.environ.get("MINARI_DATASETS_PATH")
    os.environ["MINARI_DATASETS_PATH"] = str(path)
    try:
        yield
    finally:
        if before is None:
            del os.environ["MINARI_DATASETS_PATH"]
        else:
            os.environ["MINARI_DATASETS_PATH"] = before
