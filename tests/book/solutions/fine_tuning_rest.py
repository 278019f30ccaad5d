"""Minimum of the calibrated loss for a table of one state whose recorded actions lie under the reference."""

import torch

from ca14lib.agents.hybrid.cal_ql import calibrated_penalty


def rest(means: list[float], counts: list[int], alpha: float, reference: float, start: float = -2.0) -> torch.Tensor:
    """Values ``[A]`` after gradient descent; an action with count 0 is not recorded."""
    action = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    target, floor = torch.tensor(means)[action], torch.full((len(action),), reference)
    q = torch.full((len(means),), start, requires_grad=True)
    for _ in range(1_500):
        penalty = calibrated_penalty(q.expand(len(action), -1), action, floor)
        loss = 0.5 * (q[action] - target).square().mean() + alpha * penalty
        (slope,) = torch.autograd.grad(loss, q)
        q = (q - 0.5 * slope).detach().requires_grad_()
    return q.detach()


if __name__ == "__main__":
    print(rest([-1.0, -1.3, 0.0], [9, 1, 0], alpha=0.2, reference=0.5))
    print("without the reference", rest([-1.0, -1.3, 0.0], [9, 1, 0], alpha=0.2, reference=-torch.inf))
