"""Where quantiles go when the fractions weigh the targets in place of the predictions."""

import torch


def rest(axis: int, steps: int = 4_000, kappa: float = 0.05) -> torch.Tensor:
    """Predictions after gradient descent on the pairwise loss, with the fractions along an axis of the pairs."""
    count = 20
    fractions = (torch.arange(count) + 0.5) / count
    target = -torch.log(1 - fractions)  # quantiles of an exponential distribution
    prediction = torch.linspace(-1, 4, count).requires_grad_()
    for step in range(steps):
        error = target[None, :] - prediction[:, None]
        size = error.abs()
        huber = torch.where(size > kappa, kappa * (size - kappa / 2), error.square() / 2) / kappa
        weight = fractions[:, None] if axis == 0 else fractions[None, :]
        loss = ((weight - (error < 0).float()).abs() * huber).mean(dim=1).sum()
        (slope,) = torch.autograd.grad(loss, prediction)
        with torch.no_grad():
            prediction -= 0.1 * (1 - step / steps) * slope
    return prediction.detach()


if __name__ == "__main__":
    print("right:  ", rest(axis=0)[::4])
    print("swapped:", rest(axis=1)[::4], "median", torch.log(torch.tensor(2.0)))
