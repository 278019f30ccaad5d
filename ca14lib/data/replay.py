"""Experience of an online agent, the oldest overwritten first; its whole episodes can be read as an offline dataset."""

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import ArrayLike

from ca14lib.data.dataset import OfflineDataset
from ca14lib.data.transitions import Transitions

COLUMNS = ("observation", "action", "reward", "next_observation", "terminated", "truncated")


class ReplayBuffer:
    """Transitions of ``num_envs`` environments stepped together.

    Args:
        observation_space: ``Box`` space of one observation.
        action_space: ``Box`` or ``Discrete`` space of one action.
        capacity: Number of transitions kept, at least ``num_envs``; rounded down to a multiple of it.
        num_envs: Environments stepped together.
        device: Where the buffer lives and batches are drawn.
    """

    def __init__(
        self,
        observation_space: gym.Space,
        action_space: gym.Space,
        capacity: int,
        *,
        num_envs: int = 1,
        device: str | torch.device = "cpu",
    ) -> None:
        if num_envs < 1 or capacity < num_envs:
            raise ValueError(f"capacity must be at least num_envs, which is at least 1, got {capacity} and {num_envs}")
        self.observation_space, self.action_space = observation_space, action_space
        self.num_envs, self.steps = num_envs, capacity // num_envs  # rows of the ring
        self.added = 0  # steps of all environments together ever added, each num_envs transitions
        discrete = isinstance(observation_space, gym.spaces.Discrete)
        observation = (observation_space.shape or (), torch.int64 if discrete else torch.float32)
        action = (
            action_space.shape or (),
            torch.int64 if isinstance(action_space, gym.spaces.Discrete) else torch.float32,
        )
        flag: tuple[tuple[int, ...], torch.dtype] = ((), torch.bool)
        kinds = dict(zip(COLUMNS, (observation, action, ((), torch.float32), observation, flag, flag), strict=True))
        self.columns = {
            name: torch.zeros((self.steps, num_envs, *shape), dtype=dtype, device=device)
            for name, (shape, dtype) in kinds.items()
        }

    def __len__(self) -> int:
        """Number of transitions held."""
        return min(self.added, self.steps) * self.num_envs

    def add(self, **step: ArrayLike) -> None:
        """One step of all environments: the keywords of ``COLUMNS``, each ``[num_envs, …]``.

        Raises:
            ValueError: If one has another shape; nothing is added then.
        """
        row = self.added % self.steps
        values = {name: torch.as_tensor(np.asarray(step[name])) for name in self.columns}
        for name, column in self.columns.items():
            if values[name].shape != column.shape[1:]:
                raise ValueError(f"{name} must have shape {tuple(column.shape[1:])}, got {tuple(values[name].shape)}")
        for name, column in self.columns.items():
            column[row] = values[name]
        self.added += 1

    def end_episodes(self) -> None:
        """Mark the newest step as cut short in every environment, where it did not end its episode itself."""
        if self.added:
            row = (self.added - 1) % self.steps
            self.columns["truncated"][row] |= ~self.columns["terminated"][row]

    def sample(self, batch_size: int, generator: torch.Generator) -> Transitions:
        """Transitions drawn uniformly with replacement.

        Raises:
            ValueError: If the buffer is empty.
        """
        if len(self) == 0:
            raise ValueError("the replay buffer is empty: add steps before sampling")
        index = torch.randint(len(self), (batch_size,), generator=generator, device=generator.device)
        drawn: dict[str, Any] = {name: column.flatten(0, 1)[index] for name, column in self.columns.items()}
        return Transitions(**drawn, cost=drawn["reward"].new_zeros((batch_size, 0)))

    def dataset(self, **metadata: Any) -> OfflineDataset:
        """The whole episodes held, environment after environment, oldest first.

        An episode that has not ended is left out, and so is the oldest one of a full ring, whose beginning may have
        been overwritten.

        Args:
            metadata: Keywords of :class:`ca14lib.data.OfflineDataset` such as ``environment_id``, ``policy``, ``seed``.
        Raises:
            ValueError: If no whole episode is held.
        """
        held = min(self.added, self.steps)
        order = (np.arange(held) + (self.added if self.added > self.steps else 0)) % max(held, 1)
        arrays = {name: column.cpu().numpy()[order] for name, column in self.columns.items()}
        pieces: list[tuple[int, slice]] = []
        for copy in range(self.num_envs):
            ended = np.flatnonzero(arrays["terminated"][:, copy] | arrays["truncated"][:, copy])
            if len(ended) == 0:
                continue
            # once the ring is full, the oldest steps may be the rest of an overwritten episode
            first = int(ended[0]) + 1 if self.added > self.steps else 0
            if first <= ended[-1]:
                pieces.append((copy, slice(first, int(ended[-1]) + 1)))
        if not pieces:
            raise ValueError(f"the buffer holds {len(self)} transitions and no whole episode")
        joined: dict[str, Any] = {
            name: np.concatenate([array[rows, copy] for copy, rows in pieces]) for name, array in arrays.items()
        }
        return OfflineDataset(
            **joined, observation_space=self.observation_space, action_space=self.action_space, **metadata
        )
