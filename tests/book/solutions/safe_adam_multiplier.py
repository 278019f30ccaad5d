"""A multiplier that climbs by plain steps, and one that climbs with Adam."""

import torch


def updates_until(target: float, violation: float, rate: float, *, adam: bool) -> int:
    """Updates at a constant violation until the multiplier has reached the target."""
    multiplier = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([multiplier], rate) if adam else torch.optim.SGD([multiplier], rate)
    for update in range(1, 1_000_000):
        multiplier.grad = torch.tensor(-violation, dtype=torch.float64)
        optimizer.step()
        if multiplier.item() >= target - 1e-9:
            return update
    raise RuntimeError(f"{target} was not reached")


def overshoot(violation: float, small: float, rate: float, updates: int = 200) -> int:
    """Updates for which Adam's multiplier still rises after a violation has turned into a smaller negative one."""
    multiplier = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([multiplier], rate)
    for _ in range(updates):
        multiplier.grad = torch.tensor(-violation, dtype=torch.float64)
        optimizer.step()
    for update in range(10_000):
        before = multiplier.item()
        multiplier.grad = torch.tensor(small, dtype=torch.float64)
        optimizer.step()
        if multiplier.item() < before:
            return update
    raise RuntimeError("it never fell")


if __name__ == "__main__":
    for violation in (0.05, 0.5, 5.0):
        counts = [updates_until(28.2, violation, 0.05, adam=adam) for adam in (False, True)]
        print(f"violation {violation}: plain {counts[0]}, Adam {counts[1]}")
    print("still rising after the sign changed:", [overshoot(5.0, small, 0.05) for small in (5.0, 0.5, 0.05)])
