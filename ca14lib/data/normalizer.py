"""Standardisation of observations, fitted on data and carried by the agent."""

import torch
from torch import Tensor, nn


class Normalizer(nn.Module):
    """Maps an observation to (observation − mean) / (std + ε), feature by feature.

    It belongs to the agent, is saved with it, and is applied in ``act`` and ``update`` alike: the data stay raw.

    Args:
        mean: Mean of every feature, shape ``[…]`` of one observation.
        std: Standard deviation, same shape, not negative.
        epsilon: Added to ``std``; features that never vary are only centred.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Tensor, std: Tensor, epsilon: float = 1e-3) -> None:
        super().__init__()
        mean, std = torch.as_tensor(mean, dtype=torch.float32), torch.as_tensor(std, dtype=torch.float32)
        if mean.shape != std.shape:
            raise ValueError(f"mean and std must have one shape, got {tuple(mean.shape)} and {tuple(std.shape)}")
        if not (mean.isfinite().all() and std.isfinite().all() and (std >= 0).all()):
            raise ValueError("mean and std must be finite and std not negative")
        self.register_buffer("mean", mean)
        self.register_buffer("scale", torch.where(std > 0, 1.0 / (std + epsilon), torch.ones_like(std)))

    @classmethod
    def fit(cls, observation: Tensor, epsilon: float = 1e-3) -> "Normalizer":
        """The normalizer of a set of observations ``[N, …]``."""
        if observation.shape[0] == 0 or not observation.is_floating_point():
            raise ValueError(
                f"a normalizer is fitted on at least one real-valued observation, got {len(observation)} "
                f"of dtype {observation.dtype}"
            )
        values = observation.double()
        return cls(values.mean(dim=0), values.std(dim=0, correction=0), epsilon)

    def forward(self, observation: Tensor) -> Tensor:
        return (observation - self.mean) * self.scale
