"""Perturbations of what an agent sees, does and is paid, for one environment or many. Book: robust/environments.

A perturbation is a small frozen description, such as ``ObservationNoise(0.1)``. Two wrappers apply a sequence of them,
:class:`Perturbed` to a single environment and :class:`PerturbedVector` to copies that reset themselves, through the
same functions on batches. ``CA14/Perturbed-v0`` makes an environment by its id and wraps it, so that training loops,
which take an id, can use it::

    gymnasium.make("CA14/Perturbed-v0", environment="CA14/CartPoleDomain-v0", perturbations=(ActionFailure(0.1),))

The first perturbation is nearest to the environment: observations and rewards pass from the first to the last, actions
from the last to the first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from ca14lib.environments.batched import BatchedEnvironment, SingleEnvironment, require_integer

Rows = NDArray[np.intp]
Failure = Literal["repeat", "noop", "random"]

PERTURBATION_STREAM = 4_140_000  # keeps the perturbations' generator apart from the environment's


class Memory:
    """What a perturbation remembers of N copies: arrays by name, made when they are first asked for.

    Args:
        copies: N.
    """

    def __init__(self, copies: int) -> None:
        self.copies = copies
        self._arrays: dict[str, NDArray] = {}

    def array(self, name: str, shape: tuple[int, ...] = (), dtype: Any = np.float64) -> NDArray:
        """``[N, *shape]``, zeros at first."""
        if name not in self._arrays:
            self._arrays[name] = np.zeros((self.copies, *shape), dtype)
        return self._arrays[name]


@dataclass(frozen=True)
class Perturbation:
    """What is done to a batch; by default nothing.

    Functions that get ``rows`` are for those copies, and their batches have as many rows; the others are for all.
    """

    def check(self, environment: Any) -> None:
        """Raise a ValueError if it cannot be applied there."""

    def observation_space(self, space: gym.Space) -> gym.Space:
        """The space of the observations that the agent sees, for one copy."""
        return space

    def begin(self, memory: Memory, rows: Rows, domain: Any) -> None:
        """A new episode in some copies, before its first observation."""

    def before(self, memory: Memory, domain: Any) -> None:
        """A step of all copies is about to be made."""

    def action(self, action: NDArray, memory: Memory, space: gym.Space, rng: np.random.Generator) -> NDArray:
        """What is executed in all copies, ``[N, …]``."""
        return action

    def reward(self, reward: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
        """What all copies are paid, ``[N]``."""
        return reward

    def observation(
        self, observation: NDArray, memory: Memory, rows: Rows, start: bool, rng: np.random.Generator
    ) -> NDArray:
        """What the agents of some copies see, ``[n, …]``; ``start`` for the first observation of an episode."""
        return observation


def _require_share(name: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:  # NaN is not
        raise ValueError(f"{name} must lie in [0, 1], got {value}")


def _require_deviation(name: str, value: float) -> None:
    if not (np.isfinite(value) and value >= 0.0):
        raise ValueError(f"{name} must be finite and at least 0, got {value}")


def _require_finite(name: str, value: float) -> None:
    if not np.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value}")


# Observations


@dataclass(frozen=True)
class ObservationNoise(Perturbation):
    r"""Adds :math:`\epsilon\sim\mathcal N(0,\sigma^2)` to every number of an observation (book eq. domain-noise).

    A noisy observation leaves the bounds of its space, so the space becomes the whole line, at ``std=0`` as well: an
    agent fits every level. Cutting it back would move its mean where a bound is near.

    Args:
        std: :math:`\sigma`, in the units of the observation, at least 0.
    """

    std: float

    def __post_init__(self) -> None:
        _require_deviation("std", self.std)

    def check(self, environment: Any) -> None:
        space = _spaces(environment)[0]
        if not isinstance(space, gym.spaces.Box) or not np.issubdtype(space.dtype, np.floating):
            raise ValueError(f"ObservationNoise needs a Box of real observations, got {space}")

    def observation_space(self, space: gym.Space) -> gym.Space:
        return gym.spaces.Box(-np.inf, np.inf, space.shape, dtype=space.dtype)  # type: ignore[arg-type]

    def observation(
        self, observation: NDArray, memory: Memory, rows: Rows, start: bool, rng: np.random.Generator
    ) -> NDArray:
        noise = self.std * rng.standard_normal(observation.shape)
        return (observation + noise).astype(observation.dtype)


@dataclass(frozen=True)
class DroppedObservations(Perturbation):
    """With a probability, the agent is shown again what it saw last; the first observation of an episode arrives.

    Args:
        probability: In [0, 1], independent from step to step.
    """

    probability: float

    def __post_init__(self) -> None:
        _require_share("probability", self.probability)

    def observation(
        self, observation: NDArray, memory: Memory, rows: Rows, start: bool, rng: np.random.Generator
    ) -> NDArray:
        if not start:
            lost = rng.random(len(rows)) < self.probability
            observation = np.where(_columns(lost, observation), self._held(memory, observation)[rows], observation)
        self._held(memory, observation)[rows] = observation
        return observation

    @staticmethod
    def _held(memory: Memory, like: NDArray) -> NDArray:
        """What was shown last, ``[N, …]``."""
        return memory.array("held", like.shape[1:], like.dtype)


@dataclass(frozen=True)
class DelayedObservations(Perturbation):
    """The agent sees what was the case some steps ago; until then, the first observation of the episode.

    Args:
        steps: At least 0.
    """

    steps: int

    def __post_init__(self) -> None:
        require_integer("steps", self.steps, 0)

    def observation(
        self, observation: NDArray, memory: Memory, rows: Rows, start: bool, rng: np.random.Generator
    ) -> NDArray:
        line = memory.array("line", (self.steps + 1, *observation.shape[1:]), observation.dtype)
        if start:
            line[rows] = observation[:, None]
        else:
            line[rows] = np.concatenate([line[rows, 1:], observation[:, None]], axis=1)
        return line[rows, 0]


# Actions


@dataclass(frozen=True)
class ActionFailure(Perturbation):
    """With a probability, something else is executed than what the agent chose.

    Args:
        probability: In [0, 1], independent from step to step.
        mode: ``"repeat"``: what was executed in the step before, in the first step what was chosen. ``"noop"``:
            nothing, zeros for a ``Box``, ``noop`` for ``Discrete`` actions. ``"random"``: uniform over the actions.
        noop: The discrete action that does nothing, for ``"noop"``.
    """

    probability: float
    mode: Failure = "random"
    noop: int | None = None

    def __post_init__(self) -> None:
        _require_share("probability", self.probability)
        if self.mode not in get_args(Failure):
            raise ValueError(f"mode must be one of {', '.join(get_args(Failure))}, got {self.mode!r}")

    def check(self, environment: Any) -> None:
        space = _spaces(environment)[1]
        if isinstance(space, gym.spaces.Box):
            if self.mode != "repeat" and not space.is_bounded():
                raise ValueError(f"ActionFailure needs bounded actions for mode {self.mode!r}, got {space}")
            if self.mode == "noop" and not ((space.low <= 0.0) & (space.high >= 0.0)).all():
                raise ValueError(f"mode 'noop' executes zeros, which do not lie in {space}")
        elif not isinstance(space, gym.spaces.Discrete):
            raise ValueError(f"ActionFailure needs Discrete or Box actions, got {space}")
        elif self.mode == "noop" and (self.noop is None or not space.contains(np.int64(self.noop))):
            raise ValueError(f"mode 'noop' needs noop, the action of {space} that does nothing, got {self.noop!r}")

    def begin(self, memory: Memory, rows: Rows, domain: Any) -> None:
        memory.array("going", dtype=np.bool_)[rows] = False

    def action(self, action: NDArray, memory: Memory, space: gym.Space, rng: np.random.Generator) -> NDArray:
        failed = rng.random(len(action)) < self.probability
        before = memory.array("executed", action.shape[1:], action.dtype)
        going = memory.array("going", dtype=np.bool_)
        instead: NDArray
        if self.mode == "repeat":
            instead = np.where(_columns(going, action), before, action)
        elif isinstance(space, gym.spaces.Box):
            random = self.mode == "random"
            instead = rng.uniform(space.low, space.high, action.shape) if random else np.zeros(action.shape)
        else:
            assert isinstance(space, gym.spaces.Discrete)
            first = int(space.start)
            drawn = rng.integers(first, first + int(space.n), len(action))
            instead = drawn if self.mode == "random" else np.full(len(action), self.noop)
        executed = np.where(_columns(failed, action), instead, action).astype(action.dtype)
        before[:], going[:] = executed, True
        return executed


# Rewards


@dataclass(frozen=True)
class RewardNoise(Perturbation):
    """Adds normal noise to every reward, so that returns vary and their mean stays.

    Args:
        std: In the units of the reward, at least 0.
    """

    std: float

    def __post_init__(self) -> None:
        _require_deviation("std", self.std)

    def reward(self, reward: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
        return reward + self.std * rng.standard_normal(len(reward))


@dataclass(frozen=True)
class RewardShift(Perturbation):
    """Pays ``scale * reward + shift`` (book eq. domain-reward).

    A positive scale changes no optimal policy. A shift can where an episode's length depends on the policy: it pays
    for, or charges, every step.

    Args:
        scale: Finite; a negative one turns the task into its opposite.
        shift: Finite, per step.
    """

    scale: float = 1.0
    shift: float = 0.0

    def __post_init__(self) -> None:
        _require_finite("scale", self.scale)
        _require_finite("shift", self.shift)

    def reward(self, reward: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
        return self.scale * reward + self.shift


# Physical parameters, of environments that have them


@dataclass(frozen=True)
class ParameterDrift(Perturbation):
    """A physical parameter moves in a straight line during every episode, then stays (book eq. domain-drift).

    It begins where the episode's draw put it.

    Args:
        parameter: One of the environment's.
        change: What has been added to it in the end.
        steps: Steps that this takes, at least 1.
    """

    parameter: str
    change: float
    steps: int

    def __post_init__(self) -> None:
        _require_finite("change", self.change)
        require_integer("steps", self.steps, 1)

    def check(self, environment: Any) -> None:
        _require_parameter(environment, self.parameter)

    def begin(self, memory: Memory, rows: Rows, domain: Any) -> None:
        memory.array("elapsed")[rows] = 0.0
        memory.array("first")[rows] = domain.parameters[self.parameter][rows]

    def before(self, memory: Memory, domain: Any) -> None:
        elapsed = memory.array("elapsed")
        elapsed += 1.0
        domain.change(self.parameter, memory.array("first") + np.minimum(elapsed / self.steps, 1.0) * self.change)


@dataclass(frozen=True)
class AbruptChange(Perturbation):
    """A physical parameter has another value from some episode on, between two episodes of a copy.

    Every copy counts its own episodes, from the last reset with a seed.

    Args:
        parameter: One of the environment's.
        value: Its value from then on.
        after: Episodes of a copy that come before, at least 0.
    """

    parameter: str
    value: float
    after: int

    def __post_init__(self) -> None:
        _require_finite("value", self.value)
        require_integer("after", self.after, 0)

    def check(self, environment: Any) -> None:
        domain = _require_parameter(environment, self.parameter)
        allowed = domain.PARAMETERS[self.parameter]
        if not allowed.low <= self.value <= allowed.high:
            raise ValueError(
                f"{self.parameter} must lie in [{allowed.low:g}, {allowed.high:g}] {allowed.unit}, got {self.value}"
            )

    def begin(self, memory: Memory, rows: Rows, domain: Any) -> None:
        begun = memory.array("begun", dtype=np.int64)
        begun[rows] += 1
        changed = rows[begun[rows] > self.after]
        if len(changed):
            domain.change(self.parameter, self.value, changed)


# Where a walk begins


class RandomStart(gym.Wrapper, gym.utils.RecordConstructorArgs):
    """Shifts the initial state: some random actions are made before the agent takes over.

    For single environments, of any kind; the course's domains take ``start``, which is exact. A start that ends the
    episode is drawn again.

    Args:
        env: The environment.
        steps: The number of random actions is uniform over 0 to this, at least 0.

    Raises:
        ValueError: If ``steps`` is not such a number; at a reset, if 100 starts in a row end the episode.
    """

    def __init__(self, env: gym.Env, steps: int) -> None:
        require_integer("steps", steps, 0)
        gym.utils.RecordConstructorArgs.__init__(self, steps=steps)
        gym.Wrapper.__init__(self, env)
        self.steps = steps
        self._rng: np.random.Generator | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        self._rng = _generator(self._rng, seed, self.env)
        for _ in range(100):
            ended = False
            for _ in range(int(self._rng.integers(self.steps + 1))):
                self.env.action_space.seed(int(self._rng.integers(2**31)))
                observation, _, terminated, truncated, info = self.env.step(self.env.action_space.sample())
                ended = bool(terminated or truncated)
                if ended:
                    break
            if not ended:
                return observation, info
            observation, info = self.env.reset(options=options)
        raise ValueError(f"{self.steps} random actions have ended a hundred episodes before the agent could begin")


# The wrappers


class _Chain:
    """Perturbations with their memories, for N copies."""

    def __init__(self, environment: Any, perturbations: Sequence[Perturbation], copies: int) -> None:
        if isinstance(perturbations, Perturbation):
            perturbations = (perturbations,)
        for perturbation in perturbations:
            if not isinstance(perturbation, Perturbation):
                raise ValueError(f"perturbations must be perturbations, got {perturbation!r}")
            perturbation.check(environment)
        self.perturbations, self.copies = tuple(perturbations), copies
        self.space, self.action_space = _spaces(environment)
        for perturbation in self.perturbations:
            self.space = perturbation.observation_space(self.space)
        self.domain = _domain(environment)
        self.rng: np.random.Generator | None = None
        self.memories: list[Memory] = []

    def restart(self, seed: Any, environment: Any) -> None:
        """Every copy is reset; a seed forgets everything."""
        if seed is not None or self.rng is None:
            self.memories = [Memory(self.copies) for _ in self.perturbations]
        self.rng = _generator(self.rng, seed, environment)

    def begin(self, observation: NDArray, rows: Rows) -> NDArray:
        for perturbation, memory in zip(self.perturbations, self.memories):
            perturbation.begin(memory, rows, self.domain)
        return self.seen(observation, rows, start=True)

    def seen(self, observation: NDArray, rows: Rows, start: bool = False) -> NDArray:
        assert self.rng is not None
        for perturbation, memory in zip(self.perturbations, self.memories):
            observation = perturbation.observation(observation, memory, rows, start, self.rng)
        return observation

    def executed(self, action: NDArray) -> NDArray:
        if self.rng is None:
            raise gym.error.ResetNeeded("call reset() before stepping")
        for perturbation, memory in zip(reversed(self.perturbations), reversed(self.memories)):
            action = perturbation.action(action, memory, self.action_space, self.rng)
        for perturbation, memory in zip(self.perturbations, self.memories):
            perturbation.before(memory, self.domain)
        return action

    def paid(self, reward: NDArray[np.float64]) -> NDArray[np.float64]:
        assert self.rng is not None
        for perturbation in self.perturbations:
            reward = perturbation.reward(reward, self.rng)
        return reward

    def told(self, info: dict[str, Any]) -> dict[str, Any]:
        """Info with the parameters as they are by now."""
        if self.domain is None or "parameters" not in info:
            return info
        return info | {"parameters": np.stack(list(self.domain.parameters.values()), axis=-1)}


class Perturbed(gym.Wrapper, gym.utils.RecordConstructorArgs):
    """One environment with perturbations.

    Args:
        env: The environment.
        perturbations: One or several, the first nearest to the environment.

    Raises:
        ValueError: If a perturbation cannot be applied to this environment.
    """

    def __init__(self, env: gym.Env, perturbations: Sequence[Perturbation]) -> None:
        gym.utils.RecordConstructorArgs.__init__(self, perturbations=perturbations)
        gym.Wrapper.__init__(self, env)
        self._chain = _Chain(env, perturbations, 1)
        self.observation_space = self._chain.space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        self._chain.restart(seed, self.env)
        seen = self._chain.begin(np.asarray(observation)[None], np.array([0]))
        return seen[0], self._told(info)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        executed = self._chain.executed(np.asarray(action)[None])[0]
        observation, reward, terminated, truncated, info = self.env.step(executed)
        seen = self._chain.seen(np.asarray(observation)[None], np.array([0]))
        paid = self._chain.paid(np.array([reward], dtype=np.float64))
        return seen[0], float(paid[0]), terminated, truncated, info

    def _told(self, info: dict[str, Any]) -> dict[str, Any]:
        if "parameters" not in info:
            return info
        return info | {"parameters": self._chain.told({"parameters": info["parameters"]})["parameters"][0]}


class PerturbedVector(gym.vector.VectorWrapper):
    """Copies of an environment with perturbations, each with memory of its own.

    ``info["final_obs"]`` is perturbed as every other observation of the episode that it ends, and the observation
    beside it as the first of the next.

    Args:
        env: A vector environment that resets itself in the step that ends an episode (autoreset mode ``SAME_STEP``).
        perturbations: One or several, the first nearest to the environment.

    Raises:
        ValueError: If the environment resets itself otherwise, or a perturbation cannot be applied to it.
    """

    def __init__(self, env: gym.vector.VectorEnv, perturbations: Sequence[Perturbation]) -> None:
        mode = env.metadata.get("autoreset_mode")
        if mode is not AutoresetMode.SAME_STEP:
            raise ValueError(f"PerturbedVector needs autoreset mode SAME_STEP, got {mode}")
        super().__init__(env)
        self._chain = _Chain(env, perturbations, env.num_envs)
        self.single_observation_space = self._chain.space
        self.observation_space = gym.vector.utils.batch_space(self._chain.space, env.num_envs)
        self._all = np.arange(env.num_envs)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        self._chain.restart(seed, self.env)
        seen = self._chain.begin(np.array(observation), self._all)
        return seen, self._chain.told(info)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        chain = self._chain
        observation, reward, terminated, truncated, info = self.env.step(chain.executed(np.asarray(actions)))
        following, ended = np.array(observation), terminated | truncated
        where = np.flatnonzero(ended)
        for index in where:
            following[index] = info["final_obs"][index]
        seen = chain.seen(following, self._all)
        paid = chain.paid(np.asarray(reward, dtype=np.float64))
        if where.size:
            final, seen = seen, seen.copy()
            seen[where] = chain.begin(np.array(observation)[where], where)
            info = chain.told(dict(info)) | {"final_obs": final, "_final_obs": ended}
        return seen, paid, terminated, truncated, info


def perturbed_environment(environment: str, perturbations: Sequence[Perturbation] = (), **arguments: Any) -> gym.Env:
    """What stands behind ``CA14/Perturbed-v0`` for a single environment.

    Args:
        environment: Gymnasium id.
        perturbations: One or several; without any, the environment as it is.
        arguments: Keyword arguments of the environment.
    """
    return Perturbed(gym.make(environment, disable_env_checker=True, **arguments), perturbations)


def perturbed_vector(
    environment: str, perturbations: Sequence[Perturbation] = (), num_envs: int = 1, **arguments: Any
) -> gym.vector.VectorEnv:
    """What stands behind ``CA14/Perturbed-v0`` for a batch, of the course's environments and of others.

    Args:
        environment: Gymnasium id.
        perturbations: One or several; without any, the environment as it is.
        num_envs: Number of copies.
        arguments: Keyword arguments of the environment.
    Returns:
        A :class:`PerturbedVector` over the course's batched environments; of others, copies that are perturbed one by
        one, so that parameters can change inside each.
    """
    if environment.startswith("CA14/") and gym.spec(environment).vector_entry_point is not None:
        return PerturbedVector(gym.make_vec(environment, num_envs=num_envs, **arguments), perturbations)
    return gym.make_vec(
        environment,
        num_envs=num_envs,
        vectorization_mode="sync",
        wrappers=(partial(Perturbed, perturbations=perturbations),),
        vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP},
        **arguments,
    )


# Pieces


def _generator(present: np.random.Generator | None, seed: Any, environment: Any) -> np.random.Generator:
    """The generator of the perturbations: a seed makes a new one, apart from the environment's."""
    if seed is not None:
        entropy = [int(one) for one in np.atleast_1d(seed)]
    elif present is not None:
        return present
    else:
        entropy = [int(environment.np_random.integers(2**31))]  # never seeded: as random as the environment's own
    return np.random.default_rng(np.random.SeedSequence([PERTURBATION_STREAM, *entropy]))


