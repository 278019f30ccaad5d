"""When does CQL prefer the rarer of two actions? One state, episodes of one step, Q as two numbers."""

import torch

from ca14lib.agents.dqn import td_loss
from ca14lib.agents.offline.cql import conservative_penalty


def preferred_action(rewards: tuple[float, float], counts: tuple[int, int], weight: float) -> int:
    """Minimise the CQL loss on ``counts`` repetitions of each action and return the greedy action."""
    action = torch.repeat_interleave(torch.arange(2), torch.tensor(counts))
    target = torch.tensor(rewards, dtype=torch.float64)[action]
    q = torch.zeros(1, 2, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([q], max_iter=200, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        every = q.expand(len(action), 2)
        value = td_loss(every[torch.arange(len(action)), action], target) + weight * conservative_penalty(every, action)
        value.backward()
        return value

    optimizer.step(loss)
    return int(q.detach().argmax())


if __name__ == "__main__":
    counts, weight = (90, 10), 0.1
    threshold = weight / 2 * (1 / 0.1 - 1 / 0.9)
    for gain in (threshold - 0.01, threshold + 0.01):
        action = preferred_action((0.0, gain), counts, weight)
        print(f"gain {gain:.3f}, threshold {threshold:.3f}: prefers action {action}")
