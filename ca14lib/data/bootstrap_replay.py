"""A replay buffer that stores which heads of an ensemble may learn from a transition. Book: robust/bayesian."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ca14lib.data.replay import ReplayBuffer
from ca14lib.data.transitions import Transitions


@dataclass(frozen=True, eq=False)
class BootstrapTransitions(Transitions):
    """Transitions with ``head_mask [B, K]``, true where head k may learn from the row."""

    head_mask: Tensor | None = None

    def rows(self, index: Tensor) -> "BootstrapTransitions":
        """The transitions at ``index``, with their masks."""
        return self._mapped(lambda value: value.index_select(0, index))

    def to(self, device: str | torch.device) -> "BootstrapTransitions":
        """The same transitions on another device."""
        return self._mapped(lambda value: value.to(device))

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> "BootstrapTransitions":
        changed = {name: None if value is None else change(value) for name, value in vars(self).items()}
        return BootstrapTransitions(**changed)  # type: ignore[arg-type]


class BootstrapReplay(ReplayBuffer):
    """A :class:`ReplayBuffer` with one more column, ``head_mask``, drawn once when a transition comes in.

    The masks of the t-th step are a function of the seed and t, so that a run which resumes from a checkpoint draws
    the same ones; those drawn before are in the checkpoint with the other columns.

    Args:
        observation_space: As in :class:`ReplayBuffer`.
        action_space: As in :class:`ReplayBuffer`.
        capacity: As in :class:`ReplayBuffer`.
        heads: K, at least 1.
        probability: Of every entry of a mask, in (0, 1].
        num_envs: Environments stepped together.
        seed: Fixes the masks.
        on_end: Called with a flag per environment, ``[num_envs]``, whenever episodes have ended or were cut.
        device: Where the buffer lives.
    """

    def __init__(
        self,
        observation_space: gym.Space,
        action_space: gym.Space,
        capacity: int,
        *,
        heads: int,
        probability: float,
        num_envs: int = 1,
        seed: int = 0,
        on_end: Callable[[NDArray[np.bool_]], None] | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        super().__init__(observation_space, action_space, capacity, num_envs=num_envs, device=device)
        if heads < 1 or not 0 < probability <= 1:
            raise ValueError(
                f"heads must be at least 1 and probability in (0, 1], got {heads} heads and probability {probability}"
            )
        self.heads, self.probability, self.seed, self.on_end = heads, probability, seed, on_end
        self.columns["head_mask"] = torch.zeros((self.steps, num_envs, heads), dtype=torch.bool, device=device)

    def add(self, **step: ArrayLike) -> None:
        """One step of all environments, with fresh masks; tells ``on_end`` which episodes it ended."""
        super().add(**step, head_mask=self.masks(self.added))
        ended = np.asarray(step["terminated"]) | np.asarray(step["truncated"])
        if self.on_end is not None and ended.any():
            self.on_end(ended)

    def masks(self, step: int) -> NDArray[np.bool_]:
        """The masks of the step-th step of all environments, ``[num_envs, K]``."""
        generator = np.random.Generator(np.random.Philox(key=self.seed, counter=[0, 0, 0, step]))
        return generator.random((self.num_envs, self.heads)) < self.probability

    def end_episodes(self) -> None:
        """Mark the newest step as cut short in every environment; all of them then begin new episodes."""
        super().end_episodes()
        if self.on_end is not None:
            self.on_end(np.ones(self.num_envs, dtype=bool))

    def sample(self, batch_size: int, generator: torch.Generator) -> BootstrapTransitions:
        """Transitions drawn uniformly with replacement, each with the masks that were stored with it."""
        if len(self) == 0:
            raise ValueError("the replay buffer is empty: add steps before sampling")
        index = torch.randint(len(self), (batch_size,), generator=generator, device=generator.device)
        drawn: dict[str, Any] = {name: column.flatten(0, 1)[index] for name, column in self.columns.items()}
        return BootstrapTransitions(**drawn, cost=drawn["reward"].new_zeros((batch_size, 0)))
