"""MuJoCo locomotion with a speed limit, as in Safety-Gymnasium (Ji et al., 2023). Book: safe/environments."""

from typing import Any

import gymnasium as gym
import numpy as np

# Safety-Gymnasium's version 1: task -> limit of the forward velocity in m/s
VELOCITY_LIMITS = {"Hopper": 0.7402, "HalfCheetah": 3.2096, "Swimmer": 0.2282}


class VelocityCost(gym.Wrapper, gym.utils.RecordConstructorArgs):
    """Adds ``info["cost"]``: 1.0 after a step whose forward velocity exceeds the limit, else 0.0 (0.0 at a reset).

    Forward velocity is the environment's ``info["x_velocity"]``: the torso's displacement along the x axis divided by
    the time of the step. All three tasks are judged by it, Swimmer too, which moves in a plane; sideways and backward
    motion is free.

    Args:
        env: An environment whose ``info`` holds ``"x_velocity"`` after a step.
        limit: m/s, positive.

    Raises:
        ValueError: If the limit is not positive, or, at a step, if there is no such entry.
    """

    def __init__(self, env: gym.Env, limit: float) -> None:
        if not (np.isfinite(limit) and limit > 0.0):
            raise ValueError(f"limit must be a positive velocity in m/s, got {limit}")
        gym.utils.RecordConstructorArgs.__init__(self, limit=limit)
        gym.Wrapper.__init__(self, env)
        self.limit = float(limit)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        return observation, info | {"cost": 0.0}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        if "x_velocity" not in info:
            raise ValueError(f"VelocityCost needs info['x_velocity'] after a step, got {', '.join(info) or 'no entry'}")
        # MuJoCo tasks may hand out NumPy scalars: vector environments want Python's float
        cost = float(info["x_velocity"] > self.limit)
        return observation, float(reward), terminated, truncated, info | {"cost": cost}


def velocity_environment(task: str, limit: float | None = None, **arguments: Any) -> gym.Env:
    """What stands behind ``CA14/HopperVelocity-v0``, ``CA14/HalfCheetahVelocity-v0``, ``CA14/SwimmerVelocity-v0``.

    Each published limit is half of the greatest speed of a PPO agent trained there without a limit for 10 million steps
    (documentation of Safety-Gymnasium). The usual budget is a cost of 25 in an episode of 1,000 steps.
    ``gymnasium.make`` with the course's ids truncates after 1,000 steps, an artefact.

    The tasks stand on Gymnasium's version 5, Safety-Gymnasium's on version 4. Positions, velocities and actions are the
    same. Version 5 pays Hopper's ``healthy_reward`` of 1 only in steps after which it is healthy, version 4 also in the
    step in which it falls: a return is 1 lower in an episode that ends with a fall.

    Args:
        task: ``"Hopper"``, ``"HalfCheetah"`` or ``"Swimmer"``.
        limit: Velocity in m/s from which a step costs 1; the published one by default.
        arguments: Keyword arguments of Gymnasium's environment.

    Raises:
        ValueError: If the task is unknown or the limit not positive.
    """
    if task not in VELOCITY_LIMITS:
        raise ValueError(f"unknown task {task!r}; there are {', '.join(VELOCITY_LIMITS)}")
    # without Gymnasium's own wrappers: the outer `make` adds the time limit and the checks once
    environment = gym.make(f"{task}-v5", disable_env_checker=True, **arguments).unwrapped
    return VelocityCost(environment, VELOCITY_LIMITS[task] if limit is None else limit)
