"""What all agents share: construction from spaces and a seed, acting, policy tables, saving and loading."""

import json
import math
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from ca14lib.agents.checkpoint import read_checkpoint, write_checkpoint
from ca14lib.data import Normalizer, OfflineDataset
from ca14lib.environments import TabularModel


@dataclass(frozen=True)
class AgentConfig:
    """Fields that every algorithm's configuration has; subclasses add theirs and check their ranges."""

    hidden_sizes: tuple[int, ...] = (256, 256)
    learning_rate: float = 3e-4
    discount: float = 0.99  # γ

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden_sizes", tuple(self.hidden_sizes))
        whole = all(isinstance(width, int) and width >= 1 for width in self.hidden_sizes)
        require(whole, "hidden_sizes", self.hidden_sizes, "positive integers")
        require(len(self.hidden_sizes) >= 1, "hidden_sizes", self.hidden_sizes, "at least one layer")
        require(0 < self.learning_rate < math.inf, "learning_rate", self.learning_rate, "positive and finite")
        require(0 < self.discount <= 1, "discount", self.discount, "in (0, 1]")


def require(condition: bool, name: str, value: object, expected: str) -> None:
    """Raise a ValueError that names the argument, its value and what was expected, unless the condition holds."""
    if not condition:
        raise ValueError(f"{name} must be {expected}, got {value}")


