"""SafeDriving: motorway traffic with the costs of a crash and of speeding. Book: safe/environments.

The simulator is highway-env (E. Leurent, 2018), the optional extra ``applications``.
"""

from typing import Any

import gymnasium as gym
import numpy as np

SOURCE_ID = "highway-fast-v0"
CONFIGURATION = {"vehicles_count": 12, "duration": 20}  # other cars; seconds, of one decision each
SPEED_LIMIT = 25.0  # m/s


class DrivingCost(gym.Wrapper, gym.utils.RecordConstructorArgs):
    """Adds ``info["cost"]``, shape ``[2]``: 1 for a crash, and 1 for a step that ends above the speed limit.

    Both are 0 at a reset. highway-env's own info stays beside it, but for nested dictionaries and Python objects that
    a vector environment cannot stack.

    Args:
        env: A highway-env environment: its ``info`` holds ``"crashed"`` and ``"speed"`` (m/s).
        speed_limit: m/s, positive.

    Raises:
        ValueError: If the limit is not positive.
    """

    def __init__(self, env: gym.Env, speed_limit: float = SPEED_LIMIT) -> None:
        if not (np.isfinite(speed_limit) and speed_limit > 0.0):
            raise ValueError(f"speed_limit must be a positive speed in m/s, got {speed_limit}")
        gym.utils.RecordConstructorArgs.__init__(self, speed_limit=speed_limit)
        gym.Wrapper.__init__(self, env)
        self.speed_limit = float(speed_limit)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        return observation, self._information(info, np.zeros(2))

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        cost = np.array([info["crashed"], info["speed"] > self.speed_limit], dtype=np.float64)
        return observation, float(reward), bool(terminated), bool(truncated), self._information(info, cost)

    @staticmethod
    def _information(info: dict[str, Any], cost: np.ndarray) -> dict[str, Any]:
        return {"speed": float(info["speed"]), "crashed": bool(info["crashed"]), "cost": cost}


def driving_environment(
    *,
    speed_limit: float = SPEED_LIMIT,
    config: dict[str, Any] | None = None,
    source: str = SOURCE_ID,
    render_mode: str | None = None,
) -> gym.Env:
    """``CA14/SafeDriving-v0``: three lanes of slower traffic, one decision a second, at most 20.

    Observations ``[5, 5]`` are the own car and the four nearest, each with presence, position and speed, those of
    others relative to the own. Actions are lane left, keep, lane right, faster, slower; the speeds that a driver can
    hold are 20, 25 and 30 m/s. A second pays up to 1: more at 30 m/s than at 20, more on the right lane, nothing for a
    crash, which ends the episode (``terminated``). The 20 seconds are an artefact (``truncated``).

    The reward pays for what the second cost forbids: 30 m/s is above the limit of 25.

    Args:
        speed_limit: m/s from which a step costs 1.
        config: Changes to highway-env's configuration, on top of 12 other cars and 20 seconds.
        source: highway-env's id, ``"highway-fast-v0"`` or ``"highway-v0"``.
        render_mode: ``"rgb_array"`` or None.

    Raises:
        ImportError: If highway-env is not installed, with the command that installs it.
        ValueError: If the limit is not positive or the source is not a motorway of highway-env.
    """
    try:
        import highway_env  # noqa: F401, registers the environments
    except ImportError as error:
        raise ImportError(
            "CA14/SafeDriving-v0 needs highway-env: pip install 'ca14lib[applications]' or pip install highway-env"
        ) from error
    if source not in ("highway-v0", "highway-fast-v0"):
        raise ValueError(f"source must be 'highway-v0' or 'highway-fast-v0', got {source!r}")
    inner = gym.make(
        source, config=CONFIGURATION | (config or {}), render_mode=render_mode, disable_env_checker=True
    ).unwrapped
    return DrivingCost(inner, speed_limit)
