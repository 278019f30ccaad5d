"""A batch of transitions, the input of every off-policy and offline update."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Transitions:
    """``B`` transitions, possibly from different episodes; all tensors on one device.

    ``terminated`` marks a true end (no bootstrap), ``truncated`` a time limit (bootstrap through it).

    Attributes:
        observation: ``[B, …]``, float32 or, for discrete observations, int64.
        action: ``[B]`` int64 for discrete actions, ``[B, D]`` float32 for continuous ones.
        reward: ``[B]`` float32.
        cost: ``[B, K]`` float32; K is 0 without constraints.
        next_observation: ``[B, …]``, the observation after the step, before any reset.
        terminated: ``[B]`` bool.
        truncated: ``[B]`` bool.
        behaviour_log_prob: ``[B]`` float32, log-probability of ``action`` under the behaviour, or None.
        action_mask: ``[B, A]`` bool, actions allowed at ``observation``, or None.
        next_action_mask: ``[B, A]`` bool, actions allowed at ``next_observation``, or None.
        value_target: ``[B]`` float32, an estimate of the value of ``observation`` from its whole episode, present when
            the agent asked for it through :meth:`ca14lib.agents.Agent.relabel`, or another label per row that it made
            of the whole log (``ConstrainedBCQ``: 1 where an episode begins), or None.
    """

    observation: Tensor
    action: Tensor
    reward: Tensor
    cost: Tensor
    next_observation: Tensor
    terminated: Tensor
    truncated: Tensor
    behaviour_log_prob: Tensor | None = None
    action_mask: Tensor | None = None
    next_action_mask: Tensor | None = None
    value_target: Tensor | None = None

    def __post_init__(self) -> None:
        size = len(self.reward)
        for item in fields(self):
            value = getattr(self, item.name)
            if value is not None and (value.ndim == 0 or value.shape[0] != size):
                raise ValueError(f"{item.name} must have {size} rows like reward, got shape {tuple(value.shape)}")

    def __len__(self) -> int:
        return len(self.reward)

    def rows(self, index: Tensor) -> "Transitions":
        """The transitions at ``index``, an int64 tensor ``[B']`` on the same device."""
        return Transitions(
            *(
                None if value is None else value.index_select(0, index)
                for value in (getattr(self, item.name) for item in fields(self))
            )  # type: ignore[arg-type]
        )

    def to(self, device: str | torch.device) -> "Transitions":
        """The same transitions on another device."""
        return Transitions(
            *(
                None if value is None else value.to(device)
                for value in (getattr(self, item.name) for item in fields(self))
            )  # type: ignore[arg-type]
        )
