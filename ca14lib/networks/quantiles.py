"""Networks whose outputs are return distributions, one for each action. Book: robust/distributional."""

import math
from collections.abc import Sequence

import gymnasium as gym
import torch
from torch import Tensor, nn

from ca14lib.networks.mlp import mlp


def midpoint_fractions(count: int, device: str | torch.device = "cpu") -> Tensor:
    r"""The midpoints :math:`\hat\tau_i=(i+\tfrac12)/N`, ``[N]`` (book eq. qrdqn-midpoints).

    Args:
        count: N, at least 1.
        device: Where they are made.
    Raises:
        ValueError: If the number is not a positive integer.
    """
    if count < 1:
        raise ValueError(f"the number of fractions must be at least 1, got {count}")
    return (torch.arange(count, device=device, dtype=torch.float32) + 0.5) / count


def atom_network(
    observation_space: gym.Space, num_actions: int, num_atoms: int, hidden_sizes: Sequence[int]
) -> nn.Sequential:
    """A multilayer perceptron with ``num_atoms`` outputs for every action.

    Args:
        observation_space: ``Box`` (flattened) or ``Discrete`` (one-hot, by look-up).
        num_actions: A.
        num_atoms: N.
        hidden_sizes: Width of every hidden layer, at least one.
    Returns:
        Module that maps ``[B, …]`` to ``[B, A, N]``.
    Raises:
        ValueError: If a size is not positive or the space is not supported.
    """
    if num_actions < 1 or num_atoms < 1:
        raise ValueError(f"num_actions and num_atoms must be positive, got {num_actions} and {num_atoms}")
    body = mlp(observation_space, num_actions * num_atoms, hidden_sizes)
    return nn.Sequential(body, nn.Unflatten(1, (num_actions, num_atoms)))


class CosineEmbedding(nn.Module):
    r"""Features of a fraction, :math:`\phi_j(\tau)=\operatorname{ReLU}(\sum_i\cos(\pi i\tau)w_{ij}+b_j)`.

    Book eq. iqn-embedding. The sum has n terms, :math:`i=0,\dots,n-1`.

    Args:
        num_cosines: n, at least 1.
        features: Number of outputs.
    """

    frequency: Tensor

    def __init__(self, num_cosines: int, features: int) -> None:
        super().__init__()
        if num_cosines < 1 or features < 1:
            raise ValueError(f"num_cosines and features must be positive, got {num_cosines} and {features}")
        self.linear = nn.Linear(num_cosines, features)
        self.register_buffer("frequency", math.pi * torch.arange(num_cosines), persistent=False)

    def forward(self, fractions: Tensor) -> Tensor:
        """Fractions of any shape ``[…]`` in [0, 1] to features ``[…, features]``, all at least 0."""
        return torch.relu(self.linear(torch.cos(fractions.unsqueeze(-1) * self.frequency)))


class ImplicitQuantileNetwork(nn.Module):
    r"""Quantiles of every action's return at any fractions, :math:`f(\psi(s)\odot\phi(\tau))_a` (book eq. iqn-network).

    :math:`\psi` has the hidden layers but the last, :math:`f` the last one and the output; with a single hidden layer
    it is :math:`\psi`'s, and :math:`f` is linear.

    Args:
        observation_space: ``Box`` (flattened) or ``Discrete`` (one-hot, by look-up).
        num_actions: A.
        num_cosines: n of the embedding.
        hidden_sizes: Width of every hidden layer, at least one.
    Raises:
        ValueError: If a size is not positive or the space is not supported.
    """

    def __init__(
        self, observation_space: gym.Space, num_actions: int, num_cosines: int, hidden_sizes: Sequence[int]
    ) -> None:
        super().__init__()
        if not hidden_sizes:
            raise ValueError("hidden_sizes must hold at least one layer, got none")
        *before, features = hidden_sizes[:-1] or hidden_sizes
        merged = gym.spaces.Box(-math.inf, math.inf, (features,))
        if before:
            self.observation_body: nn.Module = nn.Sequential(mlp(observation_space, features, before), nn.ReLU())
        else:  # one layer: a network without hidden layers is the first layer of one with them
            self.observation_body = mlp(observation_space, 1, [features])[:-1]
        self.embedding = CosineEmbedding(num_cosines, features)
        if len(hidden_sizes) > 1:
            self.head: nn.Module = mlp(merged, num_actions, hidden_sizes[-1:])
        else:
            self.head = nn.Linear(features, num_actions)

    def forward(self, observation: Tensor, fractions: Tensor) -> Tensor:
        """Observations ``[B, …]`` and fractions ``[B, N]`` to quantiles ``[B, A, N]``."""
        merged = self.observation_body(observation).unsqueeze(1) * self.embedding(fractions)
        return self.head(merged.flatten(0, 1)).unflatten(0, fractions.shape).transpose(1, 2)
