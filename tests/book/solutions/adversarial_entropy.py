"""What an attack on the entropy chooses, and what an attack on the value of the action."""

import torch
from torch import Tensor

VALUES = torch.tensor([1.0, 0.9, -10.0])


def policy(x: Tensor) -> Tensor:
    """Action 0 at x = 0; to the left an even mixture of actions 0 and 1, to the right action 2."""
    logits = torch.stack([torch.full_like(x, 4.0), 4.0 + 6.0 * (-x - 1.0), 4.0 + 20.0 * (x - 0.5)], dim=-1)
    return logits.softmax(dim=-1)


def entropy(x: Tensor) -> Tensor:
    probabilities = policy(x)
    return -(probabilities * probabilities.log()).sum(dim=-1)


def value(x: Tensor) -> Tensor:
    return policy(x) @ VALUES


def choices() -> dict[str, float]:
    """The end of the ball [−1, 1] that each attacker prefers."""
    ends = torch.tensor([-1.0, 1.0])
    return {"entropy": float(ends[entropy(ends).argmax()]), "value": float(ends[value(ends).argmin()])}


if __name__ == "__main__":
    print(choices(), value(torch.tensor([-1.0, 0.0, 1.0])))