class Agent(nn.Module):
    """Base class: a module that acts, updates itself from batches, and is saved whole.

    A subclass builds its networks in :meth:`_build`, registers each optimiser with :meth:`_optimizer`, and implements
    :meth:`update`.

    Args:
        observation_space: ``Box`` or ``Discrete`` space of one observation.
        action_space: Space of one action.
        config: The algorithm's configuration.
        normalizer: Applied to every observation, in ``act`` and ``update`` alike; saved with the agent.
        seed: Fixes the initial weights and the agent's own random draws.
        device: ``"cpu"``, ``"cuda"``, …

    Raises:
        ValueError: If a space is not supported, the normalizer does not fit, or the device is not there.
    """

    config_class: ClassVar[type[AgentConfig]] = AgentConfig

    def __init__(
        self,
        observation_space: gym.Space,
        action_space: gym.Space,
        config: AgentConfig | None = None,
        *,
        normalizer: Normalizer | None = None,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        super().__init__()
        config = self.config_class() if config is None else config
        if type(config) is not self.config_class:
            raise ValueError(f"config must be a {self.config_class.__name__}, got {type(config).__name__}")
        if normalizer is not None and tuple(normalizer.mean.shape) != observation_space.shape:
            raise ValueError(
                f"normalizer is for observations of shape {tuple(normalizer.mean.shape)}, "
                f"the space has {observation_space.shape}"
            )
        self.observation_space, self.action_space, self.config = observation_space, action_space, config
        self.device = checked_device(device)
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        self.updates = 0  # counted by agents whose update depends on it, saved with the agent
        self.normalizer = normalizer
        self.to(self.device)
        # initial weights come from a forked copy of the global generator: the global one is left as it was
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # the CPU's alone: weights are drawn there, then moved
            self._build()
        self.to(self.device)

    def _build(self) -> None:
        raise NotImplementedError

    def _optimizer(
        self, name: str, *modules: nn.Module | nn.Parameter, learning_rate: float | None = None
    ) -> torch.optim.Optimizer:
        """Adam over the parameters, saved under ``name``; the configuration's learning rate unless given."""
        self.to(self.device)
        parameters = [
            parameter
            for module in modules
            for parameter in ([module] if isinstance(module, nn.Parameter) else module.to(self.device).parameters())
        ]
        rate = self.config.learning_rate if learning_rate is None else learning_rate
        self.optimizers[name] = torch.optim.Adam(parameters, lr=rate, fused=True)
        return self.optimizers[name]

    def update(self, batch: Any) -> dict[str, Tensor]:
        """Learn from a batch (:class:`~ca14lib.data.Transitions`, of on-policy agents a
        :class:`~ca14lib.data.Rollout`); returns 0-d tensors to log."""
        raise NotImplementedError

    @property
    def relabel_every(self) -> int | None:
        """Updates after which the offline loop calls :meth:`relabel` again; None if the agent needs no labels."""
        return None

    def relabel(self, dataset: OfflineDataset) -> Tensor | None:
        """The ``value_target`` of every transition of a dataset, ``[N]``, by the agent's present state.

        The offline loop asks before the first update and then every :attr:`relabel_every` updates; the batches in
        between carry the labels of their rows. None, the default, leaves the batches without.
        """
        return None

    def act(self, observation: ArrayLike, *, mask: ArrayLike | None = None, deterministic: bool = False) -> NDArray:
        """Actions for a batch of observations.

        Args:
            observation: ``[N, …]``.
            mask: ``[N, A]``, true where an action is allowed; None for all.
            deterministic: Take the best action instead of drawing from the policy.
        Returns:
            Actions ``[N, …]``.
        """
        raise NotImplementedError

    def _input(self, observation: Tensor) -> Tensor:
        """What the networks see of a raw observation."""
        return observation if self.normalizer is None else self.normalizer(observation)

    def _observation_tensor(self, observation: ArrayLike) -> Tensor:
        array = np.asarray(observation)
        if array.shape[1:] != self.observation_space.shape or array.ndim == 0:
            raise ValueError(f"observation must have shape [N, *{self.observation_space.shape}], got {array.shape}")
        if isinstance(self.observation_space, gym.spaces.Discrete):
            if array.dtype.kind not in "iu":
                raise ValueError(f"observation must be integers, got dtype {array.dtype}")
            if array.size and (array.min() < 0 or array.max() >= self.observation_space.n):
                raise ValueError(
                    f"observation must lie in 0…{self.observation_space.n - 1}, got {array.min()} to {array.max()}"
                )
            return torch.as_tensor(array.astype(np.int64), device=self.device)
        if not np.isfinite(array).all():
            raise ValueError("observation must be finite, got NaN or infinity")
        return torch.as_tensor(array.astype(np.float32), device=self.device)

    # Saving and loading

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that training continues from, as named tensors and JSON-able metadata."""
        tensors = {f"module.{name}": value for name, value in self.state_dict().items()}
        for name, optimizer in self.optimizers.items():
            for index, slots in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer.{name}.{index}.{slot}": torch.as_tensor(v) for slot, v in slots.items()}
        tensors["generator"] = self.generator.get_state()
        metadata = {
            "agent": type(self).__name__,
            "config": asdict(self.config),
            "observation_space": space_to_json(self.observation_space),
            "action_space": space_to_json(self.action_space),
            "normalizer": self.normalizer is not None,
            "updates": self.updates,
        }
        return tensors, metadata

    @classmethod
    def arguments_from(cls, metadata: dict[str, Any]) -> dict[str, Any]:
        """Keyword arguments of the constructor beyond those that all agents have, from a checkpoint's metadata."""
        return {}

    def restore(self, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
        """Take over a state; nothing is changed if it does not fit this agent.

        Raises:
            ValueError: If the state is of another algorithm, configuration or space.
        """
        own = self.state()[1]
        for key in (key for key in own if key != "updates"):
            if _jsonable(own[key]) != metadata.get(key):
                raise ValueError(
                    f"the checkpoint's {key} is {metadata.get(key)}, this agent's is {_jsonable(own[key])}"
                )
        module = {n.removeprefix("module."): t for n, t in tensors.items() if n.startswith("module.")}
        expected = self.state_dict()
        if module.keys() != expected.keys() or any(module[n].shape != expected[n].shape for n in expected):
            raise ValueError("the checkpoint's tensors do not fit this agent: names or shapes differ")
        optimizer_states = {name: self._optimizer_state(name, tensors) for name in self.optimizers}
        generator = restored_generator(tensors.get("generator"), self.device)
        updates = metadata.get("updates", 0)
        if not isinstance(updates, int) or updates < 0:
            raise ValueError(f"the checkpoint's number of updates must be a whole number >= 0, got {updates!r}")
        # from here on nothing can fail
        self.load_state_dict(module)
        for name, state in optimizer_states.items():
            self.optimizers[name].load_state_dict(state)
        self.generator.set_state(generator.get_state())
        self.updates = updates

    def _optimizer_state(self, name: str, tensors: dict[str, Tensor]) -> dict[str, Any]:
        """The state dictionary of an optimiser, checked against its parameters; empty before the first update."""
        optimizer = self.optimizers[name]
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        slots: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith(f"optimizer.{name}."):
                index, slot = key.removeprefix(f"optimizer.{name}.").split(".")
                slots.setdefault(int(index), {})[slot] = value
        fits = set(slots) in (set(), set(range(len(parameters)))) and all(
            found.keys() == {"step", "exp_avg", "exp_avg_sq"}
            and all(found[moment].shape == parameters[index].shape for moment in ("exp_avg", "exp_avg_sq"))
            for index, found in slots.items()
        )
        if not fits:
            raise ValueError(f"the checkpoint's state of the optimiser {name!r} does not fit this agent")
        return {"state": slots, "param_groups": optimizer.state_dict()["param_groups"]}

    def save(self, path: str | Path) -> None:
        """Write the agent, its optimisers and its generator to one file (safetensors, JSON in the header)."""
        write_checkpoint(path, *self.state())

    def load(self, path: str | Path) -> Self:
        """Restore this agent from a file written by :meth:`save`; see :func:`ca14lib.agents.load_agent` to build one.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file is damaged or of another agent; this agent is then unchanged.
        """
        self.restore(*read_checkpoint(path))
        return self


class DiscreteAgent(Agent):
    """Base class for discrete actions: :meth:`_scores` ranks them, :meth:`_probabilities` makes them a policy."""

    def __init__(self, observation_space: gym.Space, action_space: gym.Space, *args: Any, **keywords: Any) -> None:
        if not isinstance(action_space, gym.spaces.Discrete) or action_space.start != 0:
            raise ValueError(f"{type(self).__name__} needs a Discrete action space from 0, got {action_space}")
        self.num_actions = int(action_space.n)
        super().__init__(observation_space, action_space, *args, **keywords)

    def _scores(self, observation: Tensor) -> Tensor:
        """Q-values or logits ``[N, A]`` of raw observations."""
        raise NotImplementedError

    def _probabilities(self, scores: Tensor) -> Tensor:
        """The stochastic policy ``[N, A]``; a forbidden action's score is −∞ and its probability must be 0."""
        return scores.softmax(dim=-1)

    @torch.no_grad()
    def probabilities(
        self, observation: ArrayLike, *, mask: ArrayLike | None = None, deterministic: bool = False
    ) -> NDArray[np.float64]:
        """Probabilities of all actions, ``[N, A]``; one-hot of the best action if deterministic."""
        return self._policy(self._observation_tensor(observation), mask, deterministic).double().cpu().numpy()

    @torch.no_grad()
    def act(
        self, observation: ArrayLike, *, mask: ArrayLike | None = None, deterministic: bool = False
    ) -> NDArray[np.int64]:
        policy = self._policy(self._observation_tensor(observation), mask, deterministic)
        if deterministic:
            return policy.argmax(dim=-1).cpu().numpy()
        return torch.multinomial(policy, 1, generator=self.generator).squeeze(-1).cpu().numpy()

    def policy_table(self, model: TabularModel, deterministic: bool = True) -> NDArray[np.float64]:
        """The policy on every state of a finite problem, shape ``[S, A]``."""
        with torch.no_grad():
            table = self._policy(self._states(model), model.action_mask, deterministic).double().cpu().numpy()
        return table / table.sum(axis=1, keepdims=True)

    def _states(self, model: TabularModel) -> Tensor:
        """The observations of all states of a finite problem."""
        return self._observation_tensor(model.observation.reshape(-1, *(self.observation_space.shape or ())))

    def _policy(self, observation: Tensor, mask: ArrayLike | None, deterministic: bool) -> Tensor:
        scores = self._scores(observation)
        if mask is not None:
            scores = scores.masked_fill(~self._allowed(mask, scores.shape), -torch.inf)
        if deterministic:
            return torch.nn.functional.one_hot(scores.argmax(dim=-1), self.num_actions)
        return self._probabilities(scores)

    def _allowed(self, mask: ArrayLike, shape: torch.Size) -> Tensor:
        """A checked mask of allowed actions, ``[N, A]``."""
        allowed = torch.tensor(np.asarray(mask), device=self.device)
        if allowed.dtype != torch.bool or allowed.shape != shape or not allowed.any(dim=-1).all():
            raise ValueError(
                f"mask must be booleans of shape {tuple(shape)} that allow an action in every row, "
                f"got dtype {allowed.dtype}, shape {tuple(allowed.shape)}"
            )
        return allowed


class ValueAgent(DiscreteAgent):
    """Base class for agents that learn the value of every action: :meth:`_q_values` gives them."""

    def _q_values(self, observation: Tensor) -> Tensor:
        """Learned Q-values ``[N, A]`` of raw observations."""
        raise NotImplementedError

    @torch.no_grad()
    def q_table(self, model: TabularModel) -> NDArray[np.float64]:
        """The learned Q on every state-action pair of a finite problem, shape ``[S, A]``."""
        return self._q_values(self._states(model)).double().cpu().numpy()


class ContinuousAgent(Agent):
    """Base class for continuous actions: networks see them in [−1, 1], data and ``act`` in environment units.

    A subclass implements :meth:`_unit_action`.

    Raises:
        ValueError: If the action space is not a bounded ``Box`` of one dimension, or the observations no ``Box``.
    """

    learns_values: ClassVar[bool] = True  # False for agents whose update has no bootstrap target

    def __init__(self, observation_space: gym.Space, action_space: gym.Space, *args: Any, **keywords: Any) -> None:
        name = type(self).__name__
        real = isinstance(action_space, gym.spaces.Box) and np.issubdtype(action_space.dtype, np.floating)
        bounded = real and action_space.is_bounded("both")  # type: ignore[attr-defined]
        if not bounded or len(action_space.shape or ()) != 1 or not (action_space.high > action_space.low).all():  # type: ignore[attr-defined]
            raise ValueError(f"{name} needs a bounded Box action space of one dimension of reals, got {action_space}")
        if not isinstance(observation_space, gym.spaces.Box):
            raise ValueError(f"{name} needs a Box observation space, got {observation_space}")
        self.action_dimension = int(action_space.shape[0])  # type: ignore[index]
        self.flat_space = gym.spaces.Box(-np.inf, np.inf, (gym.spaces.flatdim(observation_space),), np.float32)
        super().__init__(observation_space, action_space, *args, **keywords)

    @cached_property
    def _action_range(self) -> tuple[Tensor, Tensor]:
        """Centre and half-width of the action space, ``[D]`` each."""
        space = self.action_space
        assert isinstance(space, gym.spaces.Box)
        low, high = (
            torch.as_tensor(bound, dtype=torch.float32, device=self.device) for bound in (space.low, space.high)
        )
        return (low + high) / 2, (high - low) / 2

    @cached_property
    def _float_bounds(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The bounds of the action space, rounded inwards where float32 cannot hold them."""
        space = self.action_space
        assert isinstance(space, gym.spaces.Box)
        low, high, end = space.low.astype(np.float32), space.high.astype(np.float32), np.float32(np.inf)
        return (
            np.where(low < space.low, np.nextafter(low, end), low),
            np.where(high > space.high, np.nextafter(high, -end), high),
        )

    def _unit_action(self, observation: Tensor, deterministic: bool) -> Tensor:
        """Actions ``[B, D]`` in [−1, 1] for raw observations."""
        raise NotImplementedError

    def _input(self, observation: Tensor) -> Tensor:
        """Normalised observations as rows ``[B, features]``."""
        return super()._input(observation).reshape(len(observation), self.flat_space.shape[0])

    def _unit(self, action: Tensor) -> Tensor:
        """Environment units to [−1, 1]."""
        center, scale = self._action_range
        return (action - center) / scale

    def _environment(self, unit: Tensor) -> Tensor:
        """[−1, 1] to environment units."""
        center, scale = self._action_range
        return center + scale * unit

    @torch.no_grad()
    def act(
        self, observation: ArrayLike, *, mask: ArrayLike | None = None, deterministic: bool = False
    ) -> NDArray[np.float32]:
        """Actions ``[N, D]`` in environment units, float32, within the action space's bounds.

        Raises:
            ValueError: If a mask is given (continuous actions have none), or the observations do not fit.
        """
        if mask is not None:
            raise ValueError(f"{type(self).__name__} has continuous actions and takes no mask")
        unit = self._unit_action(self._observation_tensor(observation), deterministic)
        action = self._environment(unit.clamp(-1, 1)).cpu().numpy()
        return np.clip(action, *self._float_bounds)


def restored_generator(state: Tensor | None, device: torch.device) -> torch.Generator:
    """A generator in a saved state, or a ValueError if the state is missing or of another kind of device."""
    try:
        return torch.Generator(device).set_state(state)  # type: ignore[arg-type]
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"the checkpoint's random generator cannot go on on {device}: {error}") from error


def checked_device(device: str | torch.device) -> torch.device:
    """The device, or a ValueError that names it and says what there is."""
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        available = ["cpu"] + ["cuda"] * torch.cuda.is_available() + ["mps"] * torch.backends.mps.is_available()
        raise ValueError(f"unknown or unavailable device {device!r}; available here: {', '.join(available)}") from error
    return found


def space_to_json(space: gym.Space) -> dict[str, Any]:
    """A Box, Discrete or MultiDiscrete space as JSON-able data."""
    if isinstance(space, gym.spaces.Discrete):
        return {"type": "Discrete", "n": int(space.n), "start": int(space.start)}
    if isinstance(space, gym.spaces.Box):
        return {"type": "Box", "low": space.low.tolist(), "high": space.high.tolist(), "dtype": str(space.dtype)}
    if isinstance(space, gym.spaces.MultiDiscrete):
        return {"type": "MultiDiscrete", "nvec": space.nvec.tolist()}
    raise ValueError(f"only Box, Discrete and MultiDiscrete spaces can be saved, got {space}")


def space_from_json(data: dict[str, Any]) -> gym.Space:
    """The inverse of :func:`space_to_json`."""
    if data.get("type") == "Discrete":
        return gym.spaces.Discrete(data["n"], start=data["start"])
    if data.get("type") == "MultiDiscrete":
        return gym.spaces.MultiDiscrete(data["nvec"])
    if data.get("type") == "Box":
        low, high = np.array(data["low"], data["dtype"]), np.array(data["high"], data["dtype"])
        return gym.spaces.Box(low, high, dtype=np.dtype(data["dtype"]).type)
    raise ValueError(f"unknown space {data}")


def gradient_step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """One step of an optimiser down a loss."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def _jsonable(value: Any) -> Any:
    return json.loads(json.dumps(value))
