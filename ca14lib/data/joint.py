"""Experience of several agents: steps with an agent axis, and replay of steps or of whole episodes."""

from dataclasses import dataclass, fields, replace
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor


@dataclass(frozen=True, eq=False)
class JointTransitions:
    """``T`` steps in time of ``B`` copies of a game of n agents; all tensors on one device.

    A batch of single transitions has T = 1. Rows that are neighbours in time belong to one episode unless the earlier
    one ended it.

    Attributes:
        observation: ``[T, B, n, …]``.
        state: ``[T, B, d]``, what a central observer sees.
        action: ``[T, B, n]`` int64, or ``[T, B, n, D]`` float32 in environment units.
        reward: ``[T, B, n]``; a team's reward is the sum over its agents.
        next_observation: ``[T, B, n, …]``, after the step and before any reset.
        next_state: ``[T, B, d]``.
        terminated: ``[T, B]`` bool, a true end.
        truncated: ``[T, B]`` bool, a time limit: bootstrap through it.
        log_prob: ``[T, B, n]`` under the policy that acted, or None.
        action_mask: ``[T, B, n, A]`` bool, actions that were allowed, or None.
        next_action_mask: The same of the next observation, or None.
        memory: ``[B, n, M]``, what the agents remembered before the first row, or None.
        filled: ``[T, B]`` bool, rows that happened (episodes differ in length), or None for all.
        learns: ``[T, B, n]`` bool, agents whose step is to be learnt from (not those that have left the game, nor
            opponents), or None for all.
        noise: ``[T, B, n, …]``, what an agent drew beside its actions and needs again to learn, or None.

    Raises:
        ValueError: If shapes disagree.
    """

    observation: Tensor
    state: Tensor
    action: Tensor
    reward: Tensor
    next_observation: Tensor
    next_state: Tensor
    terminated: Tensor
    truncated: Tensor
    log_prob: Tensor | None = None
    action_mask: Tensor | None = None
    next_action_mask: Tensor | None = None
    memory: Tensor | None = None
    filled: Tensor | None = None
    learns: Tensor | None = None
    noise: Tensor | None = None

    def __post_init__(self) -> None:
        shape = tuple(self.reward.shape)
        if len(shape) != 3:
            raise ValueError(f"reward must have shape [T, B, n], got {shape}")
        for item in fields(self):
            value = getattr(self, item.name)
            if value is None:
                continue
            expected: tuple[int, ...] = shape
            if item.name in ("state", "next_state", "terminated", "truncated", "filled"):
                expected = shape[:2]
            elif item.name == "memory":
                expected = shape[1:]
            if tuple(value.shape[: len(expected)]) != expected:
                raise ValueError(f"{item.name} must begin with shape {expected}, got {tuple(value.shape)}")

    @property
    def num_agents(self) -> int:
        """n."""
        return self.reward.shape[2]

    @property
    def size(self) -> int:
        """Number of joint steps, T · B."""
        return self.terminated.numel()

    def flat(self, name: str) -> Tensor:
        """A column ``[T, B, …]`` as rows ``[T · B, …]``."""
        return getattr(self, name).flatten(0, 1)

    def team_reward(self) -> Tensor:
        """Sum over agents, ``[T, B]``."""
        return self.reward.sum(dim=-1)

    def last_of_path(self) -> Tensor:
        """``[T, B]`` bool: steps whose successor is not the next row: ends, and the last row."""
        last = self.terminated | self.truncated
        last = last.clone()
        last[-1] = True
        return last

    def starts(self) -> Tensor:
        """``[T, B]`` bool: rows that begin an episode because the row before ended one; row 0 never counts."""
        starts = torch.zeros_like(self.terminated)
        starts[1:] = (self.terminated | self.truncated)[:-1]
        return starts

    def counts(self) -> Tensor:
        """``[T, B, n]`` bool: steps of agents to learn from, by ``filled`` and ``learns``."""
        counts = torch.ones_like(self.reward, dtype=torch.bool)
        if self.filled is not None:
            counts = counts & self.filled.unsqueeze(-1)
        return counts if self.learns is None else counts & self.learns

    def to(self, device: str | torch.device) -> "JointTransitions":
        """The same steps on another device."""
        held = {item.name: getattr(self, item.name) for item in fields(self)}
        return replace(self, **{name: value.to(device) for name, value in held.items() if value is not None})

    def copies(self, index: Tensor) -> "JointTransitions":
        """The chosen copies ``[b]`` with all their steps."""
        chosen: dict[str, Any] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if value is not None:
                chosen[item.name] = value[index] if item.name == "memory" else value[:, index]
        return replace(self, **chosen)