def _spaces(environment: Any) -> tuple[gym.Space, gym.Space]:
    """Of one copy."""
    if isinstance(environment, gym.vector.VectorEnv):
        return environment.single_observation_space, environment.single_action_space
    return environment.observation_space, environment.action_space


def _domain(environment: Any) -> Any:
    """The object that has physical parameters, or None."""
    inner: Any = environment
    while inner is not None:
        if isinstance(inner, SingleEnvironment):
            inner = inner.batched
        if hasattr(type(inner), "change") and hasattr(type(inner), "PARAMETERS"):
            return inner
        if isinstance(inner, BatchedEnvironment):
            return None
        inner = getattr(inner, "env", None)
    return None


def _require_parameter(environment: Any, name: str) -> Any:
    domain = _domain(environment)
    if domain is None:
        raise ValueError(f"{environment} has no physical parameters, so {name!r} cannot change")
    if name not in domain.PARAMETERS:
        raise ValueError(f"unknown parameter {name!r}; there are {', '.join(domain.PARAMETERS)}")
    return domain


def _columns(flags: NDArray[np.bool_], like: NDArray) -> NDArray[np.bool_]:
    """Flags ``[n]`` that broadcast over arrays ``[n, …]``."""
    return flags.reshape(-1, *[1] * (like.ndim - 1))
