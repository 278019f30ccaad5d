"""CommNet: each agent hears the mean of what the others say (Sukhbaatar et al., 2016).

Book: multi_agent/communication.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ca14lib.agents.base import require
from ca14lib.agents.multi_agent.communication import CommunicationConfig, Delivery, TalkingTeam, others
from ca14lib.networks import AgentLinear


@dataclass(frozen=True)
class CommNetConfig(CommunicationConfig):
    rounds: int = 2  # K, rounds of talk per step

    def __post_init__(self) -> None:
        super().__post_init__()
        whole = isinstance(self.rounds, int) and not isinstance(self.rounds, bool) and self.rounds >= 1
        require(whole, "rounds", self.rounds, "a positive integer")


def mean_of_others(messages: Tensor, present: Tensor | None = None) -> Tensor:
    r"""What agent i hears: the mean of :math:`m^j` over the others that are present (book eq. commnet-mean).

    Args:
        messages: ``[…, n, W]``.
        present: ``[…, n]`` bool, or None for all.
    Returns:
        ``[…, n, W]``; zeros for who is alone or has left.
    """
    if present is None:
        return (messages.sum(dim=-2, keepdim=True) - messages) / max(messages.shape[-2] - 1, 1)
    listens = others(messages.shape[-2], present, messages.device).to(messages.dtype)
    return listens @ messages / listens.sum(dim=-1, keepdim=True).clamp(min=1)


class MeanExchange(nn.Module):
    """Messages are linear in what an agent thinks, of W numbers.

    Args:
        hidden_size: Size of h.
        message_size: W.
        num_agents: n.
        shared: One set of parameters for all agents.
    """

    def __init__(self, hidden_size: int, message_size: int, num_agents: int, *, shared: bool) -> None:
        super().__init__()
        self.say = AgentLinear(hidden_size, message_size, num_agents, shared=shared)

    def forward(self, hidden: Tensor, present: Tensor | None, deliver: Delivery) -> tuple[Tensor, Tensor]:
        message = torch.tanh(self.say(hidden))
        return mean_of_others(deliver(message), present), message


class CommNet(TalkingTeam):
    """Rounds of talk in which each agent hears the mean of the others' messages (book eq. commnet-mean)."""

    config_class = CommNetConfig
    config: CommNetConfig

    def _exchange(self, hidden_size: int) -> nn.Module:
        return MeanExchange(hidden_size, self.config.message_size, self.num_agents, shared=self.config.shared)
