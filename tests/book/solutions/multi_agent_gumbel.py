"""Mean straight-through gradients of one agent with two actions and equal logits."""

from collections.abc import Callable

import torch
from torch import Tensor

from ca14lib.agents.multi_agent.gumbel import gumbel_softmax


def linear(action: Tensor) -> Tensor:
    return action[:, 0]


def bent(action: Tensor, strength: float = 5.0) -> Tensor:
    """The same values at both corners."""
    return action[:, 0] + strength * action[:, 0] ** 2 * action[:, 1]


def mean_gradient(critic: Callable[[Tensor], Tensor], draws: int = 200_000) -> float:
    """In the first logit; the truth is 1/4 for both critics."""
    logits = torch.zeros(draws, 2, requires_grad=True)
    action = gumbel_softmax(logits, 1.0, torch.Generator().manual_seed(0))
    (gradient,) = torch.autograd.grad(critic(action).sum(), logits)
    return float(gradient[:, 0].mean())


if __name__ == "__main__":
    print(mean_gradient(linear), mean_gradient(bent))
