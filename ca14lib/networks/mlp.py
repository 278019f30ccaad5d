"""Multilayer perceptrons for every observation space of the course. Book: notation (parameters θ)."""

from collections.abc import Sequence

import gymnasium as gym
import torch
from torch import Tensor, nn


class OneHotLinear(nn.Linear):
    """A linear layer on a one-hot input, by table look-up: the same function without the product with zeros.

    It starts with the small weights of ``nn.Linear``: values of states never seen in the data then stay near 0, which
    matters to offline learners on sparse rewards (book: offline/theory).

    Args:
        categories: Number of values of the discrete observation.
        features: Number of outputs.
    """

    def __init__(self, categories: int, features: int) -> None:
        super().__init__(categories, features)
        # stored [categories, features], so that one look-up reads one row
        self.weight = nn.Parameter(self.weight.detach().T.contiguous())

    def forward(self, index: Tensor) -> Tensor:
        return nn.functional.embedding(index, self.weight) + self.bias


class Flat(nn.Module):
    """Observations ``[B, …]`` as rows ``[B, D]``; plain numbers become rows of one."""

    def forward(self, observation: Tensor) -> Tensor:
        return observation.reshape(len(observation), -1)


def mlp(
    observation_space: gym.Space, outputs: int, hidden_sizes: Sequence[int], activation: type[nn.Module] = nn.ReLU
) -> nn.Sequential:
    """A network from one observation to ``outputs`` numbers, ReLU between its layers unless told otherwise.

    Args:
        observation_space: ``Box`` (flattened) or ``Discrete`` (one-hot, by look-up).
        outputs: Size of the output, at least 1.
        hidden_sizes: Width of every hidden layer, at least one.
        activation: What stands between the layers.
    Returns:
        Module that maps ``[B, …]`` to ``[B, outputs]``.
    """
    if outputs < 1 or not hidden_sizes or min(hidden_sizes) < 1:
        raise ValueError(f"outputs and hidden_sizes must be positive, got {outputs} and {tuple(hidden_sizes)}")
    layers: list[nn.Module]
    if isinstance(observation_space, gym.spaces.Discrete):
        if observation_space.start != 0:
            raise ValueError(f"discrete observations must start at 0, got {observation_space}")
        layers = [OneHotLinear(int(observation_space.n), hidden_sizes[0])]
    elif isinstance(observation_space, gym.spaces.Box):
        reshape = [Flat()] if len(observation_space.shape) != 1 else []
        layers = [*reshape, nn.Linear(gym.spaces.flatdim(observation_space), hidden_sizes[0])]
    else:
        raise ValueError(f"observations must live in a Box or Discrete space, got {observation_space}")
    for width, following in zip(hidden_sizes, [*hidden_sizes[1:], outputs], strict=True):
        layers += [activation(), nn.Linear(width, following)]
    return nn.Sequential(*layers)


@torch.no_grad()
def polyak_update(target: nn.Module, source: nn.Module, rate: float) -> None:
    r"""Move target parameters towards the source: :math:`\bar\theta \leftarrow (1-\eta)\bar\theta + \eta\theta`.

    Book eq. polyak.

    Args:
        target: Network that trails.
        source: Network of the same shape.
        rate: :math:`\eta` in [0, 1]; 1 copies.
    """
    torch._foreach_lerp_(list(target.parameters()), list(source.parameters()), rate)
