"""The advantage of one step of an endless game that pays 1, for a critic that says the same everywhere."""

import torch

from ca14lib.agents.on_policy import generalised_advantage


def advantage(value: float, discount: float = 0.99, decay: float = 0.95, steps: int = 2_000) -> float:
    values, never = torch.full((steps, 1, 1), value), torch.zeros(steps, 1, dtype=torch.bool)
    last = never.clone()
    last[-1] = True
    constants = torch.tensor([discount]), torch.tensor([decay])
    return generalised_advantage(torch.ones(steps, 1, 1), values, values, never, last, *constants)[0].item()


if __name__ == "__main__":
    print("with returns", advantage(100.0))
    print("with normalised values", advantage(0.0))
