"""The slope of two clipped losses in the log-probability of a sample."""

from collections.abc import Callable

import torch
from torch import Tensor

from ca14lib.agents.ppo import clipped_loss


def faulty_loss(log_prob: Tensor, old_log_prob: Tensor, advantage: Tensor, clip: float) -> Tensor:
    ratio = (log_prob - old_log_prob).exp()
    return -(ratio.clamp(1 - clip, 1 + clip) * advantage).mean()


def slope(loss: Callable[..., Tensor], ratio: float, advantage: float) -> float:
    log_prob = torch.tensor([ratio], dtype=torch.float64).log().requires_grad_()
    loss(log_prob, torch.zeros(1, dtype=torch.float64), torch.tensor([advantage]), 0.2).backward()
    return float(log_prob.grad)


if __name__ == "__main__":
    for ratio, advantage in ((0.5, 1.0), (1.5, -1.0), (1.1, 1.0), (1.5, 1.0), (0.5, -1.0)):
        print(ratio, advantage, slope(clipped_loss, ratio, advantage), slope(faulty_loss, ratio, advantage))
