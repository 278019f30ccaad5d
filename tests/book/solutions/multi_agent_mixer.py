"""A mixer whose last layer has free signs: how often greedy agents miss the best joint action, and what it learns."""

import torch
from torch import Tensor, nn

from ca14lib.networks.mixers import MonotonicMixer, joint_actions

CLIMBING = torch.tensor([[11.0, -30.0, 0.0], [-30.0, 7.0, 6.0], [0.0, 0.0, 5.0]])


class MixerWithoutTheSecondAbs(MonotonicMixer):
    def weights(self, state: Tensor) -> tuple[Tensor, Tensor]:
        first, _ = super().weights(state)
        return first, self.last_weights(state)


def missed(mixer: MonotonicMixer, actions: int = 3, draws: int = 200, seed: int = 0) -> float:
    """Share of random states and utilities in which greedy agents do not choose the best joint action."""
    generator = torch.Generator().manual_seed(seed)
    utilities = torch.randn(draws, mixer.n_agents, actions, generator=generator)
    states = torch.randn(draws, 2, generator=generator)
    joint = joint_actions(mixer.n_agents, actions)  # [A^n, n]
    chosen = utilities[:, torch.arange(mixer.n_agents), joint]  # [draws, A^n, n]
    with torch.no_grad():
        values = mixer(chosen, states[:, None].expand(-1, len(joint), -1))
        greedy = mixer(utilities.max(dim=-1).values, states)
    return (greedy < values.max(dim=-1).values - 1e-6).float().mean().item()


def mean_missed(mixer_class: type[MonotonicMixer], mixers: int = 50) -> float:
    """The mean of that share over freshly initialised mixers."""
    torch.manual_seed(0)
    return sum(missed(mixer_class(2, 2)) for _ in range(mixers)) / mixers


def fitted_to_climbing(mixer_class: type[MonotonicMixer], seed: int, steps: int = 600) -> tuple[float, float]:
    """Mean squared error of a fit to all cells equally, and the payoff of the greedy joint action."""
    torch.manual_seed(seed)
    mixer = mixer_class(2, 2)
    utilities = nn.Parameter(0.1 * torch.randn(2, 3))
    optimiser = torch.optim.Adam([*mixer.parameters(), utilities], lr=0.02)
    joint, state = joint_actions(2, 3), torch.ones(9, 2)
    for _ in range(steps):
        loss = (mixer(utilities[torch.arange(2), joint], state) - CLIMBING.reshape(-1)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    first, second = utilities.argmax(dim=1).tolist()
    return loss.item(), CLIMBING[first, second].item()


if __name__ == "__main__":
    for mixer_class in (MonotonicMixer, MixerWithoutTheSecondAbs):
        print(mixer_class.__name__, f"misses the best joint action in {mean_missed(mixer_class):.0%}")
        for seed in range(4):
            error, payoff = fitted_to_climbing(mixer_class, seed)
            print(f"  seed {seed}: squared error {error:.1f}, payoff of the greedy joint action {payoff:.0f}")
