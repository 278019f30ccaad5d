"""Advantages of one rollout with an end in it, and with two faults."""

import torch

from ca14lib.agents.on_policy import generalised_advantage

DISCOUNT, DECAY = torch.tensor([0.9]), torch.tensor([0.5])


def advantages(terminated_at: int | None = None, truncated_at: int | None = None, *, after: float = 10.0,
               first_of_next: float = 10.0, one_flag: bool = False, next_row: bool = False) -> list[float]:  # fmt: skip
    """Of four steps with reward 1 and value 10.

    Args:
        terminated_at: Step that terminates the episode.
        truncated_at: Step that truncates it.
        after: Value of what was seen after the truncated step.
        first_of_next: Value of the first state of the next episode.
        one_flag: The fault of (c), both ends count as terminations.
        next_row: The fault of (d), the next row counts as the successor.
    """
    value, next_value = torch.full((4, 1, 1), 10.0), torch.full((4, 1, 1), 10.0)
    terminated, truncated = torch.zeros(4, 1, dtype=torch.bool), torch.zeros(4, 1, dtype=torch.bool)
    if terminated_at is not None:
        terminated[terminated_at] = True
    if truncated_at is not None:
        truncated[truncated_at] = True
        value[truncated_at + 1] = first_of_next
        next_value[truncated_at] = first_of_next if next_row else after
    last = terminated | truncated
    last[-1] = True
    ends = terminated | truncated if one_flag else terminated
    reward = torch.ones(4, 1, 1)
    return generalised_advantage(reward, value, next_value, ends, last, DISCOUNT, DECAY).flatten().tolist()


if __name__ == "__main__":
    print("no end", advantages())
    print("terminated", advantages(terminated_at=1))
    print("truncated", advantages(truncated_at=1))
    print("one flag", advantages(truncated_at=1, one_flag=True))
    print("right", advantages(truncated_at=1, first_of_next=0.0)[1])
    print("next row", advantages(truncated_at=1, first_of_next=0.0, next_row=True)[1])
