"""Projected gradient ascent on a divergence, from the centre and from random starts."""

import torch
from torch import Tensor

from ca14lib.agents.robust.perturbations import pgd

EPSILON = 0.2


def log_policy(x: Tensor) -> Tensor:
    return torch.stack([torch.zeros_like(x), 3.0 * x], dim=-1).log_softmax(dim=-1).squeeze(-2)


def divergence(x: Tensor, centre: Tensor) -> Tensor:
    first, second = log_policy(centre), log_policy(x)
    return (first.exp() * (first - second)).sum(dim=-1)


def reached(starts: int = 100) -> tuple[float, Tensor]:
    """The divergence that ten steps reach from the centre, and the points they reach from random starts."""
    centre = torch.full((starts, 1), 0.5, dtype=torch.float64)

    def loss(x: Tensor) -> Tensor:
        return divergence(x, centre[: len(x)])

    still = pgd(loss, centre[:1], EPSILON, 10)
    moved = pgd(loss, centre, EPSILON, 10, None, torch.Generator().manual_seed(0))
    return float(divergence(still, centre[:1])), moved.squeeze(1)


if __name__ == "__main__":
    centre, points = reached()
    ends = torch.tensor([[0.3], [0.7]], dtype=torch.float64)
    print(centre, points.unique(), divergence(ends, torch.tensor([[0.5]], dtype=torch.float64)))
