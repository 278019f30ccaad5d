"""Policies over continuous actions in [−1, 1]. Book: offline/sac (squashed Gaussian), offline/iql (Gaussian)."""

import math
from collections.abc import Sequence

import gymnasium as gym
import torch
from torch import Tensor, nn

from ca14lib.networks.mlp import mlp

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def gaussian_log_density(noise: Tensor, log_std: Tensor) -> Tensor:
    """Log-density of ``mean + std · noise`` under a diagonal Gaussian, summed over the last dimension.

    Args:
        noise: ``[…, D]``, the standardised deviation from the mean.
        log_std: ``[…, D]`` or ``[D]``.
    Returns:
        ``[…]``.
    """
    return (-0.5 * noise.square() - log_std - HALF_LOG_2PI).sum(dim=-1)


def log_tanh_slope(pre_tanh: Tensor) -> Tensor:
    """Log of the derivative of tanh, ``log(1 − tanh² u)``, elementwise and without cancellation for large ``u``."""
    return 2 * (math.log(2) - pre_tanh - nn.functional.softplus(-2 * pre_tanh))


def draw_squashed(mean: Tensor, log_std: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Actions tanh(mean + std · noise) and their log-densities on [−1, 1]ᴰ (book eq. squashed-gaussian).

    Args:
        mean: ``[…, D]``; expand it to draw several actions.
        log_std: Same shape.
        generator: On their device.
    Returns:
        ``[…, D]`` and ``[…]``; gradients flow into mean and standard deviation.
    """
    noise = torch.randn(mean.shape, generator=generator, device=mean.device)
    pre_tanh = mean + log_std.exp() * noise
    log_density = gaussian_log_density(noise, log_std) - log_tanh_slope(pre_tanh).sum(dim=-1)
    return pre_tanh.tanh(), log_density


class SquashedGaussianPolicy(nn.Module):
    """tanh of a diagonal Gaussian whose mean and standard deviation depend on the observation.

    Book eq. squashed-gaussian.

    Args:
        observation_space: Space of the rows it gets.
        action_dimension: D.
        hidden_sizes: Width of every hidden layer.
        log_std_range: The log standard deviation is clamped to it.
    """

    def __init__(
        self,
        observation_space: gym.Space,
        action_dimension: int,
        hidden_sizes: Sequence[int],
        log_std_range: tuple[float, float] = (-5.0, 2.0),
    ) -> None:
        super().__init__()
        self.network = mlp(observation_space, 2 * action_dimension, hidden_sizes)
        self.log_std_range = log_std_range

    def parameters_of(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation before tanh, ``[B, D]`` each."""
        mean, log_std = self.network(observation).chunk(2, dim=-1)
        return mean, log_std.clamp(*self.log_std_range)

    def sample(self, observation: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Reparameterised actions ``[B, D]`` and their log-densities ``[B]`` on [−1, 1]ᴰ."""
        return draw_squashed(*self.parameters_of(observation), generator)

    def log_prob(self, observation: Tensor, action: Tensor) -> Tensor:
        """Log-density ``[B]`` of actions ``[B, D]`` in (−1, 1); on the border the nearest inner number counts."""
        mean, log_std = self.parameters_of(observation)
        pre_tanh = action.clamp(-1 + 1e-6, 1 - 1e-6).atanh()
        noise = (pre_tanh - mean) / log_std.exp()
        return gaussian_log_density(noise, log_std) - log_tanh_slope(pre_tanh).sum(dim=-1)

    def best(self, observation: Tensor) -> Tensor:
        """tanh of the mean, ``[B, D]``."""
        return self.parameters_of(observation)[0].tanh()


class DeterministicPolicy(nn.Module):
    """tanh of a network: one action per observation.

    Args:
        observation_space: Space of the rows it gets.
        action_dimension: D.
        hidden_sizes: Width of every hidden layer.
    """

    def __init__(self, observation_space: gym.Space, action_dimension: int, hidden_sizes: Sequence[int]) -> None:
        super().__init__()
        self.network = mlp(observation_space, action_dimension, hidden_sizes)

    def forward(self, observation: Tensor) -> Tensor:
        """Actions ``[B, D]`` in [−1, 1]."""
        return self.network(observation).tanh()


class GaussianPolicy(nn.Module):
    """Unsquashed Gaussian with mean tanh(network) and one learned standard deviation per dimension.

    Book eq. iql-gaussian. Actions in the data may lie on the border of [−1, 1]: their density stays finite.

    Args:
        observation_space: Space of the rows it gets.
        action_dimension: D.
        hidden_sizes: Width of every hidden layer.
        log_std_range: The log standard deviation is clamped to it.
    """

    def __init__(
        self,
        observation_space: gym.Space,
        action_dimension: int,
        hidden_sizes: Sequence[int],
        log_std_range: tuple[float, float] = (-5.0, 2.0),
    ) -> None:
        super().__init__()
        self.network = mlp(observation_space, action_dimension, hidden_sizes)
        self.log_std = nn.Parameter(torch.zeros(action_dimension))
        self.log_std_range = log_std_range

    def best(self, observation: Tensor) -> Tensor:
        """The mean, ``[B, D]``."""
        return self.network(observation).tanh()

    def sample(self, observation: Tensor, generator: torch.Generator) -> Tensor:
        """Actions ``[B, D]``, clipped to [−1, 1]."""
        mean = self.best(observation)
        noise = torch.randn(mean.shape, generator=generator, device=mean.device)
        return (mean + self.log_std.clamp(*self.log_std_range).exp() * noise).clamp(-1, 1)

    def log_prob(self, observation: Tensor, action: Tensor) -> Tensor:
        """Log-density ``[B]`` of actions ``[B, D]`` before clipping."""
        log_std = self.log_std.clamp(*self.log_std_range)
        return gaussian_log_density((action - self.best(observation)) / log_std.exp(), log_std)
