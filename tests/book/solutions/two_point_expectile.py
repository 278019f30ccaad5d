"""The expectile of a variable that is 1 with probability p and 0 otherwise, from the library's own loss."""

import torch

from ca14lib.agents.offline.iql import expectile_loss


def closed_form(p: float, expectile: float) -> float:
    return expectile * p / (expectile * p + (1 - expectile) * (1 - p))


def minimiser(p: float, expectile: float, samples: int = 1000) -> float:
    """The number at which the gradient of the loss changes sign, by bisection."""
    sample = (torch.arange(samples) < p * samples).double()
    low, high = 0.0, 1.0
    for _ in range(40):
        m = torch.tensor((low + high) / 2, dtype=torch.float64, requires_grad=True)
        expectile_loss(sample - m, expectile).backward()
        low, high = (m.item(), high) if m.grad < 0 else (low, m.item())
    return (low + high) / 2


if __name__ == "__main__":
    for p in (0.5, 0.1, 0.01):
        for expectile in (0.7, 0.9, 0.99):
            formula, found = closed_form(p, expectile), minimiser(p, expectile)
            print(f"p = {p:4.2f}, τ = {expectile:4.2f}: formula {formula:.3f}, found {found:.3f}")