class _Columns:
    """Zeroed tensors of every column that a replay keeps."""

    def __init__(
        self, lead: tuple[int, ...], observation_space: gym.spaces.Box, action_space: gym.Space,
        state_space: gym.spaces.Box, masks: bool, device: str | torch.device,
    ) -> None:  # fmt: skip
        agents = int(observation_space.shape[0])
        discrete = isinstance(action_space, gym.spaces.MultiDiscrete)
        action_kind = torch.int64 if discrete else torch.float32
        kinds: dict[str, tuple[tuple[int, ...], torch.dtype]] = {
            "observation": (observation_space.shape, torch.float32),
            "state": (state_space.shape, torch.float32),
            "action": (action_space.shape or (), action_kind),
            "reward": ((agents,), torch.float32),
            "next_observation": (observation_space.shape, torch.float32),
            "next_state": (state_space.shape, torch.float32),
            "terminated": ((), torch.bool),
            "truncated": ((), torch.bool),
            "learns": ((agents,), torch.bool),
        }
        if masks:
            assert isinstance(action_space, gym.spaces.MultiDiscrete)
            shape = (agents, int(action_space.nvec[0]))
            kinds |= {"action_mask": (shape, torch.bool), "next_action_mask": (shape, torch.bool)}
        self.tensors = {
            name: torch.zeros((*lead, *shape), dtype=dtype, device=device) for name, (shape, dtype) in kinds.items()
        }

    def checked(self, step: dict[str, Any], lead: int) -> dict[str, Tensor]:
        """The step's values as tensors, or an error that names the one that does not fit."""
        values: dict[str, Tensor] = {}
        for name, column in self.tensors.items():
            if name == "learns" and step.get(name) is None:
                step = step | {name: np.ones(column.shape[lead - 1 :], dtype=bool)}
            if step.get(name) is None:
                raise ValueError(f"the replay stores {name}, the step has none")
            value = torch.as_tensor(np.asarray(step[name]))
            if value.shape != column.shape[lead - 1 :]:
                raise ValueError(f"{name} must have shape {tuple(column.shape[lead - 1 :])}, got {tuple(value.shape)}")
            values[name] = value
        return values


class JointReplay:
    """Joint transitions of ``num_envs`` copies stepped together, the oldest overwritten first.

    Args:
        observation_space: Joint ``Box`` space ``[n, …]``.
        action_space: Joint ``MultiDiscrete`` or ``Box`` space ``[n, …]``.
        state_space: Space of the state.
        capacity: Transitions kept, at least ``num_envs``; rounded down to a multiple of it.
        num_envs: Copies stepped together.
        masks: Keep masks of allowed actions.
        device: Where the buffer lives and batches are drawn.
    """

    def __init__(
        self, observation_space: gym.spaces.Box, action_space: gym.Space, state_space: gym.spaces.Box, capacity: int,
        *, num_envs: int = 1, masks: bool = False, device: str | torch.device = "cpu",
    ) -> None:  # fmt: skip
        if num_envs < 1 or capacity < num_envs:
            raise ValueError(f"capacity must be at least num_envs, which is at least 1, got {capacity} and {num_envs}")
        self.num_envs, self.steps, self.added = num_envs, capacity // num_envs, 0
        lead = (self.steps, num_envs)
        self._columns = _Columns(lead, observation_space, action_space, state_space, masks, device)

    @property
    def columns(self) -> dict[str, Tensor]:
        """The stored tensors by name, ``[steps, num_envs, …]``."""
        return self._columns.tensors

    def __len__(self) -> int:
        """Number of joint transitions held."""
        return min(self.added, self.steps) * self.num_envs

    def add(self, **step: ArrayLike) -> None:
        """One step of all copies: the columns of :class:`JointTransitions`, each ``[num_envs, …]``.

        Raises:
            ValueError: If one is missing or has another shape; nothing is added then.
        """
        values = self._columns.checked(step, 2)
        row = self.added % self.steps
        for name, column in self.columns.items():
            column[row] = values[name]
        self.added += 1

    def end_episodes(self) -> None:
        """Mark the newest step as cut short in every copy, where it did not end its episode itself."""
        if self.added:
            row = (self.added - 1) % self.steps
            self.columns["truncated"][row] |= ~self.columns["terminated"][row]

    def sample(self, batch_size: int, generator: torch.Generator) -> JointTransitions:
        """Transitions drawn uniformly with replacement, as one row ``[1, B, …]``.

        Raises:
            ValueError: If the replay is empty.
        """
        if len(self) == 0:
            raise ValueError("the replay is empty: add steps before sampling")
        index = torch.randint(len(self), (batch_size,), generator=generator, device=generator.device)
        return JointTransitions(
            **{name: column.flatten(0, 1)[index].unsqueeze(0) for name, column in self.columns.items()}
        )


