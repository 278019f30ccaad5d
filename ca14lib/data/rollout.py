"""What a batch of environments gave an on-policy agent, in the order of time."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Rollout:
    """``T`` steps of ``N`` environments under one policy; all tensors on one device.

    ``terminated`` marks a true end (no bootstrap), ``truncated`` a time limit (bootstrap through it). Episodes may
    start before the first step and go on after the last; what whole episodes summed up to is told apart.

    Attributes:
        observation: ``[T, N, …]``.
        action: ``[T, N]`` int64, or ``[T, N, D]`` float32 in environment units as the policy drew it, before it was
            clipped to its bounds or filtered.
        log_prob: ``[T, N]``, log-probability of ``action`` under the policy that drew it, with the mask if there is
            one.
        reward: ``[T, N]``.
        cost: ``[T, N, K]``; K is 0 without constraints.
        next_observation: ``[T, N, …]``, after the step and before any reset.
        terminated: ``[T, N]`` bool.
        truncated: ``[T, N]`` bool.
        episode_return: ``[E]``, undiscounted, of the episodes that ended in these steps; E may be 0.
        episode_cost: ``[E, K]``, undiscounted.
        episode_length: ``[E]``, steps.
        action_mask: ``[T, N, A]`` bool, actions that were allowed, or None.

    Raises:
        ValueError: If shapes disagree.
    """

    observation: Tensor
    action: Tensor
    log_prob: Tensor
    reward: Tensor
    cost: Tensor
    next_observation: Tensor
    terminated: Tensor
    truncated: Tensor
    episode_return: Tensor
    episode_cost: Tensor
    episode_length: Tensor
    action_mask: Tensor | None = None

    def __post_init__(self) -> None:
        steps = self.reward.shape
        if len(steps) != 2:
            raise ValueError(f"reward must have shape [T, N], got {tuple(steps)}")
        episodes = len(self.episode_return)
        for item in fields(self):
            value = getattr(self, item.name)
            if value is None:
                continue
            expected = (episodes,) if item.name.startswith("episode_") else tuple(steps)
            if tuple(value.shape[: len(expected)]) != expected:
                raise ValueError(f"{item.name} must begin with shape {expected}, got {tuple(value.shape)}")
        if self.cost.ndim != 3:
            raise ValueError(f"cost must have shape [T, N, K], got {tuple(self.cost.shape)}")
        if self.episode_cost.shape[1:] != self.cost.shape[2:]:
            raise ValueError(
                f"episode_cost must be [E, {self.cost.shape[-1]}] like cost, got {tuple(self.episode_cost.shape)}"
            )

    @property
    def size(self) -> int:
        """Number of transitions, T · N."""
        return self.reward.numel()

    @property
    def num_costs(self) -> int:
        """K."""
        return self.cost.shape[-1]

    def flat(self, name: str) -> Tensor:
        """A column ``[T, N, …]`` as rows ``[T · N, …]``."""
        return getattr(self, name).flatten(0, 1)

    def last_of_path(self) -> Tensor:
        """``[T, N]`` bool: steps whose successor is not the next row: ends, and the last step of the rollout."""
        last = self.terminated | self.truncated
        last = last.clone()
        last[-1] = True
        return last

    def first_episodes(self) -> tuple[Tensor, Tensor]:
        """The steps of every environment's first episode ``[T, N]`` bool, and whether it ended in time ``[N]`` bool.

        Where every environment starts an episode with the rollout, these are whole episodes, and none of them was
        chosen for being short.
        """
        ends = (self.terminated | self.truncated).cumsum(dim=0)
        before = torch.zeros_like(ends)
        before[1:] = ends[:-1]
        return before == 0, ends[-1] > 0

    def mean_episode_cost(self) -> Tensor | None:
        """Mean undiscounted cost ``[K]`` of the completed episodes, None if there were none."""
        return self.episode_cost.mean(dim=0) if len(self.episode_cost) else None

    def to(self, device: str | torch.device) -> "Rollout":
        """The same rollout on another device."""
        return Rollout(
            *(
                None if value is None else value.to(device)
                for value in (getattr(self, item.name) for item in fields(self))
            )  # type: ignore[arg-type]
        )
