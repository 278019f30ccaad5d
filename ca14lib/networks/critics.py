"""Twin critics of continuous actions. Book: offline/sac, offline/td3bc."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn

from ca14lib.networks.mlp import mlp


def joint_space(features: int, action_dimension: int) -> gym.spaces.Box:
    """The space of an observation's features and an action's in one row."""
    return gym.spaces.Box(-np.inf, np.inf, (features + action_dimension,), np.float32)


class TwinCritic(nn.Module):
    """Two independent Q-networks on observation and action.

    Args:
        features: Size of an observation.
        action_dimension: Size of an action.
        hidden_sizes: Width of every hidden layer.
    """

    def __init__(self, features: int, action_dimension: int, hidden_sizes: Sequence[int]) -> None:
        super().__init__()
        space = joint_space(features, action_dimension)
        self.first, self.second = (mlp(space, 1, hidden_sizes) for _ in range(2))

    def forward(self, observation: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Both values ``[…]`` of observations ``[…, features]`` and actions ``[…, D]`` in [−1, 1]."""
        joint = torch.cat([observation, action], dim=-1)
        return self.first(joint).squeeze(-1), self.second(joint).squeeze(-1)

    def least(self, observation: Tensor, action: Tensor) -> Tensor:
        """The lesser of the two values, ``[…]``."""
        return torch.minimum(*self(observation, action))


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Gradients flow through the module to its input, and its parameters gather none: a third less to compute."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
