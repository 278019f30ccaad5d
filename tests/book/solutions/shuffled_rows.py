"""Thirty sampled actions for each state: an order of rows that mixes states up, and an assertion that notices."""

import torch
from torch import Tensor


def exercise_values(critic, observation: Tensor, actions: Tensor) -> Tensor:
    """As printed in the exercise; ``actions`` is [B, M, D]."""
    batch, samples = actions.shape[:2]
    states = observation.repeat(samples, 1)
    return critic(states, actions.reshape(batch * samples, -1)).reshape(batch, samples)


def mended_values(critic, observation: Tensor, actions: Tensor) -> Tensor:
    batch, samples = actions.shape[:2]
    states = observation.repeat_interleave(samples, dim=0)
    return critic(states, actions.reshape(batch * samples, -1)).reshape(batch, samples)


def rows_belong_to_one_state(values) -> bool:
    """With a critic that returns the state's first number, every row must hold that number throughout."""
    observation, actions = torch.arange(4.0).unsqueeze(1), torch.zeros(4, 30, 1)
    q = values(lambda states, _: states[:, 0], observation, actions)
    return bool((q == observation).all())


def bound_by_batch(values, seed: int = 0) -> float:
    """Largest change of one state's values when the other states of the batch are exchanged."""
    generator = torch.Generator().manual_seed(seed)
    observation, actions = torch.randn(4, 3, generator=generator), torch.randn(4, 30, 2, generator=generator)
    critic = lambda states, action: states.sum(dim=1) * action.sum(dim=1)  # noqa: E731
    other = torch.cat([observation[:1], torch.randn(3, 3, generator=generator)])
    return float((values(critic, observation, actions)[0] - values(critic, other, actions)[0]).abs().max())


if __name__ == "__main__":
    for name, values in (("as printed", exercise_values), ("mended", mended_values)):
        print(f"{name}: rows belong to one state: {rows_belong_to_one_state(values)}, "
              f"influence of other states {bound_by_batch(values):.2f}")  # fmt: skip
