"""Mixers: the value of a team from the utilities of its agents. Book: multi_agent/value_decomposition."""

import torch
from torch import Tensor, nn


class SumMixer(nn.Module):
    r"""The sum of the utilities, :math:`Q_{tot} = \sum_i Q^i` (book eq. vdn-sum); it has no parameters."""

    def forward(self, agent_qs: Tensor, state: Tensor) -> Tensor:
        """Values of the team ``[…]``, from utilities ``[…, n]``; the state is not looked at."""
        return agent_qs.sum(dim=-1)


class MonotonicMixer(nn.Module):
    r"""A network of one hidden layer whose weights are computed from the state and never negative (QMIX).

    :math:`Q_{tot} = |W_2(s)|^\top \mathrm{ELU}(|W_1(s)|^\top q + b_1(s)) + V(s)` (book eq. qmix-mixer), so that the
    value of the team never falls when an agent's utility rises (book eq. monotonic-mixing).

    Args:
        n_agents: n.
        state_dim: d, size of the state.
        embed_dim: Width of the hidden layer.
        hypernet_hidden: Width of the hidden layers of the two networks that make the weights.

    Raises:
        ValueError: If a size is not a positive integer.
    """

    def __init__(self, n_agents: int, state_dim: int, embed_dim: int = 32, hypernet_hidden: int = 64) -> None:
        super().__init__()
        sizes = {"n_agents": n_agents, "state_dim": state_dim, "embed_dim": embed_dim}
        for name, size in (sizes | {"hypernet_hidden": hypernet_hidden}).items():
            if isinstance(size, bool) or not isinstance(size, int) or size < 1:
                raise ValueError(f"{name} must be a positive integer, got {size!r}")
        self.n_agents, self.embed_dim = n_agents, embed_dim
        self.first_weights = _two_layers(state_dim, hypernet_hidden, n_agents * embed_dim)
        self.first_bias = nn.Linear(state_dim, embed_dim)
        self.last_weights = _two_layers(state_dim, hypernet_hidden, embed_dim)
        self.last_bias = _two_layers(state_dim, embed_dim, 1)  # V(s)

    def forward(self, agent_qs: Tensor, state: Tensor) -> Tensor:
        """Values of the team.

        Args:
            agent_qs: ``[…, n]``, the utility of every agent's action.
            state: ``[…, d]``.
        Returns:
            ``[…]``.
        Raises:
            ValueError: If the number of agents is another one.
        """
        if agent_qs.shape[-1] != self.n_agents:
            raise ValueError(f"agent_qs must have shape [..., {self.n_agents}], got {tuple(agent_qs.shape)}")
        first, last = self.weights(state)
        # an elementwise product and a sum: n is small, and a batched matrix product of one row would be slower
        hidden = nn.functional.elu((agent_qs.unsqueeze(-1) * first).sum(dim=-2) + self.first_bias(state))
        return (hidden * last).sum(dim=-1) + self.last_bias(state).squeeze(-1)

    def weights(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """The weights of the two layers in these states, ``[…, n, E]`` and ``[…, E]``, none of them negative."""
        first = self.first_weights(state).abs()
        return first.reshape(*state.shape[:-1], self.n_agents, self.embed_dim), self.last_weights(state).abs()


def _two_layers(features: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


def joint_actions(num_agents: int, num_actions: int, device: str | torch.device = "cpu") -> Tensor:
    """All joint actions ``[A**n, n]``, the last agent's changing fastest.

    Raises:
        ValueError: If there are more than a million of them.
    """
    if num_actions**num_agents > 1_000_000:
        raise ValueError(f"{num_actions}**{num_agents} joint actions are too many to list; at most a million")
    index = torch.arange(num_actions, device=device)
    return torch.cartesian_prod(*[index] * num_agents).reshape(-1, num_agents)
