"""Any Gymnasium environment as a vector environment whose step never hides the last observation of an episode."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray


def vector_environment(environment_id: str, num_envs: int, **arguments: Any) -> VectorEnv:
    """Copies of an environment that reset themselves in the step that ends an episode.

    Args:
        environment_id: Gymnasium id; environments of the course come batched.
        num_envs: Number of copies, at least 1.
        arguments: Keyword arguments of the environment.
    Raises:
        ValueError: If the id is unknown.
    """
    if environment_id not in gym.registry:
        raise ValueError(f"unknown environment id {environment_id!r}; see gymnasium.pprint_registry()")
    if num_envs < 1:
        raise ValueError(f"num_envs must be at least 1, got {num_envs}")
    if gym.spec(environment_id).vector_entry_point is not None and environment_id.startswith("CA14/"):
        return gym.make_vec(environment_id, num_envs=num_envs, **arguments)
    return gym.make_vec(
        environment_id,
        num_envs=num_envs,
        vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP},
        **arguments,
    )


def successors(following: NDArray, ended: NDArray[np.bool_], info: dict[str, Any]) -> NDArray:
    """What each environment showed after its step and before any reset, ``[N, …]``.

    Args:
        following: What the vector environment's step returned.
        ended: ``[N]``, environments whose episode ended in this step.
        info: Its info, with ``final_obs`` for those.
    """
    if not ended.any():
        return following
    found = following.copy()
    for index in np.flatnonzero(ended):
        found[index] = info["final_obs"][index]
    return found
