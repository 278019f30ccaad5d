"""The minimiser of the quantile Huber loss on a target that is −10 with probability 0.1 and else 0."""

import torch

from ca14lib.agents.robust.qr_dqn import quantile_huber_loss


def minimiser(fraction: float, kappa: float = 1.0) -> float:
    """By bisection on the derivative, which never falls."""
    target = torch.tensor([[-10.0] + [0.0] * 9])
    low, high = -12.0, 2.0
    for _ in range(60):
        middle = torch.tensor([[(low + high) / 2]], requires_grad=True)
        (slope,) = torch.autograd.grad(quantile_huber_loss(middle, target, torch.tensor([fraction]), kappa), middle)
        low, high = (middle.item(), high) if slope.item() < 0 else (low, middle.item())
    return (low + high) / 2


if __name__ == "__main__":
    for fraction in (0.05, 0.15):
        print(f"fraction {fraction}:", {kappa: round(minimiser(fraction, kappa), 3) for kappa in (1.0, 0.1, 0.01)})
