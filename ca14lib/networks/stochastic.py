"""Stochastic policies for policy gradients, whose log-probability is that of what was drawn. Book: safe/ppo.

A policy maps observations to parameters (log-probabilities, or mean and log standard deviation); the distribution's
functions take parameters, so that an update computes them once.
"""

from collections.abc import Sequence

import gymnasium as gym
import torch
from torch import Tensor, nn

from ca14lib.networks.mlp import mlp
from ca14lib.networks.policies import HALF_LOG_2PI, gaussian_log_density

Parameters = tuple[Tensor, ...]
LAST_LAYER_SCALE = 0.01  # a policy starts near uniform: the last layer's weights are this share of their usual size


class CategoricalPolicy(nn.Module):
    """Softmax over discrete actions, with masks (book eq. shield-mask).

    Args:
        observation_space: ``Box`` or ``Discrete``.
        num_actions: A.
        hidden_sizes: Width of every hidden layer.
    """

    def __init__(self, observation_space: gym.Space, num_actions: int, hidden_sizes: Sequence[int]) -> None:
        super().__init__()
        self.network = mlp(observation_space, num_actions, hidden_sizes, activation=nn.Tanh)
        _shrink_last_layer(self.network)

    def forward(self, observation: Tensor, mask: Tensor | None = None) -> Parameters:
        """Log-probabilities ``[B, A]``, −∞ where the mask is false."""
        logits = self.network(observation)
        if mask is not None:
            logits = logits.masked_fill(~mask, -torch.inf)
        return (logits.log_softmax(dim=-1),)

    @staticmethod
    def draw(parameters: Parameters, generator: torch.Generator) -> Tensor:
        """Actions ``[B]``."""
        return torch.multinomial(parameters[0].exp(), 1, generator=generator).squeeze(-1)

    @staticmethod
    def best(parameters: Parameters) -> Tensor:
        """The most probable actions ``[B]``."""
        return parameters[0].argmax(dim=-1)

    @staticmethod
    def log_prob(parameters: Parameters, action: Tensor) -> Tensor:
        """``[B]``."""
        return parameters[0].gather(-1, action.unsqueeze(-1)).squeeze(-1)

    @staticmethod
    def entropy(parameters: Parameters) -> Tensor:
        """``[B]``, in nats."""
        log_prob = parameters[0]
        return -(log_prob.exp() * log_prob.clamp(min=-1e9)).sum(dim=-1)

    @staticmethod
    def kl(old: Parameters, new: Parameters) -> Tensor:
        """KL(old ‖ new), ``[B]``, summed over actions."""
        first, second = old[0].clamp(min=-1e9), new[0].clamp(min=-1e9)
        return (first.exp() * (first - second)).sum(dim=-1)


class DiagonalGaussianPolicy(nn.Module):
    """Gaussian with a mean network and one learned standard deviation per dimension; not squashed, not clipped.

    Actions are in [−1, 1] units; whoever executes one clips it, while its log-probability stays that of the draw.

    Args:
        observation_space: Space of the rows it gets.
        action_dimension: D.
        hidden_sizes: Width of every hidden layer.
        initial_log_std: Log standard deviation at the start.
    """

    def __init__(
        self,
        observation_space: gym.Space,
        action_dimension: int,
        hidden_sizes: Sequence[int],
        initial_log_std: float = -0.5,
    ) -> None:
        super().__init__()
        self.network = mlp(observation_space, action_dimension, hidden_sizes, activation=nn.Tanh)
        _shrink_last_layer(self.network)
        self.log_std = nn.Parameter(torch.full((action_dimension,), initial_log_std))

    def forward(self, observation: Tensor, mask: Tensor | None = None) -> Parameters:
        """Mean and log standard deviation, ``[B, D]`` each."""
        mean = self.network(observation)
        return mean, self.log_std.expand_as(mean)

    @staticmethod
    def draw(parameters: Parameters, generator: torch.Generator) -> Tensor:
        """Actions ``[B, D]``."""
        mean, log_std = parameters
        return mean + log_std.exp() * torch.randn(mean.shape, generator=generator, device=mean.device)

    @staticmethod
    def best(parameters: Parameters) -> Tensor:
        """The means ``[B, D]``."""
        return parameters[0]

    @staticmethod
    def log_prob(parameters: Parameters, action: Tensor) -> Tensor:
        """Log-densities ``[B]``, summed over dimensions."""
        mean, log_std = parameters
        return gaussian_log_density((action - mean) / log_std.exp(), log_std)

    @staticmethod
    def entropy(parameters: Parameters) -> Tensor:
        """``[B]``, in nats, summed over dimensions."""
        return (parameters[1] + HALF_LOG_2PI + 0.5).sum(dim=-1)

    @staticmethod
    def kl(old: Parameters, new: Parameters) -> Tensor:
        """KL(old ‖ new), ``[B]``, summed over dimensions."""
        (old_mean, old_log_std), (mean, log_std) = old, new
        ratio = (old_log_std - log_std).exp().square() + ((old_mean - mean) / log_std.exp()).square()
        return (log_std - old_log_std + 0.5 * (ratio - 1)).sum(dim=-1)


StochasticPolicy = CategoricalPolicy | DiagonalGaussianPolicy


def _shrink_last_layer(network: nn.Sequential) -> None:
    last = network[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.weight.mul_(LAST_LAYER_SCALE)
        last.bias.zero_()
