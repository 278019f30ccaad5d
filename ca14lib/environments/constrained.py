"""Costs for environments that have none, and converters from and to Safety-Gymnasium's interface.

Book: safe/environments.
"""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import ArrayLike, NDArray

CostFunction = Callable[[Any, Any, Any, dict[str, Any]], ArrayLike]


def checked_cost(cost: ArrayLike, shape: tuple[int, ...] | None = None) -> NDArray[np.float64]:
    """The cost of a step as an array of float64, ``[]`` or ``[K]``.

    Args:
        cost: One number or K numbers.
        shape: Shape that earlier steps had, if any.

    Raises:
        ValueError: Naming the value, if it is not numeric, not finite, negative, or of another shape.
    """
    try:
        array = np.asarray(cost, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"a cost must be a number or a vector of numbers, got {cost!r}") from None
    if array.ndim > 1 or array.size == 0:
        raise ValueError(f"a cost must be a number or a vector [K] with K of at least 1, got shape {array.shape}")
    if not (np.isfinite(array) & (array >= 0.0)).all():
        raise ValueError(f"costs must be finite and not negative, got {cost!r}")
    if shape is not None and array.shape != shape:
        raise ValueError(f"costs must keep their shape {shape} from step to step, got shape {array.shape}")
    return array


class CostWrapper(gym.Wrapper, gym.utils.RecordConstructorArgs):
    """Any Gymnasium environment plus a cost function is a constrained problem with ``info["cost"]``.

    Args:
        env: The environment, in Gymnasium's five-tuple interface.
        cost_function: Called after each step with ``(observation, action, next_observation, info)``, where ``info`` is
            that of the step. It returns what the step cost, a number or K numbers, finite and not negative; K is fixed
            by the first call. At a reset the cost is 0.
        num_costs: K if it must be known before the first step, 1 for a plain number; None to take it from the first
            call (until then a reset reports no cost).

    Raises:
        ValueError: At a step, naming the value, if the cost is not what was asked for.
    """

    def __init__(self, env: gym.Env, cost_function: CostFunction, num_costs: int | None = None) -> None:
        if not callable(cost_function):
            raise ValueError(f"cost_function must be a function, got {type(cost_function).__name__}")
        if num_costs is not None and (isinstance(num_costs, bool) or not isinstance(num_costs, int) or num_costs < 1):
            raise ValueError(f"num_costs must be a positive integer or None, got {num_costs!r}")
        gym.utils.RecordConstructorArgs.__init__(self, cost_function=cost_function, num_costs=num_costs)
        gym.Wrapper.__init__(self, env)
        self.cost_function = cost_function
        self._shape: tuple[int, ...] | None = None if num_costs is None else (() if num_costs == 1 else (num_costs,))
        self._observation: Any = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self._observation, info = self.env.reset(seed=seed, options=options)
        if self._shape is not None:
            info = info | {"cost": _given(np.zeros(self._shape))}
        return self._observation, info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        following, reward, terminated, truncated, info = self.env.step(action)
        cost = checked_cost(self.cost_function(self._observation, action, following, info), self._shape)
        self._shape, self._observation = cost.shape, following
        return following, float(reward), terminated, truncated, info | {"cost": _given(cost)}


class VectorCostWrapper(gym.vector.VectorWrapper):
    """:class:`CostWrapper` for a vector environment: the cost function sees and returns batches.

    Args:
        env: A vector environment that resets itself in the step that ends an episode (autoreset mode ``SAME_STEP``).
        cost_function: Called with ``(observation [N, …], actions [N, …], next_observation [N, …], info)``, where
            ``next_observation`` and ``info`` are those of the step, also for a copy whose episode ended and that shows
            its next one by now. It returns costs ``[N]`` or ``[N, K]``.

    Raises:
        ValueError: If the environment resets itself otherwise; at a step, naming the value, if a cost is not finite or
            negative, or the shape is not ``[N]`` or ``[N, K]`` with a constant K.
    """

    def __init__(self, env: gym.vector.VectorEnv, cost_function: CostFunction) -> None:
        if not callable(cost_function):
            raise ValueError(f"cost_function must be a function, got {type(cost_function).__name__}")
        mode = env.metadata.get("autoreset_mode")
        if mode is not AutoresetMode.SAME_STEP:
            raise ValueError(f"VectorCostWrapper needs autoreset mode SAME_STEP, got {mode}")
        super().__init__(env)
        self.cost_function = cost_function
        self._shape: tuple[int, ...] | None = None
        self._observation: Any = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        self._observation = np.array(observation)
        if self._shape is not None:
            info = info | {"cost": np.zeros(self._shape)}
        return observation, info

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(actions)
        ended = terminated | truncated
        following = np.array(observation)
        for index in np.flatnonzero(ended):
            following[index] = info["final_obs"][index]
        cost = np.asarray(self.cost_function(self._observation, actions, following, _of_step(info, ended)), np.float64)
        if cost.ndim not in (1, 2) or len(cost) != self.num_envs or cost.size == 0:
            raise ValueError(f"costs must have shape [{self.num_envs}] or [{self.num_envs}, K], got {cost.shape}")
        if self._shape is not None and cost.shape != self._shape:
            raise ValueError(f"costs must keep their shape {self._shape} from step to step, got shape {cost.shape}")
        wrong = ~(np.isfinite(cost) & (cost >= 0.0))
        if wrong.any():
            raise ValueError(f"costs must be finite and not negative, got {cost[wrong][0]}")
        self._shape, self._observation = cost.shape, np.array(observation)
        info = dict(info)
        if ended.any():
            info["final_info"] = dict(info.get("final_info", {})) | {"cost": cost, "_cost": ended}
            info["_final_info"] = ended
        # of the state that is shown now: a fresh episode has cost nothing yet
        info["cost"] = np.where(ended.reshape(-1, *[1] * (cost.ndim - 1)), 0.0, cost)
        return observation, reward, terminated, truncated, info


