"""Any Gymnasium environment as a vector environment that hides no episode's last observation and no cost."""

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray


class _RealCost(gym.Wrapper):
    """Costs as real numbers: Gymnasium gives a batch the type of the first copy's, and beside a 0 a 0.7 becomes 0."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        return observation, self._real(info)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, reward, terminated, truncated, self._real(info)

    def _real(self, info: dict[str, Any]) -> dict[str, Any]:
        if "cost" not in info:
            return info
        try:
            cost = np.asarray(info["cost"], dtype=np.float64)
        except (TypeError, ValueError):
            raise ValueError(f"info['cost'] must be a number or K numbers, got {info['cost']!r}") from None
        return info | {"cost": cost if cost.ndim else float(cost)}


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
        wrappers=(_RealCost,),
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


def step_cost(info: Mapping[str, Any], ended: NDArray[np.bool_]) -> NDArray[np.float64] | None:
    """The costs ``[N, K]`` of a vector environment's step, those of ended episodes too; None if a copy reports none.

    Args:
        info: The info of the step.
        ended: ``[N]``, copies whose episode ended in this step.
    """
    cost: NDArray[np.float64] | None = None
    for reports, copies in ((info.get("final_info", {}), ended), (info, ~ended)):
        if copies.any():
            # Gymnasium fills in 0 for copies that reported nothing, and says so in the mask
            if "cost" not in reports or not np.asarray(reports.get("_cost", copies))[copies].all():
                return None
            found = np.asarray(reports["cost"], dtype=np.float64).reshape(len(ended), -1)
            cost = found if cost is None else np.where(ended[:, None], cost, found)
    return cost
