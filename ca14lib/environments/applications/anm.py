"""ANM6-Easy of gym-anm (Henry and Ernst, 2021) as an environment of the course. Book: evaluation/energy.

A distribution grid of six buses with renewable generators, loads and one storage unit, of which one operator has to
keep voltages and currents within their limits. The library is optional, the extra ``energy``.
"""

from importlib import import_module
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

INSTALL = 'pip install "ca14lib[energy]"'
DAY = 96  # steps of a quarter of an hour


def require_anm() -> Any:
    """The module ``gym_anm``.

    Raises:
        ImportError: If it is not installed; the message says how to install it.
    """
    try:
        return import_module("gym_anm")
    except ImportError as problem:
        raise ImportError(f"ANM6-Easy needs gym-anm ({problem}): {INSTALL}") from problem


class GridOperator(gym.Wrapper, gym.utils.RecordConstructorArgs):
    r"""A task of gym-anm with what the course asks of an environment: scaled observations, a limit of time, a cost.

    **Observation**: the task's, as float32, each number scaled from its bounds to [−1, 1]. **Action**: the task's, as
    float32: active powers in MW and reactive powers in MVAr of generators and storage. **Reward**: the task's, minus
    the energy lost, at most 1, and a weighted violation of limits, at most 100, except that a collapse of the grid,
    which ends the episode and which the task pays with −20,000, pays ``collapse_reward``.
    **Time**: the grid runs for ever; after ``time_limit`` steps the episode is truncated.
    **Starts**: ``reset(options={"hour": h})`` draws starts until one is in the hour h of the day.

    ``info["cost"]`` is the weighted violation of limits in the step, at least 0, which is a part of the reward;
    ``info["energy_loss"]`` the other part. A collapse costs :math:`100`, the largest value of one step.

    Args:
        env: The task: it offers ``observation_space``, ``action_space``, and, after a step, ``e_loss`` and ``penalty``.
        time_limit: Steps of an episode, positive.
        collapse_reward: Negative.
        reward_scale: Factor of all rewards, positive, for training.

    Raises:
        ValueError: If an argument is out of range, or the task's spaces are not bounded boxes.
    """

    def __init__(
        self, env: gym.Env, time_limit: int = DAY, collapse_reward: float = -200.0, reward_scale: float = 1.0
    ) -> None:
        if isinstance(time_limit, bool) or not isinstance(time_limit, int) or time_limit < 1:
            raise ValueError(f"time_limit must be a positive integer, got {time_limit!r}")
        if not (np.isfinite(collapse_reward) and collapse_reward < 0):
            raise ValueError(f"collapse_reward must be negative and finite, got {collapse_reward}")
        if not (np.isfinite(reward_scale) and reward_scale > 0):
            raise ValueError(f"reward_scale must be positive and finite, got {reward_scale}")
        for name, space in (("observations", env.observation_space), ("actions", env.action_space)):
            if not isinstance(space, gym.spaces.Box) or not space.is_bounded("both"):
                raise ValueError(f"the grid's {name} must be a bounded Box, got {space}")
        gym.utils.RecordConstructorArgs.__init__(
            self, time_limit=time_limit, collapse_reward=collapse_reward, reward_scale=reward_scale
        )
        gym.Wrapper.__init__(self, env)
        self.time_limit, self._elapsed = time_limit, 0
        self.collapse_reward, self.reward_scale = float(collapse_reward), float(reward_scale)
        seen, done = env.observation_space, env.action_space
        assert isinstance(seen, gym.spaces.Box)
        assert isinstance(done, gym.spaces.Box)
        self._low, self._high, self._actions = seen.low, seen.high, done
        self._range = np.maximum(self._high - self._low, 1e-9)
        self.observation_space = gym.spaces.Box(-1.0, 1.0, seen.shape, np.float32)
        self.action_space = gym.spaces.Box(done.low.astype(np.float32), done.high.astype(np.float32), dtype=np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        observation, _ = self.env.reset(seed=seed)
        hour = (options or {}).get("hour")
        if hour is not None:
            if not 0 <= hour < 24:
                raise ValueError(f"hour must lie in [0, 24), got {hour}")
            while int(observation[-1] // (DAY // 24)) != int(hour):
                observation, _ = self.env.reset()
        self._elapsed = 0
        return self._scaled(observation), {"cost": 0.0, "energy_loss": 0.0}

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        executed = np.clip(np.asarray(action, dtype=np.float64), self._actions.low, self._actions.high)
        observation, reward, terminated, _, _ = self.env.step(executed)
        self._elapsed += 1
        grid: Any = self.env.unwrapped
        cost, loss = (100.0, 0.0) if terminated else (float(grid.penalty), float(grid.e_loss))
        paid = self.reward_scale * (self.collapse_reward if terminated else float(reward))
        truncated = self._elapsed >= self.time_limit and not terminated
        return self._scaled(observation), paid, bool(terminated), truncated, {"cost": cost, "energy_loss": loss}

    def _scaled(self, observation: NDArray) -> NDArray[np.float32]:
        share = (np.asarray(observation, dtype=np.float64) - self._low) / self._range
        return np.clip(2.0 * share - 1.0, -1.0, 1.0).astype(np.float32)


def grid_operator(time_limit: int = DAY, collapse_reward: float = -200.0, reward_scale: float = 1.0) -> GridOperator:
    """ANM6-Easy, ready for the course's agents.

    Args:
        time_limit: Steps of an episode.
        collapse_reward: What the end of the grid pays.
        reward_scale: Factor of all rewards.
    Raises:
        ImportError: If gym-anm is not installed; the message says how to install it.
    """
    require_anm()
    from gym_anm.envs import ANM6Easy

    return GridOperator(ANM6Easy(), time_limit, collapse_reward, reward_scale)


def model_predictive_agent(
    environment: GridOperator, forecast: str, *, planning_steps: int, safety_margin: float
) -> Any:
    """The controllers of gym-anm's authors: an optimal power flow over some steps in the DC approximation.

    Args:
        environment: The grid.
        forecast: ``"constant"``, what is measured now goes on; or ``"perfect"``, the true series of the day.
        planning_steps: Steps looked ahead.
        safety_margin: Share of each line's rating that the plan may use.
    Returns:
        A function without arguments: the action for the grid as it stands.
    Raises:
        ValueError: If there is no such forecast.
        ImportError: If gym-anm is not installed.
    """
    if forecast not in ("constant", "perfect"):
        raise ValueError(f"forecast must be 'constant' or 'perfect', got {forecast!r}")
    library, grid = require_anm(), environment.unwrapped
    agents = {"constant": library.MPCAgentConstant, "perfect": library.MPCAgentPerfect}
    agent = agents[forecast](grid.simulator, grid.action_space, grid.gamma, safety_margin, planning_steps)  # type: ignore[attr-defined]
    return lambda: agent.act(grid)
