"""TarMAC: messages with a signature, listeners with a query (Das et al., 2019). Book: multi_agent/communication."""

from dataclasses import dataclass

import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from ca14lib.agents.base import require
from ca14lib.agents.multi_agent.communication import CommunicationConfig, Delivery, TalkingTeam, others
from ca14lib.networks import AgentLinear


@dataclass(frozen=True)
class TarMACConfig(CommunicationConfig):
    rounds: int = 1  # K, rounds of talk per step
    signature_size: int = 16  # d, size of signatures and queries

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("rounds", "signature_size"):
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
            require(whole, name, value, "a positive integer")


def attention_over_others(query: Tensor, signature: Tensor, present: Tensor | None = None) -> Tensor:
    r"""How much agent i listens to agent j, softmax over :math:`j\ne i` of :math:`q^i\cdot k^j/\sqrt d`.

    Book eq. tarmac-attention.

    Args:
        query: ``[…, n, d]`` of the listeners.
        signature: ``[…, n, d]`` of the messages.
        present: ``[…, n]`` bool, or None for all.
    Returns:
        ``[…, n, n]``, rows sum to 1; rows of zeros for who is alone or has left.
    """
    scores = query @ signature.transpose(-1, -2) / query.shape[-1] ** 0.5
    listens = others(query.shape[-2], present, query.device)
    return scores.masked_fill(~listens, -1e9).softmax(dim=-1) * listens


class AttentionExchange(nn.Module):
    """A message is a signature, which says for whom it is, and a value; listeners weight the values by their queries.

    Args:
        hidden_size: Size of h.
        message_size: W, size of the value.
        signature_size: d.
        num_agents: n.
        shared: One set of parameters for all agents.
    """

    def __init__(
        self, hidden_size: int, message_size: int, signature_size: int, num_agents: int, *, shared: bool
    ) -> None:
        super().__init__()
        self.signature_size = signature_size
        self.say = AgentLinear(hidden_size, signature_size + message_size, num_agents, shared=shared)
        self.ask = AgentLinear(hidden_size, signature_size, num_agents, shared=shared)

    def weights(self, hidden: Tensor, signature: Tensor, present: Tensor | None) -> Tensor:
        """Attention ``[…, n, n]``: row i is how agent i listens."""
        return attention_over_others(self.ask(hidden), signature, present)

    def forward(self, hidden: Tensor, present: Tensor | None, deliver: Delivery) -> tuple[Tensor, Tensor]:
        message = self.say(hidden)
        message = torch.cat([message[..., : self.signature_size], message[..., self.signature_size :].tanh()], dim=-1)
        arrived = deliver(message)
        attention = self.weights(hidden, arrived[..., : self.signature_size], present)
        return attention @ arrived[..., self.signature_size :], message


class TarMAC(TalkingTeam):
    """Rounds of talk in which each agent attends to the others' messages (book eq. tarmac-attention)."""

    config_class = TarMACConfig
    config: TarMACConfig

    def _exchange(self, hidden_size: int) -> nn.Module:
        config = self.config
        return AttentionExchange(
            hidden_size, config.message_size, config.signature_size, self.num_agents, shared=config.shared
        )

    @torch.no_grad()
    def attention(self, observation: ArrayLike, memory: Tensor | None = None) -> NDArray:
        """How agents listen in the first round, ``[N, n, n]``: row i holds the weights of agent i.

        Args:
            observation: ``[N, n, …]``.
            memory: ``[N, n, M]`` of teams with memory.
        """
        inputs, memory, _ = self._checked(observation, memory, None)
        look, exchange = self.policy.look, self.policy.exchange
        hidden = look.body(inputs)  # type: ignore[operator, union-attr]
        if look.gru is not None:  # type: ignore[union-attr]
            hidden = look.gru(hidden, memory)  # type: ignore[operator, union-attr]
        signature = self._deliver(exchange.say(hidden))[..., : self.config.signature_size]  # type: ignore[operator, union-attr]
        return exchange.weights(hidden, signature, self._present(inputs)).cpu().numpy()  # type: ignore[operator, union-attr]
