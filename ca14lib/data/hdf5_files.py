"""Datasets in the HDF5 layout of D4RL (Fu et al., 2020): flat arrays, episodes told by flags. Book: offline/data."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ca14lib.data.dataset import OfflineDataset

REQUIRED = ("observations", "actions", "rewards", "terminals", "timeouts")
OPTIONAL = ("next_observations", "costs", "infos/action_log_probs")


def read(path: str | Path, environment_id: str | None = None) -> "OfflineDataset":
    """Read a D4RL-style HDF5 file and rebuild its episodes.

    The file holds ``observations [N, …]``, ``actions [N]`` or ``[N, D]``, ``rewards [N]``, ``terminals [N]`` and
    ``timeouts [N]``; ``next_observations [N, …]``, ``costs [N]`` or ``[N, K]`` and ``infos/action_log_probs [N]`` (the
    behaviour's log-probabilities) are used if they are there, other keys are left alone. An episode ends where
    ``terminals`` (a true end) or ``timeouts`` (a cut) is set, and with the file, which counts as a cut.

    Without ``next_observations`` the successor of a step is the next row of its episode. The last step of an episode
    has none then. At a true end nothing is ever bootstrapped from it, so the step is kept with its own observation
    in that place. At a cut the step is dropped, as D4RL's ``qlearning_dataset`` does, and the step before it becomes
    the truncated one; an episode of one step that was cut vanishes.

    Args:
        path: The file.
        environment_id: Gymnasium id of the environment, which gives the spaces. Without one, observations are taken
            as unbounded, and actions must be reals in [−1, 1], which is D4RL's convention.
    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: Naming the file and the key, if one is missing, is no array, or has the wrong shape or kind; if
            ``timeouts`` is missing, because cut episodes could then not be told from their successors; if no whole
            transition is left; or if the environment is unknown or its spaces do not fit the data.
    """
    import h5py

    from ca14lib.data.dataset import OfflineDataset

    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        with h5py.File(path, "r") as file:
            arrays = {key: file[key][()] if isinstance(file[key], h5py.Dataset) else None
                      for key in REQUIRED + OPTIONAL if key in file}  # fmt: skip
            found = ", ".join(sorted(file)) or "none"
    except (OSError, RuntimeError, KeyError) as error:
        raise ValueError(f"{path} cannot be read as HDF5: {error}") from error
    columns = _columns(path, arrays, found)
    observation_space, action_space = _spaces(path, columns, environment_id)
    try:
        return OfflineDataset(
            **_transitions(columns),  # type: ignore[arg-type]
            observation_space=observation_space,
            action_space=action_space,
            environment_id=environment_id,
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _columns(path: Path, arrays: Mapping[str, NDArray | None], found: str) -> dict[str, NDArray]:
    """The file's arrays, checked for presence, length and kind."""
    if "timeouts" not in arrays and all(key in arrays for key in REQUIRED[:-1]):
        raise ValueError(
            f"{path} has no 'timeouts': episodes cut by a time limit could not be told from the ones after them. "
            "Use a version of the data that has them (D4RL's -v2), or add a boolean array 'timeouts' that is true at "
            "the last step of every episode that was cut, all false if every episode has a true end"
        )
    for key in REQUIRED:
        if key not in arrays:
            raise ValueError(f"{path} has no {key!r}; expected {', '.join(REQUIRED)}, found {found}")
    columns: dict[str, NDArray] = {}
    for key, values in arrays.items():
        if values is None or np.ndim(values) == 0 or np.asarray(values).dtype.kind not in "biuf":
            raise ValueError(f"{path}: {key!r} must be an array of numbers")
        columns[key] = np.asarray(values)
    size = len(columns["rewards"])
    for key, values in columns.items():
        if len(values) != size:
            raise ValueError(f"{path}: {key!r} must have {size} rows like 'rewards', got {len(values)}")
    for key in ("rewards", "terminals", "timeouts", "infos/action_log_probs"):
        if key in columns and columns[key].ndim != 1:
            raise ValueError(f"{path}: {key!r} must have shape ({size},), got {columns[key].shape}")
    for key in ("terminals", "timeouts"):
        if not np.isin(columns[key], (0, 1)).all():
            raise ValueError(f"{path}: {key!r} must be flags, got {columns[key][~np.isin(columns[key], (0, 1))][0]}")
        columns[key] = columns[key].astype(bool)
    if "next_observations" in columns and columns["next_observations"].shape != columns["observations"].shape:
        raise ValueError(
            f"{path}: 'next_observations' must have the shape of 'observations', {columns['observations'].shape}, "
            f"got {columns['next_observations'].shape}"
        )
    return columns


def _spaces(path: Path, columns: Mapping[str, NDArray], environment_id: str | None) -> tuple[gym.Space, gym.Space]:
    if environment_id is not None:
        if environment_id not in gym.registry:
            raise ValueError(f"unknown environment id {environment_id!r}; see gymnasium.pprint_registry()")
        environment = gym.make(environment_id)
        environment.close()
        return environment.observation_space, environment.action_space
    action = columns["actions"]
    if action.dtype.kind != "f" or action.ndim != 2 or action.size == 0 or not (abs(action) <= 1).all():
        raise ValueError(
            f"{path}: 'actions' must be reals in [-1, 1] of shape [N, D], got {action.dtype} of shape {action.shape} "
            f"from {action.min(initial=0)} to {action.max(initial=0)}; otherwise pass the environment_id"
        )
    shape = columns["observations"].shape[1:]
    return gym.spaces.Box(-np.inf, np.inf, shape), gym.spaces.Box(-1.0, 1.0, action.shape[1:])


def _transitions(columns: Mapping[str, NDArray]) -> dict[str, NDArray]:
    """The columns of the dataset, without the steps whose successor is not known and matters."""
    terminated = columns["terminals"]
    last = terminated | columns["timeouts"]
    last[-1:] = True
    observation, size = columns["observations"], len(terminated)
    kept, truncated = np.ones(size, dtype=bool), last & ~terminated
    if "next_observations" in columns:
        following = columns["next_observations"]
    else:
        following = observation.copy()
        following[:-1][~last[:-1]] = observation[1:][~last[:-1]]
        kept, cut = ~truncated, truncated
        truncated = np.zeros(size, dtype=bool)
        truncated[:-1] = cut[1:] & ~last[:-1]
    if not kept.any():
        raise ValueError("no step has a successor; the data hold only cut episodes of one step")
    table = {
        "observation": observation, "action": columns["actions"], "reward": columns["rewards"],
        "next_observation": following, "terminated": terminated, "truncated": truncated,
    }  # fmt: skip
    if "costs" in columns:
        table["cost"] = columns["costs"].reshape(size, -1)
    if "infos/action_log_probs" in columns:
        table["behaviour_log_prob"] = columns["infos/action_log_probs"]
    return {name: values[kept] for name, values in table.items()}
