"""The attention critic of MAAC (Iqbal and Sha, 2019). Book: multi_agent/maac."""

import torch
from torch import Tensor, nn

from ca14lib.networks.agent_networks import AgentLinear


class AgentAttention(nn.Module):
    r"""Every agent's query selects among what the *others* show (book eq. maac-attention).

    Weights are shared by all agents; an agent never attends to itself.

    Args:
        width: Size of the encodings, a multiple of ``heads``.
        heads: Number of attention heads; each reads and writes width / heads numbers.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(f"width must be a multiple of the number of heads, got width {width} and {heads} heads")
        self.heads = heads
        self.query, self.key = (nn.Linear(width, width, bias=False) for _ in range(2))
        self.value = nn.Sequential(nn.Linear(width, width), nn.LeakyReLU())

    def logits(self, asking: Tensor, shown: Tensor) -> Tensor:
        """Scaled products of queries and keys, ``[B, n, n, heads]``, asking agent first; −∞ for itself."""
        query, key = self._split(self.query(asking)).unsqueeze(2), self._split(self.key(shown)).unsqueeze(1)
        products = (query * key).sum(dim=-1) / key.shape[-1] ** 0.5  # teams are small: faster than a batch of products
        itself = torch.eye(products.shape[1], dtype=torch.bool, device=products.device)
        return products.masked_fill(itself.unsqueeze(-1), -torch.inf)

    def forward(self, asking: Tensor, shown: Tensor) -> tuple[Tensor, Tensor]:
        """What each agent learns of the others.

        Args:
            asking: ``[B, n, width]``, encodings of the agents that ask.
            shown: ``[B, n, width]``, encodings that they look at.
        Returns:
            ``[B, n, width]``, zeros for an agent without others, and the logits ``[B, n, n, heads]``.
        """
        logits = self.logits(asking, shown)
        if shown.shape[1] == 1:
            return torch.zeros_like(shown), logits
        weight, value = logits.softmax(dim=2), self._split(self.value(shown))
        return (weight.unsqueeze(-1) * value.unsqueeze(1)).sum(dim=2).flatten(-2), logits

    def _split(self, encoding: Tensor) -> Tensor:
        """``[B, n, width]`` as ``[B, n, heads, width / heads]``."""
        return encoding.unflatten(-1, (self.heads, -1))


class AttentionCritic(nn.Module):
    r"""Values of all own actions of every agent, given what the others see and do (book eq. maac-critic).

    Args:
        features: F, size of one agent's observation.
        num_actions: A.
        num_agents: n.
        width: Size of encodings and hidden layers, a multiple of ``heads``.
        heads: Number of attention heads.
        shared: One encoder and one head for all agents; otherwise each has its own, and only the attention is shared.
        identity: With shared encoders, give every agent a bias of its own in the first layers.
        layer_norm: Normalise encodings and hidden layer before their activation.
    """

    def __init__(
        self, features: int, num_actions: int, num_agents: int, width: int, heads: int = 4, *,
        shared: bool = True, identity: bool = True, layer_norm: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()

        def layer(inputs: int, *, first: bool) -> nn.Sequential:
            linear = AgentLinear(inputs, width, num_agents, shared=shared, identity=identity and first)
            norm = [nn.LayerNorm(width, elementwise_affine=False)] if layer_norm else []
            return nn.Sequential(linear, *norm, nn.LeakyReLU())

        self.own_encoder = layer(features, first=True)
        self.pair_encoder = layer(features + num_actions, first=True)
        self.attention = AgentAttention(width, heads)
        self.hidden = layer(2 * width, first=False)
        self.head = AgentLinear(width, num_actions, num_agents, shared=shared)

    def forward(self, observation: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Values of all own actions.

        Args:
            observation: ``[B, n, F]``.
            action: ``[B, n, A]`` one-hot; agent i's values depend on the others' alone.
        Returns:
            ``[B, n, A]``, and the attention's logits ``[B, n, n, heads]``.
        """
        own = self.own_encoder(observation)
        pair = self.pair_encoder(torch.cat([observation, action], dim=-1))
        read, logits = self.attention(own, pair)
        return self.head(self.hidden(torch.cat([own, read], dim=-1))), logits
