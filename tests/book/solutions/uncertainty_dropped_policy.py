"""PPO's probability ratio when the policy drops units, before any update: it ought to be 1."""

import torch
from torch import nn

CLIP = 0.2


def ratios(rate: float, scale: float = 1.0, seed: int = 0) -> torch.Tensor:
    """Of 2,000 actions drawn in one pass and rated in the next, by the original's network, logits times ``scale``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = []
        for width in (6, 256):
            layers += [nn.Linear(width, 256), nn.LayerNorm(256), nn.ReLU(), nn.Dropout(rate)]
        network = nn.Sequential(*layers, nn.Linear(256, 4))
        observation = torch.rand(2_000, 6)
        with torch.no_grad():
            old, new = (torch.distributions.Categorical(logits=scale * network(observation)) for _ in range(2))
            action = old.sample()
            return (new.log_prob(action) - old.log_prob(action)).exp()


def share_clipped(ratio: torch.Tensor) -> float:
    return float(((ratio - 1).abs() > CLIP).float().mean())


if __name__ == "__main__":
    for rate in (0.0, 0.1):
        for scale in (1.0, 5.0):
            print(rate, scale, share_clipped(ratios(rate, scale)))