class EpisodeReplay:
    """Whole episodes of ``num_envs`` copies stepped together, the oldest overwritten first.

    An episode enters when it ends; what an agent that reads sequences learns from is therefore never cut in two.

    Args:
        observation_space: Joint ``Box`` space ``[n, …]``.
        action_space: Joint ``MultiDiscrete`` or ``Box`` space ``[n, …]``.
        state_space: Space of the state.
        capacity: Episodes kept.
        length: Most steps of an episode.
        num_envs: Copies stepped together.
        masks: Keep masks of allowed actions.
        device: Where the buffer lives and batches are drawn.
    """

    def __init__(
        self, observation_space: gym.spaces.Box, action_space: gym.Space, state_space: gym.spaces.Box, capacity: int,
        length: int, *, num_envs: int = 1, masks: bool = False, device: str | torch.device = "cpu",
    ) -> None:  # fmt: skip
        for name, value in (("capacity", capacity), ("length", length), ("num_envs", num_envs)):
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
                raise ValueError(f"{name} must be a positive integer, got {value!r}")
        self.num_envs, self.length, self.capacity, self.added = num_envs, int(length), int(capacity), 0
        spaces = (observation_space, action_space, state_space, masks, device)
        self._columns = _Columns((capacity, length), *spaces)
        self._open = _Columns((length, num_envs), *spaces)
        self.lengths = torch.zeros(capacity, dtype=torch.int64, device=device)
        self._elapsed = np.zeros(num_envs, dtype=np.int64)

    @property
    def columns(self) -> dict[str, Tensor]:
        """The stored tensors by name, ``[capacity, length, …]``, and the episodes' lengths."""
        return self._columns.tensors | {"lengths": self.lengths}

    def __len__(self) -> int:
        """Number of episodes held."""
        return min(self.added, self.capacity)

    def add(self, **step: ArrayLike) -> None:
        """One step of all copies: the columns of :class:`JointTransitions`, each ``[num_envs, …]``.

        Raises:
            ValueError: If one is missing or has another shape, or an episode is longer than ``length``.
        """
        values = self._open.checked(step, 2)
        if self._elapsed.max() >= self.length:
            raise ValueError(f"an episode has more steps than the replay's length {self.length}")
        rows, copies = torch.as_tensor(self._elapsed), torch.arange(self.num_envs)
        for name, column in self._open.tensors.items():
            column[rows, copies] = values[name].to(column)
        self._elapsed += 1
        ended = (values["terminated"] | values["truncated"]).cpu().numpy()
        for copy in np.flatnonzero(ended):
            slot = self.added % self.capacity
            for name, column in self._columns.tensors.items():
                column[slot] = self._open.tensors[name][:, copy]
            self.lengths[slot] = int(self._elapsed[copy])
            self.added += 1
            self._elapsed[copy] = 0

    def drop_unfinished(self) -> None:
        """Forget the episodes that have not ended."""
        self._elapsed[:] = 0

    def sample(self, batch_size: int, generator: torch.Generator) -> JointTransitions:
        """Different episodes drawn uniformly, ``[T, B, …]`` with ``filled``; T is the longest of them.

        Raises:
            ValueError: If fewer than ``batch_size`` are held.
        """
        if len(self) < batch_size:
            raise ValueError(f"the replay holds {len(self)} episodes, a batch needs {batch_size}")
        index = torch.randperm(len(self), generator=generator, device=generator.device)[:batch_size]
        lengths = self.lengths[index]
        longest = int(lengths.max())
        filled = torch.arange(longest, device=lengths.device).unsqueeze(-1) < lengths
        drawn = {name: column[index, :longest].transpose(0, 1) for name, column in self._columns.tensors.items()}
        return JointTransitions(**drawn, filled=filled)
