"""The batched implementation that every environment of the course builds on, and its single-environment view.

A batched environment steps ``num_envs`` independent copies with NumPy array operations. It is the implementation;
:class:`SingleEnvironment` is the ``num_envs=1`` view of the same object, so there is one dynamics and no twin code.
"""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from ca14lib.environments.tabular_model import TabularModel


def require_integer(name: str, value: Any, least: int) -> None:
    """Raise a ValueError that names the argument unless it is an integer of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise ValueError(f"{name} must be an integer, got {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")


class BatchedEnvironment(gym.vector.VectorEnv):
    """``num_envs`` copies of one environment, stepped together; autoreset mode ``SAME_STEP``.

    A subclass implements :meth:`_restart`, :meth:`_transition` and :meth:`_observe`, keeps its state in arrays of
    length ``num_envs``, and draws all randomness from ``self.np_random``.

    Args:
        num_envs: Number of copies, at least 1.
        observation_space: Observation space of one copy.
        action_space: Action space of one copy: ``Discrete`` from 0, or a bounded ``Box``.
        time_limit: Steps after which an episode is truncated, or None for no limit. The limit is an artefact of
            data collection: it sets ``truncated``, never ``terminated``, and is not observed.
        horizon: Steps after which an episode is over because the task says so, or None: it sets ``terminated``, and
            the subclass shows the remaining time in its observation (:meth:`_remaining`).
        render_mode: ``"rgb_array"`` or None.

    Raises:
        ValueError: If ``num_envs``, ``time_limit``, ``horizon`` or ``render_mode`` is out of range.
    """

    metadata = {
        "autoreset_mode": AutoresetMode.SAME_STEP,
        "render_modes": ["rgb_array"],
        "render_fps": 4,
    }

    def __init__(
        self,
        num_envs: int,
        observation_space: gym.Space,
        action_space: gym.spaces.Discrete | gym.spaces.Box,
        *,
        time_limit: int | None,
        horizon: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        require_integer("num_envs", num_envs, 1)
        if horizon is not None:
            require_integer("horizon (None for no limit)", horizon, 1)
        if time_limit is not None:
            require_integer("time_limit (None for no limit)", time_limit, 1)
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise ValueError(f"render_mode must be None or one of {self.metadata['render_modes']}, got {render_mode!r}")
        self.num_envs = num_envs
        self.single_observation_space = observation_space
        self.single_action_space = action_space
        self.observation_space = gym.vector.utils.batch_space(observation_space, num_envs)
        self.action_space = gym.vector.utils.batch_space(action_space, num_envs)
        self.time_limit, self.horizon = time_limit, horizon
        self.render_mode = render_mode
        self._elapsed = np.zeros(num_envs, dtype=np.int32)
        self._started = False

    # What a subclass provides

    def _restart(self, count: int, options: dict[str, Any] | None) -> Any:
        """Draw ``count`` initial states and return them, in the form that :meth:`_place` stores."""
        raise NotImplementedError

    def _place(self, where: NDArray[np.intp] | slice, states: Any) -> None:
        """Put initial states at the given copies."""
        raise NotImplementedError

    def _transition(self, action: NDArray) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Advance the state of every copy by one step; return reward ``[N]`` and terminated ``[N]``."""
        raise NotImplementedError

    def _observe(self) -> NDArray:
        """A fresh array ``[N, …]`` of what every copy's agent sees now."""
        raise NotImplementedError

    def _information(self) -> dict[str, Any]:
        """Arrays for ``info`` that describe the states after a step, before any automatic reset."""
        return {}

    def _frame(self, index: int) -> NDArray[np.uint8]:
        """RGB picture ``[height, width, 3]`` of one copy."""
        raise NotImplementedError

    def spawn(self, num_envs: int) -> "BatchedEnvironment":
        """A new environment of the same class and parameters with another number of copies.

        A subclass whose constructor takes other arguments overrides this.
        """
        raise NotImplementedError

    def tabular_model(self) -> TabularModel:
        """The exact model of this environment, for those small enough to enumerate."""
        raise ValueError(f"{type(self).__name__} has no tabular model: its states cannot be enumerated")

    def behaviours(self) -> dict[str, NDArray[np.float64]]:
        """The named behaviour policies as tables ``[S, A]`` over the states of :meth:`tabular_model`."""
        return {}

    def state_index(self, observation: NDArray) -> NDArray[np.intp]:
        """The model's state ``[N]`` that each observation ``[N, …]`` shows."""
        raise ValueError(f"{type(self).__name__} does not map observations to states")

    # What Gymnasium calls

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray, dict[str, Any]]:
        """Reset every copy. A seed makes all that follows reproducible for the same ``num_envs`` and actions."""
        super().reset(seed=seed)
        self._elapsed[:] = 0
        self._place(slice(None), self._restart(self.num_envs, options))
        self._started = True
        return self._observe(), self._information()

    def step(
        self, actions: NDArray
    ) -> tuple[NDArray, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Step every copy; a copy whose episode ends is reset in the same step.

        For those, ``info["final_obs"]`` holds the last observation of the ended episode (rows where
        ``info["_final_obs"]`` is true; the other rows equal the returned observation) and ``info["final_info"]``
        its other information, so no inserted reset step ever reaches a batch.
        """
        reward, terminated, truncated = self.advance(self._checked(actions))
        observation, info = self._observe(), self._information()
        ended = terminated | truncated
        where = np.flatnonzero(ended)
        if where.size:
            final, final_info = observation, info
            self._elapsed[where] = 0
            self._place(where, self._restart(where.size, None))
            observation, info = self._observe(), self._information()
            info["final_obs"], info["_final_obs"] = final, ended
            info["final_info"], info["_final_info"] = final_info, ended
        return observation, reward, terminated, truncated, info

    def _remaining(self) -> NDArray[np.float32]:
        """Share of the horizon that is left to every copy, ``[N]``, from 1 at the start to 0 at the end."""
        assert self.horizon is not None
        return ((self.horizon - self._elapsed) / self.horizon).astype(np.float32)

    def advance(self, action: NDArray) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
        """One step of the dynamics without automatic reset: the only place that truncates."""
        reward, terminated = self._transition(action)
        self._elapsed += 1
        if self.horizon is not None:
            terminated = terminated | (self._elapsed >= self.horizon)
        if self.time_limit is None:
            truncated = np.zeros(self.num_envs, dtype=np.bool_)
        else:
            truncated = self._elapsed >= self.time_limit
            truncated &= ~terminated
        return reward, terminated, truncated

    def render(self) -> tuple[NDArray[np.uint8], ...] | None:
        """One RGB frame ``[height, width, 3]`` per copy, or None without a render mode."""
        if self.render_mode is None:
            return None
        self._require_start()
        return tuple(self._frame(index) for index in range(self.num_envs))

    def _checked(self, actions: NDArray) -> NDArray:
        """The actions as integers or float64 within their bounds, or an error that says what is wrong with them."""
        self._require_start()
        actions = np.asarray(actions)
        space = self.single_action_space
        if isinstance(space, gym.spaces.Box):
            if actions.shape != (self.num_envs, *space.shape):
                raise ValueError(f"actions must have shape {(self.num_envs, *space.shape)}, got {actions.shape}")
            inside = (actions >= space.low) & (actions <= space.high)  # NaN is not
            if not inside.all():
                raise ValueError(f"actions must lie in {space}, got {actions[~inside][0]}")
            return actions.astype(np.float64, copy=False)
        assert isinstance(space, gym.spaces.Discrete)
        count = int(space.n)
        if actions.shape != (self.num_envs,):
            raise ValueError(f"actions must have shape ({self.num_envs},), got {actions.shape}")
        if actions.dtype.kind not in "iu":
            raise TypeError(f"actions must be integers, got dtype {actions.dtype}")
        # as unsigned, a negative action is a huge one: one pass checks both ends
        if actions.astype(np.uint64, copy=False).max() >= count:
            wrong = actions[(actions < 0) | (actions >= count)][0]
            raise ValueError(f"actions must lie in 0…{count - 1}, got {wrong}")
        return actions.astype(np.int64, copy=False)

    def _require_start(self) -> None:
        if not self._started:
            raise gym.error.ResetNeeded(f"call reset() before stepping or rendering {type(self).__name__}")


class SingleEnvironment(gym.Env):
    """The ``num_envs=1`` view of a batched environment: copies what it returns and never resets itself.

    Args:
        batched: The environment to view, with ``num_envs`` 1.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 4}  # read by gymnasium.make, before there is an instance

    def __init__(self, batched: BatchedEnvironment) -> None:
        if batched.num_envs != 1:
            raise ValueError(f"a single environment views one copy, got num_envs={batched.num_envs}")
        self.batched = batched
        self.observation_space = batched.single_observation_space
        self.action_space = batched.single_action_space
        self.render_mode = batched.render_mode
        self._ended = False

    @property
    def np_random(self) -> np.random.Generator:
        """The generator of the batched environment: there is only one."""
        self._np_random = self.batched.np_random
        return self._np_random

    @np_random.setter
    def np_random(self, generator: np.random.Generator) -> None:
        self._np_random = self.batched.np_random = generator
        self._np_random_seed = self.batched.np_random_seed

    @property
    def np_random_seed(self) -> int:
        """The seed of that generator, −1 if it was put in from outside."""
        self._np_random_seed = self.batched.np_random_seed
        return -1 if self._np_random_seed is None else self._np_random_seed

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode; see :meth:`BatchedEnvironment.reset`."""
        observation, info = self.batched.reset(seed=seed, options=options)
        self._np_random, self._np_random_seed = self.batched.np_random, self.batched.np_random_seed
        self._ended = False
        return _first(observation), _first_of_each(info)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One step.

        Raises:
            ValueError: If the action is out of range.
            gymnasium.error.ResetNeeded: If the episode has ended: this environment never resets itself.
        """
        if self._ended:
            raise gym.error.ResetNeeded("the episode has ended: call reset() before the next step")
        action = np.asarray(action)
        shape = self.action_space.shape or ()
        if action.size != np.prod(shape, dtype=int):
            raise ValueError(
                f"action must be one element of {self.action_space}, got shape {action.shape}"
                if shape
                else f"action must be one integer, got shape {action.shape}"
            )
        batched = self.batched
        reward, terminated, truncated = batched.advance(batched._checked(action.reshape(1, *shape)))
        self._ended = bool(terminated[0] or truncated[0])
        observation, info = batched._observe(), batched._information()
        return _first(observation), float(reward[0]), bool(terminated[0]), bool(truncated[0]), _first_of_each(info)

    def render(self) -> NDArray[np.uint8] | None:
        """RGB frame ``[height, width, 3]``, or None without a render mode."""
        frames = self.batched.render()
        return None if frames is None else frames[0]

    def tabular_model(self) -> TabularModel:
        """The exact model; see :class:`ca14lib.environments.TabularModel`."""
        return self.batched.tabular_model()


def _first(batch: NDArray) -> Any:
    """The only row of a batch, as a copy: a NumPy scalar for discrete observations."""
    return batch[0].copy()


def _first_of_each(info: dict[str, Any]) -> dict[str, Any]:
    return {key: value[0].copy() for key, value in info.items() if not key.startswith("_")}