def _of_step(info: dict[str, Any], ended: NDArray[np.bool_]) -> dict[str, Any]:
    """The info of a step: for copies whose episode ended it lies in ``final_info``, and the rest is of the next one."""
    if not ended.any() or "final_info" not in info:
        return info
    found = {name: value for name, value in info.items() if name not in ("final_info", "_final_info", "final_obs")}
    for name, final in info["final_info"].items():
        ended_value, other = np.asarray(final), np.asarray(found.get(name, final))
        if ended_value.ndim and len(ended_value) == len(ended) and other.shape == ended_value.shape:
            at = ended.reshape(-1, *[1] * (ended_value.ndim - 1))
            found[name] = np.where(at, ended_value, other)
        else:
            found[name] = final
    return found


class _FromSafetyGymnasium(gym.Env):
    """A six-tuple environment seen through Gymnasium's five-tuple interface."""

    def __init__(self, environment: Any) -> None:
        self.source = environment
        self.observation_space, self.action_space = environment.observation_space, environment.action_space
        self.metadata = getattr(environment, "metadata", {"render_modes": []})
        self.render_mode = getattr(environment, "render_mode", None)
        self._shape: tuple[int, ...] | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        observation, info = self.source.reset(seed=seed, options=options)
        return observation, dict(info)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        result = self.source.step(action)
        if not isinstance(result, tuple) or len(result) != 6:
            length = len(result) if isinstance(result, tuple) else type(result).__name__
            raise ValueError(
                f"step must return (observation, reward, cost, terminated, truncated, info), six in all, got {length}"
            )
        observation, reward, cost, terminated, truncated, info = result
        cost = checked_cost(cost, self._shape)
        self._shape = cost.shape
        return observation, float(reward), bool(terminated), bool(truncated), dict(info) | {"cost": _given(cost)}

    def render(self) -> Any:
        return self.source.render()

    def close(self) -> None:
        self.source.close()


class _ToSafetyGymnasium:
    """A Gymnasium environment with ``info["cost"]`` seen through the six-tuple interface; all else is passed on."""

    def __init__(self, environment: gym.Env) -> None:
        self.source = environment
        self._shape: tuple[int, ...] | None = None

    def __getattr__(self, name: str) -> Any:
        if name == "source":  # while unpickling there is none yet
            raise AttributeError(name)
        return getattr(self.source, name)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        return self.source.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, float, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.source.step(action)
        if "cost" not in info:
            raise ValueError(
                f"the step's info has no 'cost', only {', '.join(info) or 'nothing'}: CostWrapper adds one"
            )
        cost = checked_cost(info["cost"], self._shape)
        self._shape = cost.shape
        return observation, float(reward), _given(cost), terminated, truncated, info


def from_safety_gymnasium(environment: Any) -> gym.Env:
    """A Gymnasium environment with ``info["cost"]`` from one with Safety-Gymnasium's interface.

    Args:
        environment: An object with ``observation_space``, ``action_space``, ``reset(seed=, options=)`` and a ``step``
            that returns ``(observation, reward, cost, terminated, truncated, info)``.
    Returns:
        The same in five values: the cost moves into ``info["cost"]``, and whatever stood there before is replaced.

    Raises:
        ValueError: At a step, if it does not return six values, or the cost is negative or not finite.
    """
    return _FromSafetyGymnasium(environment)


def to_safety_gymnasium(environment: gym.Env) -> Any:
    """An environment with Safety-Gymnasium's six-value ``step`` from a Gymnasium environment with ``info["cost"]``.

    Args:
        environment: Reports its cost at every step; :class:`CostWrapper` makes one from any environment.
    Returns:
        An object whose ``step`` returns ``(observation, reward, cost, terminated, truncated, info)``; its other
        attributes are the environment's.

    Raises:
        ValueError: At a step, if ``info`` has no cost, or the cost is negative or not finite.
    """
    return _ToSafetyGymnasium(environment)


def _given(cost: NDArray[np.float64]) -> Any:
    """A Python float for a single cost, else an array: what vector environments can stack."""
    return float(cost) if cost.ndim == 0 else cost
